// Convolution on oneDNN, channels last. Weights are brought into the layout the primitive chooses on each call: at video
// sizes that costs under 2 % of the product, and a kept copy would have to know when its weight changes.
// One Zen 4 core gives 115 GFLOP/s in float32 and 232 in bf16 from 3 to 1,024 input channels, which is what its matrix
// products give.
import { elementCount, rowMajorStrides } from "../../base/shape.ts";
import type { Primitive } from "../../ffi/onednn.ts";
import type { Operation, TensorDescription, TensorName } from "../../ffi/onednn-operations.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import type { ConvolutionOptions, Kernels, LinearWeight, Operand } from "../kernels.ts";
import { convolutionKernels as reference } from "../reference/convolution.ts";
import { clear } from "./attention.ts";
import { asFloat32, converted, float32Result, Result } from "./cast.ts";
import { addressOf, type CpuContext, slice, tensor } from "./context.ts";
import { sumRuns } from "./modulation.ts";
import { linear, linearBackwardData, matmul } from "./products.ts";

type Fast = "f32" | "bf16";
type Five = readonly [number, number, number, number, number];

/** oneDNN's order of axes, [B, C, T, H, W], over channels-last memory. */
function channelsLast(dtype: Fast, shape: readonly number[]): TensorDescription {
  const [batch, frames, height, width, channels] = shape as Five;
  const [b, t, h, w, c] = rowMajorStrides(shape) as unknown as Five;
  return { dtype, dims: [batch, channels, frames, height, width], strides: [b, c, t, h, w] };
}

const anyLayout = (dtype: Fast, shape: readonly number[]): TensorDescription => ({
  dtype,
  dims: shape,
  strides: "any",
});

function windowOf({ stride, padding }: ConvolutionOptions) {
  return {
    strides: stride,
    paddingBefore: padding.map(([before]) => before),
    paddingAfter: padding.map(([, after]) => after),
  };
}

/** Runs a primitive with a plain weight brought into the layout it chose. */
function runWithWeight(
  ctx: CpuContext,
  primitive: Primitive,
  weight: Operand,
  addresses: Partial<Record<TensorName, number>>,
): void {
  const layout = ctx.dnn.layoutOf(primitive, "weights", 5);
  const source = tensor(weight.dtype as Fast, weight.shape);
  using packed = ctx.temporary("u8", [layout.bytes]);
  const pack = ctx.dnn.primitive({ kind: "reorder", tensors: { source, target: { ...source, strides: layout } } });
  ctx.run(pack, { source: addressOf(weight), target: addressOf(packed) });
  ctx.run(primitive, { ...addresses, weights: addressOf(packed) });
}

/** `out` where the product can be stored as its dtype, else a float32 place that `store` rounds from. */
function resultIn(ctx: CpuContext, out: Operand, compute: Fast) {
  return out.dtype === compute ? new Result(ctx, out) : float32Result(ctx, out);
}

/** Whether some outputs see nothing but padding. No model asks for that, and oneDNN 3.6 crashes on it. */
const paddingOnly = (weight: Operand, { padding }: ConvolutionOptions): boolean =>
  padding.some((sides, axis) => Math.max(...sides) >= Math.max(1, weight.shape[2 + axis]!));

/** Whether the convolution only mixes channels. Then it is a matrix product (and oneDNN 2.6 gets its bf16 gradients wrong). */
const pointwise = (weight: Operand, { stride, padding }: ConvolutionOptions): boolean =>
  [...weight.shape.slice(2), ...stride].every((size) => size === 1) && padding.flat().every((size) => size === 0);

/** A pointwise weight [Co, Ci, 1, 1, 1] as a Linear's. */
function asLinear(weight: Operand): LinearWeight {
  const shape = [weight.shape[0]!, weight.shape[1]!] as const;
  return { dtype: weight.dtype, shape, plain: slice(weight, 0, shape) };
}

function conv3d(
  ctx: CpuContext,
  x: Operand,
  weight: Operand,
  bias: Operand | undefined,
  out: Operand,
  options: ConvolutionOptions,
): void {
  if (elementCount(out.shape) === 0) return;
  if (pointwise(weight, options)) {
    linear(ctx, x, asLinear(weight), out, { bias });
    return;
  }
  // One channel: oneDNN 3.6 takes the layouts with channels first and last for each other, and errs. No model has it.
  const empty = elementCount(x.shape) === 0 || elementCount(weight.shape) === 0;
  if (empty || lastOf(x) === 1 || paddingOnly(weight, options)) {
    reference.conv3d(x, weight, bias, out, options);
    return;
  }
  const compute: Fast = x.dtype === "bf16" ? "bf16" : "f32";
  using source = converted(ctx, x, compute);
  using weights = converted(ctx, weight, compute);
  using added = bias && asFloat32(ctx, bias);
  using result = resultIn(ctx, out, compute);
  const operation: Operation<TensorDescription> = {
    kind: "convolution",
    tensors: {
      source: channelsLast(compute, x.shape),
      weights: anyLayout(compute, weight.shape),
      ...(added ? { bias: tensor("f32", [weight.shape[0]!]) } : {}),
      target: channelsLast(result.operand.dtype as Fast, out.shape),
    },
    window: windowOf(options),
  };
  runWithWeight(ctx, ctx.dnn.primitive(operation), weights.operand, {
    source: addressOf(source.operand),
    bias: added && addressOf(added.operand),
    target: addressOf(result.operand),
  });
  result.store();
}

