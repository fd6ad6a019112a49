// What every kernel asks of its operands, on every device alike: shapes, dtypes, bounds, runs. No values are read.
// Codes: kernel.shape, shape.broadcast, kernel.dtype, kernel.out-of-block, kernel.runs, kernel.option. A device that supports less says so itself.
import { bytesOf, type DType, dtypes } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { broadcastShape, elementCount, rowCount, type Shape, sameShape, shapeText } from "../base/shape.ts";
import type {
  ConvolutionOptions,
  Epilogue,
  Kernels,
  LinearWeight,
  ModulatedNorm,
  Operand,
  RowRuns,
} from "./kernels.ts";

type Checks = { readonly [K in keyof Kernels]: (...args: Parameters<Kernels[K]>) => void };

function fail(code: string, what: string, expected: string, actual: string): never {
  throw new KinoraError(code, what, { expected, actual });
}

/** Rows of a matrix with any leading shape, and the size of the last axis. */
export const rowsOf = ({ shape }: Operand): number => rowCount(shape);
export const lastOf = (operand: Operand): number => operand.shape.at(-1) ?? 1;

/** Inside its block, at a whole element. */
function placed(what: string, operand: Operand): void {
  const { block, offset, shape } = operand;
  const size = bytesOf(operand.dtype);
  let count = 1;
  for (const extent of shape) {
    if (!Number.isInteger(extent) || extent < 0) {
      fail("kernel.shape", `${what} has an impossible shape`, "whole sizes", shapeText(shape));
    }
    count *= extent;
  }
  if (offset < 0 || offset % size !== 0) {
    fail("kernel.out-of-block", `${what} starts inside an element`, `a multiple of ${size}`, String(offset));
  }
  const end = offset + count * size;
  if (end > block.size) {
    fail("kernel.out-of-block", `${what} reaches beyond its block`, `≤ ${block.size} bytes`, `${end}`);
  }
}

function shaped(what: string, operand: Operand, shape: Shape): void {
  placed(what, operand);
  if (!sameShape(operand.shape, shape)) {
    fail("kernel.shape", `${what} has the wrong shape`, shapeText(shape), shapeText(operand.shape));
  }
}

function ranked(what: string, operand: Operand, rank: number): void {
  placed(what, operand);
  if (operand.shape.length !== rank) {
    fail("kernel.shape", `${what} has the wrong number of axes`, String(rank), shapeText(operand.shape));
  }
}

/** The last axis must be there. */
function matrix(what: string, operand: Operand, columns: number, rows: number): void {
  placed(what, operand);
  if (operand.shape.length === 0 || lastOf(operand) !== columns || rowsOf(operand) !== rows) {
    fail("kernel.shape", `${what} has the wrong shape`, `${rows} rows of ${columns}`, shapeText(operand.shape));
  }
}

function counted(what: string, operand: Operand, count: number): void {
  placed(what, operand);
  if (elementCount(operand.shape) !== count) {
    fail("kernel.shape", `${what} has the wrong number of elements`, String(count), shapeText(operand.shape));
  }
}

function typed(what: string, operand: Operand, ...allowed: DType[]): void {
  if (!allowed.includes(operand.dtype)) {
    fail("kernel.dtype", `${what} has the wrong dtype`, allowed.join(" or "), operand.dtype);
  }
}

function floating(what: string, ...operands: Operand[]): void {
  for (const operand of operands) {
    if (!dtypes[operand.dtype].floating) {
      fail("kernel.dtype", `${what} has the wrong dtype`, "a float dtype", operand.dtype);
    }
  }
}

function runsCover(what: string, runs: RowRuns, rows: number, tableRows: number): void {
  let next = 0;
  for (const { start, count, row } of runs) {
    if (start !== next || count < 0 || !Number.isInteger(row) || row < 0 || row >= tableRows) {
      fail(
        "kernel.runs",
        `${what}: runs must follow each other and name rows of the table`,
        `a run from ${next}, row < ${tableRows}`,
        `from ${start}, row ${row}`,
      );
    }
    next += count;
  }
  if (next !== rows) fail("kernel.runs", `${what}: runs must cover all rows`, String(rows), String(next));
}

/** A float32 table [R, C] and the runs that name its rows. */
function tabled(what: string, table: Operand, runs: RowRuns, rows: number, columns: number): void {
  ranked(what, table, 2);
  shaped(what, table, [table.shape[0]!, columns]);
  typed(what, table, "f32");
  runsCover(what, runs, rows, table.shape[0]!);
}

