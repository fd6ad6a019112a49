// What every kernel asks of its operands, on every device alike: shapes, dtypes, bounds, runs. No values are read.
// Codes: kernel.shape, shape.broadcast, kernel.dtype, kernel.out-of-block, kernel.runs, kernel.option. A device that supports
// less says so itself.
import { type BlockFormat, blockBytes } from "../base/block-format.ts";
import { broadcastShape, elementCount, rowCount, type Shape, sameShape } from "../base/shape.ts";
import type {
  ConvolutionOptions,
  Epilogue,
  Kernels,
  LinearWeight,
  ModulatedNorm,
  Operand,
  RowRuns,
} from "./kernels.ts";
import { ask, checkRules, type Rule, type Sizes, type Types } from "./operand-rules.ts";

/** Rows of a matrix with any leading shape, and the size of the last axis. */
export const rowsOf = ({ shape }: Operand): number => rowCount(shape);
export const lastOf = (operand: Operand): number => operand.shape.at(-1) ?? 1;

type Named = Readonly<Record<string, Operand | undefined>>;

/** Operands of one shape. */
function each(shape: Shape | string, operands: Named, types: Types = "float"): Rule[] {
  const rules: Rule[] = [];
  for (const name in operands) rules.push([name, operands[name], shape, types]);
  return rules;
}

const where = (known: Sizes): Rule => ({ known });

/** x as rows: M of them, C wide. */
const rowsAre = (x: Operand): Rule => where({ M: rowsOf(x), C: lastOf(x) });

/** A float32 table [R, C], and the runs that name its rows for the rows of x [.., C]. */
function tabled(name: string, table: Operand, runs: RowRuns, x: Operand): Rule[] {
  const count = table.shape[0] ?? 0;
  let next = 0;
  const wrong = runs.find((run) => {
    const fits = run.start === next && run.count >= 0 && Number.isInteger(run.row) && run.row >= 0 && run.row < count;
    if (fits) next += run.count;
    return !fits;
  });
  const order = `${name}: runs must be consecutive and refer to rows of the table`;
  return [
    [name, table, [count, lastOf(x)], "f32"],
    ...ask(
      !wrong,
      "runs",
      order,
      ["a run from ", next, ", row < ", count],
      wrong ? [wrong.start, ", row ", wrong.row] : "",
    ),
    ...ask(next === rowsOf(x), "runs", `${name}: runs must cover all rows`, rowsOf(x), next),
  ];
}

const epilogue = (out: Operand, { bias, gate, residual }: Epilogue = {}): Rule[] => [
  rowsAre(out),
  ...each("C", { bias }),
  ...each("*M C", { residual }),
  ...(gate ? tabled("gate", gate.table, gate.runs, out) : []),
];

/** One scale for all, for a row, or for a block of a row. */
function scaled(name: string, scale: Operand | undefined, shape: Shape): Rule[] {
  if (!scale) return [];
  const [rows, columns, blocks] = [shape[0] ?? 1, elementCount(shape.slice(1)), scale.shape[1] ?? 1];
  const fits =
    (scale.shape.length <= 1 && elementCount(scale.shape) === 1) ||
    sameShape(scale.shape, [rows, 1]) ||
    (sameShape(scale.shape, [rows, blocks, 1]) && blocks > 0 && columns % blocks === 0);
  const granularities = ["[1], ", [rows, 1], " or [", rows, ", ", columns, "/b, 1]"];
  return [
    ...each(scale.shape, { [name]: scale }, "f32"),
    ...ask(fits, "shape", `${name} fits no granularity`, granularities, scale.shape),
  ];
}

/** Rows of whole blocks, and the shape of their bytes. */
function inBlocks(what: string, blocks: BlockFormat, [rows, columns]: readonly [number, number]) {
  const whole = columns % blocks.elements === 0;
  const rule = ask(whole, "shape", `${what} has rows of whole blocks`, ["multiples of ", blocks.elements], columns);
  return { rule, bytes: [rows, whole ? blockBytes(blocks, columns) : 0] };
}

