// Layer norm with affine form or modulation, RMS norm of both kinds, softmax: in one or two passes of oneDNN per chunk of
// rows. The gradients are in norms-backward.ts.
import { elementCount } from "../../base/shape.ts";
import type { TensorDescription } from "../../ffi/onednn-operations.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { f32View } from "../host/host-views.ts";
import type { Kernels, ModulatedNorm, Operand, RmsNormOptions } from "../kernels.ts";
import { normKernels as reference } from "../reference/norms.ts";
import { asFloat32, Converted, converted, float32Result } from "./cast.ts";
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
export function onePlus(ctx: CpuContext, scale: Operand, row: number): Converted {
  const columns = lastOf(scale);
  const result = ctx.temporary("f32", [columns]);
  const [from, to] = [f32View(slice(scale, row * columns, [columns])), f32View(result)];
  for (let c = 0; c < columns; c++) to[c] = 1 + from[c]!;
  return new Converted(result, result);
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

function softmax(ctx: CpuContext, x: Operand, out: Operand): void {
  if (elementCount(x.shape) === 0) return;
  eachNormChunk(ctx, x, out, [0, rowsOf(x)], (source, target) => {
    const rows = tensor(source.dtype as "f32" | "bf16", source.shape);
    const tensors = { source: rows, target: rows };
    const addresses = { source: addressOf(source), target: addressOf(target) };
    ctx.run(ctx.dnn.primitive({ kind: "softmax", tensors, axis: 1 }), addresses);
  });
}

export const normKernels = (ctx: CpuContext) =>
  ({
    layerNorm: (x, out, options) => layerNorm(ctx, x, out, options),
    rmsNorm: (x, weight, out, options) => rmsNorm(ctx, x, weight, out, options),
    softmax: (x, out) => softmax(ctx, x, out),
    softmaxBackward: reference.softmaxBackward,
  }) satisfies Partial<Kernels>;