function epilogue(kernel: string, out: Operand, options: Epilogue | undefined): void {
  if (options === undefined) return;
  const columns = lastOf(out);
  const rows = rowsOf(out);
  if (options.bias) {
    shaped(`${kernel} bias`, options.bias, [columns]);
    floating(`${kernel} bias`, options.bias);
  }
  if (options.gate) tabled(`${kernel} gate`, options.gate.table, options.gate.runs, rows, columns);
  if (options.residual) {
    matrix(`${kernel} residual`, options.residual, columns, rows);
    floating(`${kernel} residual`, options.residual);
  }
}

function scaleFits(what: string, scale: Operand, shape: Shape): void {
  placed(what, scale);
  typed(what, scale, "f32");
  const rows = shape[0] ?? 1;
  const columns = elementCount(shape.slice(1));
  const blocks = scale.shape[1] ?? 1;
  const perTensor = scale.shape.length <= 1 && elementCount(scale.shape) === 1;
  const perChannel = sameShape(scale.shape, [rows, 1]);
  const perBlock = sameShape(scale.shape, [rows, blocks, 1]) && blocks > 0 && columns % blocks === 0;
  if (!perTensor && !perChannel && !perBlock) {
    fail(
      "kernel.shape",
      `${what} fits no granularity`,
      `[1], [${rows}, 1] or [${rows}, ${columns}/b, 1]`,
      shapeText(scale.shape),
    );
  }
}

function weightFits(kernel: string, weight: LinearWeight): void {
  const { plain, packed, scale, shape } = weight;
  if ((plain === undefined) === (packed === undefined)) {
    fail("kernel.option", `${kernel} weight has one form`, "plain or packed", plain ? "both" : "neither");
  }
  if (plain) {
    shaped(`${kernel} weight`, plain, shape);
    typed(`${kernel} weight`, plain, weight.dtype);
    if (plain.dtype !== "i8") floating(`${kernel} weight`, plain);
  }
  if (scale) scaleFits(`${kernel} weight scale`, scale, shape);
}

function attentionShapes(
  kernel: string,
  q: Operand,
  k: Operand,
  v: Operand,
  options: { keyLengths?: readonly number[]; bias?: Operand },
): void {
  ranked(`${kernel} q`, q, 4);
  ranked(`${kernel} k`, k, 4);
  const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  shaped(`${kernel} k`, k, [batch, keys, heads, depth]);
  shaped(`${kernel} v`, v, [batch, keys, heads, depth]);
  floating(`${kernel} q, k or v`, q, k, v);
  const lengths = options.keyLengths;
  if (lengths && (lengths.length !== batch || lengths.some((n) => !Number.isInteger(n) || n < 0 || n > keys))) {
    fail("kernel.option", `${kernel} keyLengths`, `${batch} lengths up to ${keys}`, shapeText(lengths));
  }
  if (options.bias) {
    shaped(`${kernel} bias`, options.bias, [heads, queries, keys]);
    typed(`${kernel} bias`, options.bias, "f32");
  }
}

/** A gradient like `like`, if asked for. */
function gradient(what: string, operand: Operand | undefined, shape: Shape): void {
  if (!operand) return;
  shaped(what, operand, shape);
  floating(what, operand);
}

function float32(what: string, operand: Operand | undefined, shape: Shape): void {
  if (!operand) return;
  shaped(what, operand, shape);
  typed(what, operand, "f32");
}

/** Same shape and float dtypes: what most elementwise kernels ask. */
function alike(kernel: string, first: Operand, ...others: Operand[]): void {
  placed(kernel, first);
  for (const other of others) shaped(kernel, other, first.shape);
  floating(kernel, first, ...others);
}

function normOptions(kernel: string, x: Operand, options: ModulatedNorm): void {
  const { weight, bias, modulation } = options;
  const columns = lastOf(x);
  if (modulation && (weight || bias)) {
    fail("kernel.option", `${kernel} takes an affine form or a modulation`, "one of them", "both");
  }
  gradient(`${kernel} weight`, weight, [columns]);
  gradient(`${kernel} bias`, bias, [columns]);
  if (modulation) {
    tabled(`${kernel} scale`, modulation.scale, modulation.runs, rowsOf(x), columns);
    shaped(`${kernel} shift`, modulation.shift, modulation.scale.shape);
    typed(`${kernel} shift`, modulation.shift, "f32");
  }
}

