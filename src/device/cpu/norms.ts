// Layer norm with affine form or modulation, RMS norm of both kinds, softmax. Forwards run on oneDNN in one or two passes
// per chunk of rows; backwards are loops over float32 rows with float64 sums.
import { elementCount } from "../../base/dtype.ts";
import type { TensorDescription } from "../../ffi/onednn-operations.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { f32View } from "../host-views.ts";
import type { Kernels, ModulatedNorm, Operand, RmsNormOptions } from "../kernels.ts";
import { asFloat32, type Converted, converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, slice, tensor } from "./context.ts";
import { applyActivation } from "./elementwise.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** The format a row operation runs in: bf16 only where it both comes and goes in it. */
const rowType = (x: Operand, out: Operand): "f32" | "bf16" =>
  x.dtype === "bf16" && out.dtype === "bf16" ? "bf16" : "f32";

/** Runs `compute` on rows of x and out in one format, a chunk at a time. */
function eachNormChunk(
  ctx: CpuContext,
  x: Operand,
  out: Operand,
  [from, rows]: readonly [number, number],
  compute: (source: Operand, target: Operand) => void,
): void {
  const columns = lastOf(x);
  const type = rowType(x, out);
  eachRowChunk(from, rows, columns, (start, count) => {
    const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
    using source = converted(ctx, part(x), type);
    if (type === "bf16") {
      compute(source.operand, part(out));
      return;
    }
    using target = float32Result(ctx, part(out));
    compute(source.operand, target.operand);
    target.store();
  });
}

/** 1 + a row of the modulation's scale. */
function onePlus(ctx: CpuContext, scale: Operand, row: number): Converted {
  const columns = lastOf(scale);
  const result = ctx.temporary("f32", [columns]);
  const [from, to] = [f32View(slice(scale, row * columns, [columns])), f32View(result)];
  for (let c = 0; c < columns; c++) to[c] = 1 + from[c]!;
  return { operand: result, [Symbol.dispose]: () => result[Symbol.dispose]() };
}

/** (x − mean)/√(variance + eps)·scale + shift, over rows. scale and shift are float32 [C]. */
function normalizeRows(
  ctx: CpuContext,
  source: Operand,
  target: Operand,
  eps: number,
  scale: Operand | undefined,
  shift: Operand | undefined,
): void {
  const rows = tensor(source.dtype as "f32" | "bf16", source.shape);
  const perColumn = tensor("f32", [lastOf(source)]);
  const tensors: { source: TensorDescription; target: TensorDescription; [name: string]: TensorDescription } = {
    source: rows,
    target: rows,
    ...(scale ? { scale: perColumn } : {}),
    ...(shift ? { shift: perColumn } : {}),
  };
  ctx.run(ctx.dnn.primitive({ kind: "layer-norm", tensors, statistics: "internal", eps }), {
    source: addressOf(source),
    target: addressOf(target),
    scale: scale && addressOf(scale),
    shift: shift && addressOf(shift),
  });
}

function layerNorm(ctx: CpuContext, x: Operand, out: Operand, options: ModulatedNorm): void {
  if (elementCount(x.shape) === 0) return;
  const { eps, modulation } = options;
  if (modulation) {
    for (const { start, count, row } of modulation.runs) {
      if (count === 0) continue;
      using scale = onePlus(ctx, modulation.scale, row);
      const shift = slice(modulation.shift, row * lastOf(x), [lastOf(x)]);
      eachNormChunk(ctx, x, out, [start, count], (source, target) =>
        normalizeRows(ctx, source, target, eps, scale.operand, shift),
      );
    }
    return;
  }
  using scale = options.weight && asFloat32(ctx, options.weight);
  using shift = options.bias && asFloat32(ctx, options.bias);
  eachNormChunk(ctx, x, out, [0, rowsOf(x)], (source, target) =>
    normalizeRows(ctx, source, target, eps, scale?.operand, shift?.operand),
  );
}

/**
 * oneDNN 2.x has no RMS norm. A layer norm gives mean and variance of the rows, mean² + variance is the mean square, and a
 * second layer norm with mean 0 and that as its variance is the RMS norm. Its source is still in the cache.
 */
