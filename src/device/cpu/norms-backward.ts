// The gradients of layer norm and RMS norm: a few passes of matrix arithmetic per chunk of float32 rows, which stay in the
// cache. Sums over rows are float32 within a chunk and float64 over chunks.
import { elementCount } from "../../base/shape.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { f32View } from "../host/host-views.ts";
import type { Kernels, Operand, RmsNormOptions } from "../kernels.ts";
import { normKernels as reference } from "../reference/norms.ts";
import { asFloat32, Converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, slice } from "./context.ts";
import { onePlus } from "./norms.ts";
import { eachRowChunk } from "./row-chunks.ts";
import { RowMath } from "./row-math.ts";

/** Shorter rows cancel almost wholly in the gradient and are few: they go through the reference's float64. */
const SHORTEST_ROW = 16;

interface Chunk {
  readonly math: RowMath;
  /** Addresses of the rows, and of two matrices of scratch. */
  readonly x: number;
  readonly dy: number;
  readonly dx: number | undefined;
  readonly first: number;
  readonly second: number;
  /** Scratch: five numbers per row, one per column. */
  readonly perRow: Operand;
  readonly perColumn: Operand;
}

/** Rows of x and dy in float32, with a place for dx, a chunk at a time. */
function eachChunk(
  ctx: CpuContext,
  x: Operand,
  dy: Operand,
  dx: Operand | undefined,
  [from, rows]: readonly [number, number],
  compute: (chunk: Chunk) => void,
): void {
  const columns = lastOf(x);
  eachRowChunk(from, rows, columns, (start, count) => {
    const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
    using xs = asFloat32(ctx, part(x));
    using dys = asFloat32(ctx, part(dy));
    using dxs = dx && float32Result(ctx, part(dx));
    using scratch = ctx.temporary("f32", [2, count, columns]);
    using perRow = ctx.temporary("f32", [5, count]);
    using perColumn = ctx.temporary("f32", [columns]);
    compute({
      math: new RowMath(ctx, count, columns),
      x: addressOf(xs.operand),
      dy: addressOf(dys.operand),
      dx: dxs && addressOf(dxs.operand),
      first: addressOf(scratch),
      second: addressOf(slice(scratch, count * columns, [])),
      perRow,
      perColumn,
    });
    dxs?.store();
  });
}

/** The scratch numbers per row of one kind, from 0 to 4. */
function rowNumbers(chunk: Chunk, index: number): { values: Float32Array; at: number } {
  const operand = slice(chunk.perRow, index * chunk.math.rows, [chunk.math.rows]);
  return { values: f32View(operand), at: addressOf(operand) };
}

/** total += weights · matrix, where asked for. */
function addColumns(chunk: Chunk, weights: number, matrix: number, total: Float64Array | undefined): void {
  if (!total) return;
  chunk.math.dotColumns(weights, matrix, addressOf(chunk.perColumn));
  const sums = f32View(chunk.perColumn);
  for (let c = 0; c < total.length; c++) total[c]! += sums[c]!;
}

/** dx = (g − mean(g) − x̂·mean(g·x̂))/σ with g = dy·gain; the gains' gradients are Σ dy·x̂ and Σ dy. */
function layerNormChunk(
  chunk: Chunk,
  gain: number,
  scale: Float64Array | undefined,
  shift: Float64Array | undefined,
  eps: number,
): void {
  const { math, x, dy, dx, first: normed, second: product } = chunk;
  const mean = rowNumbers(chunk, 0);
  const variance = rowNumbers(chunk, 1);
  const slopes = rowNumbers(chunk, 2);
  const pulls = rowNumbers(chunk, 3);
  const ones = rowNumbers(chunk, 4);
  math.normalize(x, normed, mean.at, variance.at, eps);
  math.multiply(dy, { matrix: normed }, product);
  ones.values.fill(1);
  addColumns(chunk, ones.at, product, scale);
  addColumns(chunk, ones.at, dy, shift);
  if (dx === undefined) return;
  math.dotRows(dy, gain, slopes.at);
  math.dotRows(product, gain, pulls.at);
  const inverse = mean.values;
  for (let row = 0; row < math.rows; row++) {
    inverse[row] = 1 / Math.sqrt(variance.values[row]! + eps);
    slopes.values[row]! *= inverse[row]! / math.columns;
    pulls.values[row]! *= inverse[row]! / math.columns;
  }
  math.multiply(normed, { rows: pulls.at }, normed, { plus: { rows: slopes.at } });
  math.multiply(dy, { columns: gain }, dx, { factor: { rows: mean.at }, minus: { matrix: normed } });
}