function convolution(kernel: string, x: Operand, weight: Operand, out: Operand, options: ConvolutionOptions): void {
  ranked(`${kernel} x`, x, 5);
  ranked(`${kernel} weight`, weight, 5);
  const [batch, , , , channels] = x.shape as [number, number, number, number, number];
  shaped(`${kernel} weight`, weight, [weight.shape[0]!, channels, ...weight.shape.slice(2)]);
  const sizes = [0, 1, 2].map((axis) => {
    const [before, after] = options.padding[axis]!;
    const stride = options.stride[axis]!;
    if (before < 0 || after < 0 || stride < 1) {
      fail(
        "kernel.option",
        `${kernel} strides and padding`,
        "stride ≥ 1, padding ≥ 0",
        `${stride}, ${before}, ${after}`,
      );
    }
    return Math.max(0, Math.floor((x.shape[1 + axis]! + before + after - weight.shape[2 + axis]!) / stride) + 1);
  });
  shaped(`${kernel} out`, out, [batch, ...sizes, weight.shape[0]!]);
  floating(`${kernel} operands`, x, weight, out);
}

function windowInside(
  what: string,
  window: { operand: Operand; offset: number; strides: readonly number[] },
  extent: Shape,
): void {
  placed(what, window.operand);
  if (window.strides.length !== extent.length) {
    fail("kernel.shape", `${what} needs a stride per axis`, String(extent.length), shapeText(window.strides));
  }
  if (elementCount(extent) === 0) return;
  let first = window.offset;
  let last = window.offset;
  for (const [axis, stride] of window.strides.entries()) {
    const reach = (extent[axis]! - 1) * stride;
    if (reach < 0) first += reach;
    else last += reach;
  }
  const count = elementCount(window.operand.shape);
  if (first < 0 || last >= count) {
    fail(
      "kernel.out-of-block",
      `${what} window reaches beyond its operand`,
      `0 to ${count - 1}`,
      `${first} to ${last}`,
    );
  }
}

function optimizerStep(parameter: Operand, gradientOperand: Operand, step: number): void {
  placed("adamw parameter", parameter);
  typed("adamw parameter", parameter, "f32");
  counted("adamw gradient", gradientOperand, elementCount(parameter.shape));
  floating("adamw gradient", gradientOperand);
  if (!Number.isInteger(step) || step < 1) fail("kernel.option", "adamw step", "a whole number from 1", String(step));
}