function rmsNorm(ctx: CpuContext, x: Operand, weight: Operand, out: Operand, options: RmsNormOptions): void {
  const columns = lastOf(x);
  if (elementCount(x.shape) === 0) return;
  using scale = asFloat32(ctx, weight);
  eachNormChunk(ctx, x, out, [0, rowsOf(x)], (source, target) => {
    const rows = source.shape[0]!;
    using statistics = ctx.temporary("f32", [2, rows]);
    const [mean, variance] = [addressOf(statistics), addressOf(slice(statistics, rows, []))];
    const matrix = tensor(source.dtype as "f32" | "bf16", source.shape);
    const perRow = tensor("f32", [rows]);
    // Only the statistics of the first pass count; its result goes nowhere, since out may be x.
    using unused = ctx.temporary(source.dtype, source.shape);
    const first = { source: matrix, target: matrix, mean: perRow, variance: perRow };
    ctx.run(ctx.dnn.primitive({ kind: "layer-norm", tensors: first, statistics: "kept", eps: 0 }), {
      source: addressOf(source),
      target: addressOf(unused),
      mean,
      variance,
    });
    foldMeanSquares(f32View(statistics), rows, columns, options);
    const second = { ...first, scale: tensor("f32", [columns]) };
    ctx.run(ctx.dnn.primitive({ kind: "layer-norm", tensors: second, statistics: "given", eps: 0 }), {
      source: addressOf(source),
      target: addressOf(target),
      mean,
      variance,
      scale: addressOf(scale.operand),
    });
    if (options.silu) applyActivation(ctx, "silu", target, target);
  });
}

/** [means, variances] of rows become [0, what x's square is divided by]. */
function foldMeanSquares(statistics: Float32Array, rows: number, columns: number, { kind, eps }: RmsNormOptions): void {
  const floor = kind === "l2" ? (eps * eps) / columns : 0;
  const added = kind === "mean" ? eps : 0;
  for (let row = 0; row < rows; row++) {
    const mean = statistics[row]!;
    statistics[row] = 0;
    statistics[rows + row] = Math.max(statistics[rows + row]! + mean * mean + added, floor);
  }
}

/** Rows of x and dy in float32, with a place for dx, a chunk at a time. `row` is the first. */
function eachGradientChunk(
  ctx: CpuContext,
  x: Operand,
  dy: Operand,
  dx: Operand | undefined,
  [from, rows]: readonly [number, number],
  compute: (x: Float32Array, dy: Float32Array, dx: Float32Array | undefined) => void,
): void {
  const columns = lastOf(x);
  eachRowChunk(from, rows, columns, (start, count) => {
    const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
    using xs = asFloat32(ctx, part(x));
    using dys = asFloat32(ctx, part(dy));
    using dxs = dx && float32Result(ctx, part(dx));
    compute(f32View(xs.operand), f32View(dys.operand), dxs && f32View(dxs.operand));
    dxs?.store();
  });
}

interface NormSums {
  /** Σ dy·x̂ and Σ dy by column, where asked for. */
  scale: Float64Array | undefined;
  shift: Float64Array | undefined;
}

/** dx = (g − mean(g) − x̂·mean(g·x̂))/σ with g = dy·gain, over rows of `columns`. */
function layerNormRows(
  x: Float32Array,
  dy: Float32Array,
  dx: Float32Array | undefined,
  gain: Float32Array | undefined,
  sums: NormSums,
  columns: number,
  eps: number,
): void {
  const normed = new Float64Array(columns);
  const slope = new Float64Array(columns);
  for (let at = 0; at < x.length; at += columns) {
    let sum = 0;
    for (let c = 0; c < columns; c++) sum += x[at + c]!;
    const mean = sum / columns;
    let squares = 0;
    for (let c = 0; c < columns; c++) {
      const distance = x[at + c]! - mean;
      squares += distance * distance;
    }
    const inverse = 1 / Math.sqrt(squares / columns + eps);
    let slopes = 0;
    let product = 0;
    for (let c = 0; c < columns; c++) {
      const n = (x[at + c]! - mean) * inverse;
      const g = gain ? dy[at + c]! * gain[c]! : dy[at + c]!;
      normed[c] = n;
      slope[c] = g;
      slopes += g;
      product += g * n;
    }
    if (sums.scale) for (let c = 0; c < columns; c++) sums.scale[c]! += dy[at + c]! * normed[c]!;
    if (sums.shift) for (let c = 0; c < columns; c++) sums.shift[c]! += dy[at + c]!;
    if (!dx) continue;
    const [shared, pull] = [slopes / columns, product / columns];
    for (let c = 0; c < columns; c++) dx[at + c] = inverse * (slope[c]! - shared - normed[c]! * pull);
  }
}