function conv3dBackwardData(
  ctx: CpuContext,
  dy: Operand,
  weight: Operand,
  dx: Operand,
  options: ConvolutionOptions,
): void {
  if (elementCount(dx.shape) === 0) return;
  if (elementCount(dy.shape) === 0) {
    clear(dx);
    return;
  }
  if (paddingOnly(weight, options)) {
    reference.conv3dBackwardData(dy, weight, dx, options);
    return;
  }
  if (pointwise(weight, options)) {
    linearBackwardData(ctx, dy, asLinear(weight), dx);
    return;
  }
  const compute: Fast = dy.dtype === "bf16" ? "bf16" : "f32";
  using source = converted(ctx, dy, compute);
  using weights = converted(ctx, weight, compute);
  using result = resultIn(ctx, dx, compute);
  const operation: Operation<TensorDescription> = {
    kind: "convolution-data",
    tensors: {
      diffSource: channelsLast(result.operand.dtype as Fast, dx.shape),
      weights: anyLayout(compute, weight.shape),
      diffTarget: channelsLast(compute, dy.shape),
    },
    window: windowOf(options),
  };
  runWithWeight(ctx, ctx.dnn.primitive(operation), weights.operand, {
    diffTarget: addressOf(source.operand),
    diffSource: addressOf(result.operand),
  });
  result.store();
}

function pointwiseBackwardWeights(
  ctx: CpuContext,
  x: Operand,
  dy: Operand,
  dweight: Operand,
  dbias: Operand | undefined,
): void {
  const rows = rowsOf(x);
  const [outputs, inputs] = [lastOf(dy), lastOf(x)];
  const [left, right] = [slice(dy, 0, [rows, outputs]), slice(x, 0, [rows, inputs])];
  matmul(ctx, left, right, slice(dweight, 0, [outputs, inputs]), { transposeA: true });
  if (!dbias) return;
  using sums = float32Result(ctx, slice(dbias, 0, [1, outputs]));
  sumRuns(ctx, left, undefined, [{ start: 0, count: rows, row: 0 }], sums.operand);
  sums.store();
}

function conv3dBackwardWeights(
  ctx: CpuContext,
  x: Operand,
  dy: Operand,
  dweight: Operand,
  dbias: Operand | undefined,
  options: ConvolutionOptions,
): void {
  if (elementCount(x.shape) === 0 || elementCount(dy.shape) === 0) {
    clear(dweight);
    if (dbias) clear(dbias);
    return;
  }
  if (paddingOnly(dweight, options)) {
    reference.conv3dBackwardWeights(x, dy, dweight, dbias, options);
    return;
  }
  if (pointwise(dweight, options)) {
    pointwiseBackwardWeights(ctx, x, dy, dweight, dbias);
    return;
  }
  // Always in float32: oneDNN's bf16 form (2.6 and 3.2) multiplies uninitialised scratch where rows are short.
  using source = asFloat32(ctx, x);
  using diff = asFloat32(ctx, dy);
  using weights = float32Result(ctx, dweight);
  using biases = dbias && float32Result(ctx, dbias);
  const primitive = ctx.dnn.primitive({
    kind: "convolution-weights",
    tensors: {
      source: channelsLast("f32", x.shape),
      diffWeights: anyLayout("f32", dweight.shape),
      ...(biases ? { diffBias: tensor("f32", [dweight.shape[0]!]) } : {}),
      diffTarget: channelsLast("f32", dy.shape),
    },
    window: windowOf(options),
  });
  const layout = ctx.dnn.layoutOf(primitive, "diffWeights", 5);
  using packed = ctx.temporary("u8", [layout.bytes]);
  ctx.run(primitive, {
    source: addressOf(source.operand),
    diffTarget: addressOf(diff.operand),
    diffWeights: addressOf(packed),
    diffBias: biases && addressOf(biases.operand),
  });
  const target = tensor("f32", dweight.shape);
  const unpack = ctx.dnn.primitive({ kind: "reorder", tensors: { source: { ...target, strides: layout }, target } });
  ctx.run(unpack, { source: addressOf(packed), target: addressOf(weights.operand) });
  weights.store();
  biases?.store();
}

export const convolutionKernels = (ctx: CpuContext) =>
  ({
    conv3d: (x, weight, bias, out, options) => conv3d(ctx, x, weight, bias, out, options),
    conv3dBackwardData: (dy, weight, dx, options) => conv3dBackwardData(ctx, dy, weight, dx, options),
    conv3dBackwardWeights: (x, dy, dweight, dbias, options) =>
      conv3dBackwardWeights(ctx, x, dy, dweight, dbias, options),
  }) satisfies Partial<Kernels>;