const checks: Checks = {
  matmul(a, b, out, options = {}) {
    const rank = Math.max(2, out.shape.length);
    ranked("matmul a", a, rank);
    ranked("matmul b", b, rank);
    ranked("matmul out", out, rank);
    const lead = out.shape.slice(0, -2);
    const [rows, columns] = out.shape.slice(-2) as [number, number];
    const inner = a.shape.at(options.transposeA ? -2 : -1)!;
    shaped("matmul a", a, [...lead, ...(options.transposeA ? [inner, rows] : [rows, inner])]);
    shaped("matmul b", b, [...lead, ...(options.transposeB ? [columns, inner] : [inner, columns])]);
    floating("matmul operands", a, b, out);
    epilogue("matmul", out, options);
  },
  linear(x, weight, out, options) {
    weightFits("linear", weight);
    const [outputs, inputs] = weight.shape;
    matrix("linear x", x, inputs, rowsOf(x));
    matrix("linear out", out, outputs, rowsOf(x));
    floating("linear operands", x, out);
    epilogue("linear", out, options);
  },
  linearBackwardData(dy, weight, dx) {
    weightFits("linearBackwardData", weight);
    const [outputs, inputs] = weight.shape;
    matrix("linearBackwardData dy", dy, outputs, rowsOf(dy));
    matrix("linearBackwardData dx", dx, inputs, rowsOf(dy));
    floating("linearBackwardData operands", dy, dx);
  },
  packWeight(plain) {
    ranked("packWeight plain", plain, 2);
  },
  unpackWeight(_packed, out) {
    ranked("unpackWeight out", out, 2);
    floating("unpackWeight out", out);
  },
  attention(q, k, v, out, options, logSumExp) {
    attentionShapes("attention", q, k, v, options);
    shaped("attention out", out, q.shape);
    floating("attention out", out);
    const [batch, queries, heads] = q.shape as [number, number, number];
    float32("attention logSumExp", logSumExp, [batch, heads, queries]);
  },
  attentionBackward({ q, k, v, out, logSumExp, dout }, options, { dq, dk, dv }) {
    attentionShapes("attentionBackward", q, k, v, options);
    const [batch, queries, heads] = q.shape as [number, number, number];
    float32("attentionBackward logSumExp", logSumExp, [batch, heads, queries]);
    gradient("attentionBackward out", out, q.shape);
    gradient("attentionBackward dout", dout, q.shape);
    gradient("attentionBackward dq", dq, q.shape);
    gradient("attentionBackward dk", dk, k.shape);
    gradient("attentionBackward dv", dv, v.shape);
  },
  layerNorm(x, out, options) {
    alike("layerNorm", x, out);
    normOptions("layerNorm", x, options);
  },
  layerNormBackward(x, dy, options, { dx, dweight, dbias, dscale, dshift }) {
    alike("layerNormBackward", x, dy, ...(dx ? [dx] : []));
    normOptions("layerNormBackward", x, options);
    const columns = lastOf(x);
    const table = options.modulation?.scale.shape;
    if ((dscale || dshift) && !table)
      fail("kernel.option", "layerNormBackward dscale and dshift", "a modulation", "none");
    float32("layerNormBackward dweight", dweight, [columns]);
    float32("layerNormBackward dbias", dbias, [columns]);
    float32("layerNormBackward dscale", dscale, table ?? []);
    float32("layerNormBackward dshift", dshift, table ?? []);
  },
  rmsNorm(x, weight, out) {
    alike("rmsNorm", x, out);
    gradient("rmsNorm weight", weight, [lastOf(x)]);
  },
  rmsNormBackward(x, weight, dy, _options, { dx, dweight }) {
    alike("rmsNormBackward", x, dy, ...(dx ? [dx] : []));
    gradient("rmsNormBackward weight", weight, [lastOf(x)]);
    float32("rmsNormBackward dweight", dweight, [lastOf(x)]);
  },
  rope(x, table, out) {
    ranked("rope x", x, 4);
    alike("rope", x, out);
    ranked("rope cos", table.cos, 2);
    float32("rope cos", table.cos, [table.cos.shape[0]!, x.shape[3]! / 2]);
    float32("rope sin", table.sin, table.cos.shape);
  },
  activation: (_kind, x, out) => alike("activation", x, out),
  activationBackward: (_kind, x, dy, dx) => alike("activationBackward", x, dy, dx),
  gatedAdd(x, y, table, runs, out) {
    alike("gatedAdd", y);
    for (const other of x ? [x, out] : [out]) matrix("gatedAdd x or out", other, lastOf(y), rowsOf(y));
    floating("gatedAdd operands", out, ...(x ? [x] : []));
    tabled("gatedAdd table", table, runs, rowsOf(y), lastOf(y));
  },
  sumRuns(a, b, runs, out) {
    alike("sumRuns", a);
    if (b) matrix("sumRuns b", b, lastOf(a), rowsOf(a));
    floating("sumRuns operands", ...(b ? [b] : []));
    tabled("sumRuns out", out, runs, rowsOf(a), lastOf(a));
  },
  conv3d(x, weight, bias, out, options) {
    convolution("conv3d", x, weight, out, options);
    gradient("conv3d bias", bias, [weight.shape[0]!]);
  },
  conv3dBackwardData(dy, weight, dx, options) {
    convolution("conv3dBackwardData", dx, weight, dy, options);
  },
  conv3dBackwardWeights(x, dy, dweight, dbias, options) {
    convolution("conv3dBackwardWeights", x, dweight, dy, options);
    gradient("conv3dBackwardWeights dbias", dbias, [dweight.shape[0]!]);
  },
  binary(_op, a, b, out) {
    placed("binary a", a);
    placed("binary b", b);
    shaped("binary out", out, broadcastShape(a.shape, b.shape));
  },
  affine(a, _alpha, b, _beta, out) {
    alike("affine", a, out, ...(b ? [b] : []));
  },
  clamp: (x, _low, _high, out) => alike("clamp", x, out),
  fill: (out) => placed("fill out", out),
  cast(x, out) {
    placed("cast x", x);
    counted("cast out", out, elementCount(x.shape));
  },
  stridedCopy(source, target, extent, options) {
    windowInside("stridedCopy source", source, extent);
    windowInside("stridedCopy target", target, extent);
    typed("stridedCopy target", target.operand, source.operand.dtype);
    if (options?.accumulate) floating("stridedCopy accumulate", target.operand);
    // Two elements written to one place have no order on a parallel device.
    if (target.strides.some((stride, axis) => stride === 0 && extent[axis]! > 1)) {
      fail("kernel.option", "stridedCopy target", "a stride on each axis (sum reduces)", shapeText(target.strides));
    }
  },
  sum(x, axes, out) {
    placed("sum x", x);
    if (axes.some((axis) => !Number.isInteger(axis) || axis < 0 || axis >= x.shape.length)) {
      fail("kernel.option", "sum axes", `axes of ${shapeText(x.shape)}`, shapeText(axes));
    }
    const shape = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
    shaped("sum out", out, shape);
    floating("sum operands", x, out);
  },
  sumSquares(x, out) {
    placed("sumSquares x", x);
    floating("sumSquares x", x);
    counted("sumSquares out", out, 1);
    typed("sumSquares out", out, "f32");
  },
  softmax(x, out) {
    alike("softmax", x, out);
  },
  softmaxBackward(y, dy, dx) {
    alike("softmaxBackward", y, dy, dx);
  },
  embedding(table, ids, out) {
    ranked("embedding table", table, 2);
    placed("embedding ids", ids);
    typed("embedding ids", ids, "i32");
    shaped("embedding out", out, [...ids.shape, table.shape[1]!]);
    floating("embedding table and out", table, out);
  },
  embeddingBackward(ids, dy, dtable) {
    ranked("embeddingBackward dtable", dtable, 2);
    placed("embeddingBackward ids", ids);
    typed("embeddingBackward ids", ids, "i32");
    shaped("embeddingBackward dy", dy, [...ids.shape, dtable.shape[1]!]);
    floating("embeddingBackward dy and dtable", dy, dtable);
  },
  adamw(parameter, gradientOperand, m, v, options) {
    optimizerStep(parameter, gradientOperand, options.step);
    for (const state of [m, v]) {
      counted("adamw state", state, elementCount(parameter.shape));
      typed("adamw state", state, "f32");
    }
  },
  adamw8bit(parameter, gradientOperand, { m, mScale, v, vScale }, options) {
    optimizerStep(parameter, gradientOperand, options.step);
    const count = elementCount(parameter.shape);
    for (const codes of [m, v]) {
      counted("adamw8bit codes", codes, count);
      typed("adamw8bit codes", codes, "u8");
    }
    for (const scales of [mScale, vScale]) {
      counted("adamw8bit scales", scales, Math.ceil(count / 256));
      typed("adamw8bit scales", scales, "f32");
    }
  },
  normal(out, { offset, stream }) {
    placed("normal out", out);
    typed("normal out", out, "f32");
    if (!Number.isSafeInteger(offset) || offset < 0 || stream !== stream >>> 0) {
      fail(
        "kernel.option",
        "normal stream and offset",
        "a 32-bit number and a whole number from 0",
        `${stream}, ${offset}`,
      );
    }
  },
  quantize(x, data, scale) {
    placed("quantize x", x);
    floating("quantize x", x);
    shaped("quantize data", data, x.shape);
    typed("quantize data", data, "f8e4m3", "f8e5m2", "i8");
    scaleFits("quantize scale", scale, x.shape);
  },
  dequantize(data, scale, out) {
    placed("dequantize data", data);
    typed("dequantize data", data, "f8e4m3", "f8e5m2", "i8");
    shaped("dequantize out", out, data.shape);
    floating("dequantize out", out);
    if (scale) scaleFits("dequantize scale", scale, data.shape);
  },
};

export type KernelName = keyof Kernels;
export const kernelNames = Object.keys(checks) as KernelName[];

/** One kernel as a function of an argument list: what code that treats all kernels alike calls. */
export type AnyKernel = (...args: unknown[]) => unknown;

/** The same kernels, each checking its operands first. */
export function checkedKernels(kernels: Kernels): Kernels {
  const wrap = (name: KernelName): AnyKernel => {
    const check = checks[name] as AnyKernel;
    const kernel = kernels[name] as AnyKernel;
    return (...args) => {
      check(...args);
      return kernel(...args);
    };
  };
  return Object.fromEntries(kernelNames.map((name) => [name, wrap(name)])) as unknown as Kernels;
}