function weighted({ dtype, plain, packed, scale, blocks, shape }: LinearWeight): Rule[] {
  const coded = blocks && inBlocks("weight", blocks, shape);
  return [
    ...ask(!plain !== !packed, "option", "weight has one form", "plain or packed", plain ? "both" : "neither"),
    ...(coded?.rule ?? []),
    ["weight", plain, coded?.bytes ?? shape, coded ? "u8" : dtype],
    ["weight", dtype === "i8" || coded ? undefined : plain, shape, "float"],
    ...scaled("weight scale", scale, shape),
    where({ N: shape[0], K: shape[1] }),
  ];
}

type Attended = readonly [
  q: Operand,
  k: Operand,
  v: Operand,
  options: { keyLengths?: readonly number[]; bias?: Operand },
];

function attended([q, k, v, { keyLengths, bias }]: Attended): Rule[] {
  const [batch, keys] = [q.shape[0]!, k.shape[1]!];
  const fits = keyLengths?.every((length) => Number.isInteger(length) && length >= 0 && length <= keys) ?? true;
  const told = fits && (keyLengths?.length ?? batch) === batch;
  return [
    ...each("B Q H D", { q }),
    ...each("B K H D", { k, v }),
    ...each("H Q K", { bias }, "f32"),
    ...ask(told, "option", "keyLengths", [batch, " lengths up to ", keys], keyLengths ?? ""),
  ];
}

const normed = (x: Operand, { weight, bias, modulation }: ModulatedNorm): Rule[] => [
  ...ask(!modulation || !(weight || bias), "option", "takes an affine form or a modulation", "one of them", "both"),
  rowsAre(x),
  ...each("C", { weight, bias }),
  ...(modulation ? tabled("scale", modulation.scale, modulation.runs, x) : []),
  ...(modulation ? each(modulation.scale.shape, { shift: modulation.shift }, "f32") : []),
];

function convolved(
  x: Named,
  weight: Named,
  out: Named,
  { stride, padding }: ConvolutionOptions,
  bias: Named = {},
): Rule[] {
  const [input, kernel] = [Object.values(x)[0]!.shape, Object.values(weight)[0]!.shape];
  const sizes = stride.map((step, axis) => {
    const [before, after] = padding[axis]!;
    return Math.max(0, Math.floor((input[1 + axis]! + before + after - kernel[2 + axis]!) / step) + 1);
  });
  const possible = stride.every((step) => step >= 1) && padding.flat().every((amount) => amount >= 0);
  return [
    ...each("B T H W C", x),
    ...each("O C kT kH kW", weight),
    ...each("O", bias),
    ...ask(possible, "option", "strides and padding", "stride ≥ 1, padding ≥ 0", [stride, " and ", padding.flat()]),
    ...each([input[0]!, ...sizes, kernel[0]!], out),
  ];
}

type Window = { operand: Operand; offset: number; strides: readonly number[] };

function inside(name: string, { operand, offset, strides }: Window, extent: Shape): Rule[] {
  const reaches = strides.map((stride, axis) => (extent[axis]! - 1) * stride);
  const first = offset + reaches.reduce((sum, reach) => sum + Math.min(0, reach), 0);
  const last = offset + reaches.reduce((sum, reach) => sum + Math.max(0, reach), 0);
  const end = elementCount(operand.shape) - 1;
  const fits = elementCount(extent) === 0 || (first >= 0 && last <= end);
  return [
    ...each(operand.shape, { [name]: operand }, "any"),
    ...ask(strides.length === extent.length, "shape", `${name} needs a stride per axis`, extent.length, strides),
    ...ask(fits, "out-of-block", `${name} window reaches beyond its operand`, ["0 to ", end], [first, " to ", last]),
  ];
}

const stepped = (parameter: Operand, gradient: Operand, step: number): Rule[] => [
  where({ n: elementCount(parameter.shape), s: Math.ceil(elementCount(parameter.shape) / 256) }),
  ...each("#n", { parameter }, "f32"),
  ...each("#n", { gradient }),
  ...ask(Number.isInteger(step) && step >= 1, "option", "step", "a whole number from 1", step),
];

const narrow: Types = ["f8e4m3", "f8e5m2", "i8"];