const layerNormBackward =
  (ctx: CpuContext): Kernels["layerNormBackward"] =>
  (x, dy, options, gradients) => {
    const columns = lastOf(x);
    const { modulation, eps } = options;
    const table = modulation?.scale.shape[0] ?? 1;
    const [scaleOut, shiftOut] = modulation
      ? [gradients.dscale, gradients.dshift]
      : [gradients.dweight, gradients.dbias];
    const scaleSums = scaleOut && new Float64Array(table * columns);
    const shiftSums = shiftOut && new Float64Array(table * columns);
    const runs = modulation?.runs ?? [{ start: 0, count: rowsOf(x), row: 0 }];
    for (const { start, count, row } of runs) {
      if (count === 0) continue;
      using gain = modulation ? onePlus(ctx, modulation.scale, row) : options.weight && asFloat32(ctx, options.weight);
      const rowOf = (sums: Float64Array | undefined) => sums?.subarray(row * columns, (row + 1) * columns);
      const sums = { scale: rowOf(scaleSums), shift: rowOf(shiftSums) };
      const gains = gain && f32View(gain.operand);
      eachGradientChunk(ctx, x, dy, gradients.dx, [start, count], (xs, dys, dxs) =>
        layerNormRows(xs, dys, dxs, gains, sums, columns, eps),
      );
    }
    if (scaleOut) f32View(scaleOut).set(scaleSums!);
    if (shiftOut) f32View(shiftOut).set(shiftSums!);
  };

/** The gradient of y = activation(x·factor(x)·weight) over rows; see the reference's `rms` for the terms. */
function rmsNormRows(
  x: Float32Array,
  dy: Float32Array,
  dx: Float32Array | undefined,
  weight: Float32Array,
  dweight: Float64Array | undefined,
  { kind, eps, silu }: RmsNormOptions,
): void {
  const columns = weight.length;
  const slopes = new Float64Array(columns);
  for (let at = 0; at < x.length; at += columns) {
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += x[at + c]! * x[at + c]!;
    const small = kind === "l2" && squares <= eps * eps;
    const mean = kind === "mean" ? squares / columns + eps : small ? (eps * eps) / columns : squares / columns;
    const factor = 1 / Math.sqrt(mean);
    const pull = small ? 0 : 1 / (mean * columns);
    let product = 0;
    for (let c = 0; c < columns; c++) {
      const normed = x[at + c]! * factor;
      let dz = dy[at + c]!;
      if (silu) {
        const z = normed * weight[c]!;
        const s = 1 / (1 + Math.exp(-z));
        dz *= s + z * s * (1 - s);
      }
      if (dweight) dweight[c]! += dz * normed;
      slopes[c] = dz * weight[c]!;
      product += slopes[c]! * x[at + c]!;
    }
    if (!dx) continue;
    const drag = pull * product;
    for (let c = 0; c < columns; c++) dx[at + c] = factor * (slopes[c]! - x[at + c]! * drag);
  }
}

const rmsNormBackward =
  (ctx: CpuContext): Kernels["rmsNormBackward"] =>
  (x, weight, dy, options, gradients) => {
    const sums = gradients.dweight && new Float64Array(lastOf(x));
    using weights = asFloat32(ctx, weight);
    eachGradientChunk(ctx, x, dy, gradients.dx, [0, rowsOf(x)], (xs, dys, dxs) =>
      rmsNormRows(xs, dys, dxs, f32View(weights.operand), sums, options),
    );
    if (gradients.dweight) f32View(gradients.dweight).set(sums!);
  };

function softmax(ctx: CpuContext, x: Operand, out: Operand): void {
  if (elementCount(x.shape) === 0) return;
  eachNormChunk(ctx, x, out, [0, rowsOf(x)], (source, target) => {
    const rows = tensor(source.dtype as "f32" | "bf16", source.shape);
    const tensors = { source: rows, target: rows };
    const addresses = { source: addressOf(source), target: addressOf(target) };
    ctx.run(ctx.dnn.primitive({ kind: "softmax", tensors, axis: 1 }), addresses);
  });
}

function softmaxBackward(ctx: CpuContext, y: Operand, dy: Operand, dx: Operand): void {
  const columns = lastOf(y);
  eachGradientChunk(ctx, y, dy, dx, [0, rowsOf(y)], (ys, dys, dxs) => {
    for (let at = 0; at < ys.length; at += columns) {
      let shared = 0;
      for (let c = 0; c < columns; c++) shared += ys[at + c]! * dys[at + c]!;
      for (let c = 0; c < columns; c++) dxs![at + c] = ys[at + c]! * (dys[at + c]! - shared);
    }
  });
}

export const normKernels = (ctx: CpuContext) =>
  ({
    layerNorm: (x, out, options) => layerNorm(ctx, x, out, options),
    layerNormBackward: layerNormBackward(ctx),
    rmsNorm: (x, weight, out, options) => rmsNorm(ctx, x, weight, out, options),
    rmsNormBackward: rmsNormBackward(ctx),
    softmax: (x, out) => softmax(ctx, x, out),
    softmaxBackward: (y, dy, dx) => softmaxBackward(ctx, y, dy, dx),
  }) satisfies Partial<Kernels>;