function layerNormBackward(ctx: CpuContext): Kernels["layerNormBackward"] {
  return (x, dy, options, gradients) => {
    const columns = lastOf(x);
    if (columns < SHORTEST_ROW || elementCount(x.shape) === 0) {
      reference.layerNormBackward(x, dy, options, gradients);
      return;
    }
    const { modulation, eps } = options;
    const tableRows = modulation?.scale.shape[0] ?? 1;
    const [scaleOut, shiftOut] = modulation
      ? [gradients.dscale, gradients.dshift]
      : [gradients.dweight, gradients.dbias];
    const scaleSums = scaleOut && new Float64Array(tableRows * columns);
    const shiftSums = shiftOut && new Float64Array(tableRows * columns);
    for (const { start, count, row } of modulation?.runs ?? [{ start: 0, count: rowsOf(x), row: 0 }]) {
      if (count === 0) continue;
      using gain = modulation ? onePlus(ctx, modulation.scale, row) : gainOf(ctx, options.weight, columns);
      const rowOf = (sums: Float64Array | undefined) => sums?.subarray(row * columns, (row + 1) * columns);
      const [scale, shift] = [rowOf(scaleSums), rowOf(shiftSums)];
      eachChunk(ctx, x, dy, gradients.dx, [start, count], (chunk) =>
        layerNormChunk(chunk, addressOf(gain.operand), scale, shift, eps),
      );
    }
    if (scaleOut) f32View(scaleOut).set(scaleSums!);
    if (shiftOut) f32View(shiftOut).set(shiftSums!);
  };
}

/** The weight in float32, or ones. */
function gainOf(ctx: CpuContext, weight: Operand | undefined, columns: number): Converted {
  if (weight) return asFloat32(ctx, weight);
  const ones = ctx.temporary("f32", [columns]);
  f32View(ones).fill(1);
  return new Converted(ones, ones);
}

/** The gradient of y = activation(x·factor(x)·weight); see the reference's `rms` for the terms. */
function rmsNormChunk(
  chunk: Chunk,
  weight: number,
  dweight: Float64Array | undefined,
  { kind, eps, silu }: RmsNormOptions,
): void {
  const { math, x, dx, first, second } = chunk;
  const mean = rowNumbers(chunk, 0);
  const variance = rowNumbers(chunk, 1);
  const factor = rowNumbers(chunk, 2);
  const drag = rowNumbers(chunk, 3);
  math.normalize(x, first, mean.at, variance.at, 0);
  // The mean square that x is divided by the root of, and whether it moves with x.
  const [divisor, moves] = [mean.values, variance.values];
  for (let row = 0; row < math.rows; row++) {
    const square = variance.values[row]! + mean.values[row]! * mean.values[row]!;
    const floor = (eps * eps) / math.columns;
    const small = kind === "l2" && square <= floor;
    divisor[row] = kind === "mean" ? square + eps : Math.max(square, floor);
    moves[row] = small ? 0 : 1;
    factor.values[row] = 1 / Math.sqrt(divisor[row]!);
  }
  let dz = chunk.dy;
  if (silu) {
    // A number per column goes before one per row.
    math.multiply(x, { columns: weight }, first, { factor: { rows: factor.at } });
    math.siluBackward(first, dz, second);
    dz = second;
  }
  math.multiply(x, { matrix: dz }, first);
  addColumns(chunk, factor.at, first, dweight);
  if (dx === undefined) return;
  math.dotRows(first, weight, drag.at);
  for (let row = 0; row < math.rows; row++) {
    drag.values[row]! *= (moves[row]! * factor.values[row]!) / (divisor[row]! * math.columns);
  }
  math.multiply(x, { rows: drag.at }, first);
  math.multiply(dz, { columns: weight }, dx, { factor: { rows: factor.at }, minus: { matrix: first } });
}

function rmsNormBackward(ctx: CpuContext): Kernels["rmsNormBackward"] {
  return (x, weight, dy, options, gradients) => {
    const columns = lastOf(x);
    if (columns < SHORTEST_ROW || elementCount(x.shape) === 0) {
      reference.rmsNormBackward(x, weight, dy, options, gradients);
      return;
    }
    const sums = gradients.dweight && new Float64Array(columns);
    using weights = asFloat32(ctx, weight);
    eachChunk(ctx, x, dy, gradients.dx, [0, rowsOf(x)], (chunk) =>
      rmsNormChunk(chunk, addressOf(weights.operand), sums, options),
    );
    if (gradients.dweight) f32View(gradients.dweight).set(sums!);
  };
}

export const normBackwardKernels = (ctx: CpuContext) =>
  ({
    layerNormBackward: layerNormBackward(ctx),
    rmsNormBackward: rmsNormBackward(ctx),
  }) satisfies Partial<Kernels>;
