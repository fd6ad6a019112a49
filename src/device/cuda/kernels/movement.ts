// Copies between windows, gathers and sums on the cuda device.
import { bytesOf } from "../../../base/dtype.ts";
import { KinoraError } from "../../../base/errors.ts";
import { elementCount } from "../../../base/shape.ts";
import { lastOf } from "../../check-operands.ts";
import type { Kernels, Operand } from "../../kernels.ts";
import { type CudaContext, EIGHT, type Temporary } from "../context.ts";
import { writeInt64 } from "../structs.ts";
import { typed } from "./elementwise.ts";
import { chunksOf, columnGrid, gatherParts, rowLaunch } from "./rows.ts";

const FILE = "movement";
const AXES = 8;
/** Neighbours that one thread adds up. */
const SUMMED = 64;

/** The kernels' Window and Strides of a copy. */
function window(extent: readonly number[], from: readonly number[], to: readonly number[]): [Uint8Array, Uint8Array] {
  if (extent.length > AXES) {
    throw new KinoraError("kernel.shape", `the cuda device copies windows of at most ${AXES} axes`, {
      actual: String(extent.length),
    });
  }
  const pad = AXES - extent.length;
  const shape = new Uint8Array(8 + 4 * AXES + 8 * AXES);
  const target = new Uint8Array(8 * AXES);
  const [view, targetView] = [new DataView(shape.buffer), new DataView(target.buffer)];
  writeInt64(view, 0, elementCount(extent));
  for (let axis = 0; axis < AXES; axis++) {
    view.setInt32(8 + 4 * axis, axis < pad ? 1 : extent[axis - pad]!, true);
    writeInt64(view, 8 + 4 * AXES + 8 * axis, axis < pad ? 0 : from[axis - pad]!);
    writeInt64(targetView, 8 * axis, axis < pad ? 0 : to[axis - pad]!);
  }
  return [shape, target];
}

