// AdamW with float32 states on oneDNN, and with 8-bit states in one loop over memory.
import { elementCount } from "../../base/shape.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { DYNAMIC_BLOCK, type DynamicCode, signedCode, unsignedCode } from "../dynamic-code.ts";
import { f32View, view } from "../host/host-views.ts";
import type { AdamWOptions, Kernels, Operand } from "../kernels.ts";
import { asFloat32 } from "./cast.ts";
import { addressOf, type CpuContext, slice, tensor } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** A second factor or a term: one number, or as many as there are elements. */
interface Term {
  readonly address: number;
  readonly count: number;
}

const multiplied = (operand: Term): PostOperation<Term> => ({ kind: "binary", algorithm: "multiply", operand });
const plus = (operand: Term): PostOperation<Term> => ({ kind: "binary", algorithm: "add", operand });
const rooted: PostOperation<Term> = { kind: "eltwise", algorithm: "sqrt", alpha: 0, beta: 0 };
/** Adds what the target held, so many times. */
const plusTarget = (scale: number): PostOperation<Term> => ({ kind: "sum", scale });

/** target = after(source · or ÷ other), float32 elements; target may be either. */
function pass(
  ctx: CpuContext,
  source: Term,
  algorithm: "multiply" | "divide",
  other: Term,
  target: Term,
  ...after: PostOperation<Term>[]
): void {
  const describe = ({ count }: Term): TensorDescription => tensor("f32", [count]);
  const tensors = { source: describe(source), source1: describe(other), target: describe(target) };
  const post = after.map((item) => (item.kind === "binary" ? { ...item, operand: describe(item.operand) } : item));
  const operands = after.flatMap((item) => (item.kind === "binary" ? item.operand.address : []));
  const addresses = { source: source.address, source1: other.address, target: target.address };
  ctx.run(ctx.dnn.primitive({ kind: "binary", tensors, algorithm }, post), addresses, operands);
}

/**
 * In float32, in passes over a chunk that stays in the cache. What changes from step to step is an operand: a primitive
 * with such a number built in would have to be made anew each time.
 */
function adamw(
  ctx: CpuContext,
  parameter: Operand,
  gradient: Operand,
  m: Operand,
  v: Operand,
  options: AdamWOptions,
): void {
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradientScale } = options;
  using numbers = ctx.temporary("f32", [6]);
  const values = f32View(numbers);
  const number = (index: number, value: number): Term => {
    values[index] = value;
    return { address: addressOf(numbers) + 4 * index, count: 1 };
  };
  const newShare = number(0, (1 - beta1) * gradientScale);
  const newSquareShare = number(1, (1 - beta2) * gradientScale ** 2);
  const correction = number(2, 1 / (1 - beta2 ** step));
  const floor = number(3, eps);
  const rate = number(4, -learningRate / (1 - beta1 ** step));
  const decay = number(5, -learningRate * weightDecay);
  eachRowChunk(0, elementCount(parameter.shape), 1, (start, count) => {
    const term = (operand: Operand): Term => ({ address: addressOf(operand), count });
    const part = (operand: Operand): Operand => slice(operand, start, [count]);
    using wide = asFloat32(ctx, part(gradient));
    using scratch = ctx.temporary("f32", [count]);
    const [g, change] = [term(wide.operand), term(scratch)];
    const [p, mean, square] = [term(part(parameter)), term(part(m)), term(part(v))];
    pass(ctx, g, "multiply", newShare, mean, plusTarget(beta1));
    pass(ctx, g, "multiply", g, square, multiplied(newSquareShare), plusTarget(beta2));
    pass(ctx, square, "multiply", correction, change, rooted, plus(floor));
    pass(ctx, mean, "divide", change, change, multiplied(rate));
    // The two changes are far smaller than p: added to each other first.
    pass(ctx, p, "multiply", decay, p, plus(change), plusTarget(1));
  });
}