/** A row a kernel: what it asks of one call. */
const rules: { readonly [K in keyof Kernels]: (...args: Parameters<Kernels[K]>) => readonly Rule[] } = {
  matmul(a, b, out, options = {}) {
    const [M = 0, N = 0] = out.shape.slice(-2);
    const lead = out.shape.slice(0, -2);
    const K = a.shape.at(options.transposeA ? -2 : -1) ?? 0;
    return [
      ...each(out.shape.length < 2 ? "M N" : out.shape, { out }),
      ...each([...lead, ...(options.transposeA ? [K, M] : [M, K])], { a }),
      ...each([...lead, ...(options.transposeB ? [N, K] : [K, N])], { b }),
      ...epilogue(out, options),
    ];
  },
  linear: (x, weight, out, options) => [
    ...weighted(weight),
    ...each("*M K", { x }),
    ...each("*M N", { out }),
    ...epilogue(out, options),
  ],
  linearBackwardData: (dy, weight, dx) => [...weighted(weight), ...each("*M N", { dy }), ...each("*M K", { dx })],
  packWeight: (plain) => each("N K", { plain }, "any"),
  unpackWeight: (_packed, out) => each("N K", { out }),
  attention: (q, k, v, out, options, logSumExp) => [
    ...attended([q, k, v, options]),
    ...each("B Q H D", { out }),
    ...each("B H Q", { logSumExp }, "f32"),
  ],
  attentionBackward: ({ q, k, v, out, logSumExp, dout }, options, { dq, dk, dv }) => [
    ...attended([q, k, v, options]),
    ...each("B Q H D", { out, dout, dq }),
    ...each("B K H D", { dk, dv }),
    ...each("B H Q", { logSumExp }, "f32"),
  ],
  layerNorm: (x, out, options) => [...each(x.shape, { x, out }), ...normed(x, options)],
  layerNormBackward: (x, dy, options, { dx, dweight, dbias, dscale, dshift }) => [
    ...each(x.shape, { x, dy, dx }),
    ...normed(x, options),
    ...each("C", { dweight, dbias }, "f32"),
    ...ask(!(dscale || dshift) || !!options.modulation, "option", "dscale and dshift", "a modulation", "none"),
    ...each(options.modulation?.scale.shape ?? [], { dscale, dshift }, "f32"),
  ],
  rmsNorm: (x, weight, out) => [...each(x.shape, { x, out }), ...each([lastOf(x)], { weight })],
  rmsNormBackward: (x, weight, dy, _options, { dx, dweight }) => [
    ...each(x.shape, { x, dy, dx }),
    ...each([lastOf(x)], { weight }),
    ...each([lastOf(x)], { dweight }, "f32"),
  ],
  rope: (x, { cos, sin }, out) => [
    ...each("B L H D", { x, out }),
    where({ P: lastOf(x) / 2 }),
    ...each("R P", { cos, sin }, "f32"),
  ],
  activation: (_kind, x, out) => each(x.shape, { x, out }),
  activationBackward: (_kind, x, dy, dx) => each(x.shape, { x, dy, dx }),
  gatedAdd: (x, y, table, runs, out) => [
    ...each(y.shape, { y }),
    rowsAre(y),
    ...each("*M C", { x, out }),
    ...tabled("table", table, runs, y),
  ],
  sumRuns: (a, b, runs, out) => [
    ...each(a.shape, { a }),
    rowsAre(a),
    ...each("*M C", { b }),
    ...tabled("out", out, runs, a),
  ],
  conv3d: (x, weight, bias, out, options) => convolved({ x }, { weight }, { out }, options, { bias }),
  conv3dBackwardData: (dy, weight, dx, options) => convolved({ dx }, { weight }, { dy }, options),
  conv3dBackwardWeights: (x, dy, dweight, dbias, options) => convolved({ x }, { dweight }, { dy }, options, { dbias }),
  binary: (_op, a, b, out) => [
    ...each(a.shape, { a }, "any"),
    ...each(b.shape, { b }, "any"),
    ...each(broadcastShape(a.shape, b.shape), { out }, "any"),
  ],
  affine: (a, _alpha, b, _beta, out) => each(a.shape, { a, b, out }),
  clamp: (x, _low, _high, out) => each(x.shape, { x, out }),
  fill: (out) => each(out.shape, { out }, "any"),
  cast: (x, out) => each("#n", { x, out }, "any"),
  stridedCopy(source, target, extent, options) {
    const { operand, strides } = target;
    // Two elements written to one place have no order on a parallel device.
    const repeated = strides.some((stride, axis) => stride === 0 && extent[axis]! > 1);
    return [
      ...inside("source", source, extent),
      ...inside("target", target, extent),
      ...each(operand.shape, { target: operand }, source.operand.dtype),
      ...(options?.accumulate ? each(operand.shape, { accumulate: operand }) : []),
      ...ask(!repeated, "option", "target", "a stride on each axis (sum reduces)", strides),
    ];
  },
  sum(x, axes, out) {
    const there = axes.every((axis) => Number.isInteger(axis) && axis >= 0 && axis < x.shape.length);
    const summed = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
    return [
      ...each(x.shape, { x }),
      ...ask(there, "option", "axes", ["axes of ", x.shape], axes),
      ...each(summed, { out }),
    ];
  },
  sumSquares: (x, out) => [...each(x.shape, { x }), where({ one: 1 }), ...each("#one", { out }, "f32")],
  softmax: (x, out) => each(x.shape, { x, out }),
  softmaxBackward: (y, dy, dx) => each(y.shape, { y, dy, dx }),
  embedding: (table, ids, out) => [
    ...each("V C", { table }),
    ...each(ids.shape, { ids }, "i32"),
    ...each([...ids.shape, lastOf(table)], { out }),
  ],
  embeddingBackward: (ids, dy, dtable) => [
    ...each("V C", { dtable }),
    ...each(ids.shape, { ids }, "i32"),
    ...each([...ids.shape, lastOf(dtable)], { dy }),
  ],
  adamw: (parameter, gradient, m, v, { step }) => [
    ...stepped(parameter, gradient, step),
    ...each("#n", { m, v }, "f32"),
  ],
  adamw8bit: (parameter, gradient, { m, mScale, v, vScale }, { step }) => [
    ...stepped(parameter, gradient, step),
    ...each("#n", { m, v }, "u8"),
    ...each("#s", { mScale, vScale }, "f32"),
  ],
  normal(out, { offset, stream }) {
    const counts = Number.isSafeInteger(offset) && offset >= 0 && stream === stream >>> 0;
    return [
      ...each(out.shape, { out }, "f32"),
      ...ask(counts, "option", "stream and offset", "a 32-bit number and a whole number from 0", [
        stream,
        " and ",
        offset,
      ]),
    ];
  },
  quantize: (x, data, scale) => [
    ...each(x.shape, { x }),
    ...each(x.shape, { data }, narrow),
    ...scaled("scale", scale, x.shape),
  ],
  dequantize(data, scale, out, blocks) {
    const scales = scaled("scale", scale, out.shape);
    if (!blocks) return [...each(data.shape, { data }, narrow), ...each(data.shape, { out }), ...scales];
    const { rule, bytes } = inBlocks("data", blocks, [1, elementCount(out.shape)]);
    return [...rule, ["data", data, `#${bytes[1]}`, "u8"], ["out", out, out.shape, "float"], ...scales];
  },
};

export type KernelName = keyof Kernels;
export const kernelNames = Object.keys(rules) as KernelName[];

/** One kernel as a function of an argument list: what code that treats all kernels alike calls. */
export type AnyKernel = (...args: unknown[]) => unknown;

/** The same kernels, each checking its operands first. */
export function checkedKernels(kernels: Kernels): Kernels {
  const wrap = (name: KernelName): AnyKernel => {
    const rulesOf = rules[name] as (...args: unknown[]) => readonly Rule[];
    const kernel = kernels[name] as AnyKernel;
    return (...args) => {
      checkRules(name, rulesOf(...args));
      return kernel(...args);
    };
  };
  return Object.fromEntries(kernelNames.map((name) => [name, wrap(name)])) as unknown as Kernels;
}
