// AdamW in one loop over memory, with float32 states and with 8-bit states. The arithmetic is the reference's.
import { DYNAMIC_BLOCK, type DynamicCode, signedCode, unsignedCode } from "../dynamic-code.ts";
import { f32View, view } from "../host-views.ts";
import type { AdamWOptions, Kernels, Operand } from "../kernels.ts";
import { asFloat32 } from "./cast.ts";
import type { CpuContext } from "./context.ts";

function adamw(
  ctx: CpuContext,
  parameter: Operand,
  gradient: Operand,
  m: Operand,
  v: Operand,
  options: AdamWOptions,
): void {
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradientScale } = options;
  using wide = asFloat32(ctx, gradient);
  const [p, g, first, second] = [f32View(parameter), f32View(wide.operand), f32View(m), f32View(v)];
  const rate = learningRate / (1 - beta1 ** step);
  const root = Math.sqrt(1 - beta2 ** step);
  const keep = 1 - learningRate * weightDecay;
  for (let i = 0; i < p.length; i++) {
    const slope = g[i]! * gradientScale;
    const mean = beta1 * first[i]! + (1 - beta1) * slope;
    const square = beta2 * second[i]! + (1 - beta2) * slope * slope;
    p[i] = p[i]! * keep - (rate * mean) / (Math.sqrt(square) / root + eps);
    first[i] = mean;
    second[i] = square;
  }
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