/** Finds the nearest value of a code: a table by the upper half of a float32 comes close, a step or two remain. */
function quickNearest({ values, nearest }: DynamicCode): (x: number) => number {
  const midpoints = Float64Array.from({ length: values.length - 1 }, (_, i) => (values[i]! + values[i + 1]!) / 2);
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  const guess = Uint8Array.from({ length: 65_536 }, (_, upper) => {
    // The end of the pattern's interval nearer to −∞, so that the walk below only ever goes up.
    bits[0] = upper & 0x8000 ? (upper << 16) | 0xffff : upper << 16;
    return Number.isNaN(float[0]!) ? 0 : nearest(float[0]!);
  });
  return (x) => {
    float[0] = x;
    let code = guess[bits[0]! >>> 16]!;
    while (code < midpoints.length && x > midpoints[code]!) code++;
    // float32 rounding may have moved x up into the next interval.
    while (code > 0 && x <= midpoints[code - 1]!) code--;
    return code;
  };
}

function adamw8bit(
  ctx: CpuContext,
  parameter: Operand,
  gradient: Operand,
  state: Parameters<Kernels["adamw8bit"]>[2],
  options: AdamWOptions,
): void {
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradientScale } = options;
  using wide = asFloat32(ctx, gradient);
  const [p, g] = [f32View(parameter), f32View(wide.operand)];
  const [mCodes, vCodes] = [view(state.m) as Uint8Array, view(state.v) as Uint8Array];
  const [mScales, vScales] = [f32View(state.mScale), f32View(state.vScale)];
  const [nearestMean, nearestSquare] = nearestCodes();
  const rate = learningRate / (1 - beta1 ** step);
  const root = Math.sqrt(1 - beta2 ** step);
  const keep = 1 - learningRate * weightDecay;
  const means = new Float64Array(DYNAMIC_BLOCK);
  const squares = new Float64Array(DYNAMIC_BLOCK);
  for (let block = 0; block < mScales.length; block++) {
    const start = block * DYNAMIC_BLOCK;
    const count = Math.min(DYNAMIC_BLOCK, p.length - start);
    const [mScale, vScale] = [mScales[block]!, vScales[block]!];
    let topMean = 0;
    let topSquare = 0;
    for (let i = 0; i < count; i++) {
      const at = start + i;
      const slope = g[at]! * gradientScale;
      const mean = beta1 * signedCode.values[mCodes[at]!]! * mScale + (1 - beta1) * slope;
      const square = beta2 * unsignedCode.values[vCodes[at]!]! * vScale + (1 - beta2) * slope * slope;
      p[at] = p[at]! * keep - (rate * mean) / (Math.sqrt(square) / root + eps);
      means[i] = mean;
      squares[i] = square;
      if (Math.abs(mean) > topMean) topMean = Math.abs(mean);
      if (square > topSquare) topSquare = square;
    }
    mScales[block] = topMean;
    vScales[block] = topSquare;
    const meanUnit = topMean === 0 ? 1 : topMean;
    const squareUnit = topSquare === 0 ? 1 : topSquare;
    for (let i = 0; i < count; i++) {
      const mean = means[i]! / meanUnit;
      const code = nearestMean(mean);
      // A first moment never loses its sign to rounding (see firstMomentCode).
      mCodes[start + i] = mean < 0 && signedCode.values[code]! >= 0 ? code - 1 : code;
      vCodes[start + i] = nearestSquare(squares[i]! / squareUnit);
    }
  }
}

let codes: readonly [(x: number) => number, (x: number) => number] | undefined;
function nearestCodes(): readonly [mean: (x: number) => number, square: (x: number) => number] {
  codes ??= [quickNearest(signedCode), quickNearest(unsignedCode)];
  return codes;
}

export const optimizerKernels = (ctx: CpuContext) =>
  ({
    adamw: (parameter, gradient, m, v, options) => adamw(ctx, parameter, gradient, m, v, options),
    adamw8bit: (parameter, gradient, state, options) => adamw8bit(ctx, parameter, gradient, state, options),
  }) satisfies Partial<Kernels>;