export function movementKernels(ctx: CudaContext) {
  return {
    stridedCopy(source, target, extent, options = {}) {
      const count = elementCount(extent);
      if (count === 0) return;
      const bytes = bytesOf(source.operand.dtype);
      const from = ctx.address(source.operand) + source.offset * bytes;
      const to = ctx.address(target.operand) + target.offset * bytes;
      if (!options.accumulate) {
        const [shape, strides] = window(extent, source.strides, target.strides);
        const kernel = ctx.launcher.kernel(FILE, `strided_copy_${bytes}`, "ppss");
        ctx.launcher.launch(kernel, ctx.blocksFor(count), from, to, shape, strides);
        return;
      }
      // Axes along which the target stands still come last: one thread adds all of them.
      const order = extent.map((_, axis) => axis).sort((a, b) => standing(a) - standing(b));
      function standing(axis: number): number {
        return target.strides[axis] === 0 ? 1 : 0;
      }
      const pick = (values: readonly number[]) => order.map((axis) => values[axis]!);
      const targets = elementCount(extent.filter((_, axis) => standing(axis) === 0));
      const [shape, strides] = window(pick(extent), pick(source.strides), pick(target.strides));
      const kernel = ctx.launcher.kernel(FILE, "strided_add", "ppissl");
      const [, code] = typed(ctx, target.operand);
      ctx.launcher.launch(kernel, ctx.blocksFor(targets), from, to, code, shape, strides, targets);
    },
    sum(x, axes, out) {
      // One run of neighbouring axes at a time, the last first.
      const summed = [...new Set(axes)].sort((a, b) => a - b);
      const runs: number[][] = [];
      for (const axis of summed) {
        const last = runs.at(-1);
        if (last && last.at(-1) === axis - 1) last.push(axis);
        else runs.push([axis]);
      }
      if (runs.length === 0) {
        const kernel = ctx.launcher.kernel("elementwise", "cast", "pipil");
        const count = elementCount(x.shape);
        ctx.launcher.launch(kernel, ctx.blocksFor(count, EIGHT), ...typed(ctx, x), ...typed(ctx, out), count);
        return;
      }
      let current = x;
      const temporaries: Disposable[] = [];
      // One launch after another until the axis is gone; the last one stores the result.
      const step = (shape: number[], isLast: boolean, run: (result: Operand) => void) => {
        const result = isLast ? out : ctx.temporary("f32", shape);
        if (!isLast) temporaries.push(result as Temporary);
        run(result);
        current = result;
      };
      for (const [i, run] of runs.reverse().entries()) {
        const isLastRun = i === runs.length - 1;
        const { shape } = current;
        const before = shape.slice(0, run[0]!);
        const after = shape.slice(run.at(-1)! + 1);
        const [outer, inner] = [elementCount(before), elementCount(after)];
        let length = elementCount(run.map((axis) => shape[axis]!));
        const shortened = (parts: number) => [...before, parts, ...run.slice(1).map(() => 1), ...after];
        if (inner === 1) {
          const kernel = ctx.launcher.kernel(FILE, "sum_rows", "pipiiil");
          const { blocks, last } = rowLaunch(length, outer);
          step(shortened(1), isLastRun, (result) =>
            ctx.launcher.launch(kernel, blocks, ...typed(ctx, current), ...typed(ctx, result), length, ...last),
          );
          continue;
        }
        const kernel = ctx.launcher.kernel(FILE, "sum_columns", "pipillill");
        do {
          const parts = Math.ceil(length / SUMMED) || 1;
          const results = outer * parts * inner;
          step(shortened(parts), isLastRun && parts === 1, (result) => {
            const values = [...typed(ctx, current), ...typed(ctx, result), length, inner, SUMMED, parts, results];
            ctx.launcher.launch(kernel, ctx.blocksFor(results), ...values);
          });
          length = parts;
        } while (length > 1);
      }
      for (const temporary of temporaries) temporary[Symbol.dispose]();
    },
    sumSquares(x, out) {
      const count = elementCount(x.shape);
      const blocks = Math.max(1, ctx.blocksFor(count));
      using parts = ctx.temporary("f64", [blocks]);
      const kernel = ctx.launcher.kernel(FILE, "square_parts", "pipl");
      ctx.launcher.launch(kernel, blocks, ...typed(ctx, x), ctx.address(parts), count);
      const sum = ctx.launcher.kernel(FILE, "sum_parts", "pip", { threads: 32 });
      ctx.launcher.launch(sum, 1, ctx.address(parts), blocks, ctx.address(out));
    },
    sumRuns(a, b, runs, out) {
      const columns = lastOf(a);
      using chunks = chunksOf(ctx, runs);
      using parts = ctx.temporary("f32", [Math.max(1, chunks.count), columns]);
      const kernel = ctx.launcher.kernel(FILE, "sum_chunks", "pipippi");
      const table = ctx.address(chunks.table);
      const values = [...typed(ctx, a), ...typed(ctx, b), table, ctx.address(parts), columns];
      ctx.launcher.launch(kernel, columnGrid(columns, chunks.count), ...values);
      gatherParts(ctx, parts, chunks, out, columns);
    },
    embedding(table, ids, out) {
      const count = elementCount(out.shape);
      const kernel = ctx.launcher.kernel(FILE, "embedding", "pippiiil");
      const values = [...typed(ctx, table), ctx.address(ids), ...typed(ctx, out), table.shape[0]!, lastOf(table)];
      ctx.launcher.launch(kernel, ctx.blocksFor(count), ...values, count);
    },
    embeddingBackward(ids, dy, dtable) {
      const count = elementCount(dtable.shape);
      const kernel = ctx.launcher.kernel(FILE, "embedding_backward", "pipipiil");
      const values = [
        ctx.address(ids),
        elementCount(ids.shape),
        ...typed(ctx, dy),
        ...typed(ctx, dtable),
        lastOf(dtable),
      ];
      ctx.launcher.launch(kernel, ctx.blocksFor(count), ...values, count);
    },
  } satisfies Partial<Kernels>;
}
