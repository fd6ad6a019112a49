// Sums in float64 over float32 rows, and gathers by id.
import { elementCount } from "../../base/shape.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { f32View, view } from "../host/host-views.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { checkedIds, movementKernels as reference } from "../reference/movement.ts";
import { broadcastStrides, walk } from "../reference/walk.ts";
import { asFloat32, cast, float32Result } from "./cast.ts";
import { type CpuContext, slice } from "./context.ts";
import { sumRuns } from "./modulation.ts";
import { eachRowChunk } from "./row-chunks.ts";

function sum(ctx: CpuContext, x: Operand, out: Operand): void {
  const columns = lastOf(out);
  if (columns > 1 && elementCount(out.shape) === columns) {
    // Over all axes but the last: a bias gradient.
    using total = float32Result(ctx, slice(out, 0, [1, columns]));
    const runs = [{ start: 0, count: rowsOf(x), row: 0 }];
    sumRuns(ctx, slice(x, 0, [rowsOf(x), columns]), undefined, runs, total.operand);
    total.store();
    return;
  }
  using wide = asFloat32(ctx, x);
  using result = float32Result(ctx, out);
  const values = f32View(wide.operand);
  const sums = new Float64Array(elementCount(out.shape));
  const strides = [broadcastStrides(x.shape, x.shape), broadcastStrides(out.shape, x.shape)];
  walk(x.shape, strides, ([at, to], length, [, stepTo]) => {
    if (stepTo === 0) {
      let total = 0;
      for (let i = 0; i < length; i++) total += values[at! + i]!;
      sums[to!]! += total;
    } else {
      for (let i = 0; i < length; i++) sums[to! + i]! += values[at! + i]!;
    }
  });
  f32View(result.operand).set(sums);
  result.store();
}

/** Σ x² in four sums side by side: in one, each addition would wait for the last. */
function squares(values: Float32Array): number {
  let [first, second, third, fourth] = [0, 0, 0, 0];
  let i = 0;
  for (; i < values.length - 3; i += 4) {
    first += values[i]! * values[i]!;
    second += values[i + 1]! * values[i + 1]!;
    third += values[i + 2]! * values[i + 2]!;
    fourth += values[i + 3]! * values[i + 3]!;
  }
  for (; i < values.length; i++) first += values[i]! * values[i]!;
  return first + second + (third + fourth);
}

function sumSquares(ctx: CpuContext, x: Operand, out: Operand): void {
  let total = 0;
  eachRowChunk(0, elementCount(x.shape), 1, (start, count) => {
    using wide = asFloat32(ctx, slice(x, start, [count]));
    total += squares(f32View(wide.operand));
  });
  f32View(out)[0] = total;
}

function embedding(ctx: CpuContext, table: Operand, ids: Operand, out: Operand): void {
  const columns = lastOf(table);
  const rows = checkedIds(ids, table.shape[0]!);
  if (table.dtype !== out.dtype) {
    using same = ctx.temporary(table.dtype, out.shape);
    embedding(ctx, table, ids, same);
    cast(ctx, same, out);
    return;
  }
  const [from, to] = [view(table) as Uint8Array, view(out) as Uint8Array];
  for (let i = 0; i < rows.length; i++) {
    to.set(from.subarray(rows[i]! * columns, (rows[i]! + 1) * columns), i * columns);
  }
}

export const reductionKernels = (ctx: CpuContext) =>
  ({
    sum: (x, _axes, out) => sum(ctx, x, out),
    sumSquares: (x, out) => sumSquares(ctx, x, out),
    embedding: (table, ids, out) => embedding(ctx, table, ids, out),
    embeddingBackward: reference.embeddingBackward,
  }) satisfies Partial<Kernels>;
