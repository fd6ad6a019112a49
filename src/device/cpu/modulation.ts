// Products with rows of a table: the gated residual add, and the sums its gradients need.
import { elementCount } from "../../base/shape.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { lastOf } from "../check-operands.ts";
import { f32View } from "../host/host-views.ts";
import type { Kernels, Operand, RowRuns } from "../kernels.ts";
import { asFloat32, converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, slice, tensor } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";
import { RowMath } from "./row-math.ts";

/** out = x + y·table[row], in bf16 throughout where y and out are, else through float32. */
export function gatedAdd(
  ctx: CpuContext,
  x: Operand | undefined,
  y: Operand,
  table: Operand,
  runs: RowRuns,
  out: Operand,
): void {
  const columns = lastOf(y);
  if (elementCount(y.shape) === 0) return;
  const compute = y.dtype === "bf16" && out.dtype === "bf16" ? "bf16" : "f32";
  for (const run of runs) {
    const gate = addressOf(slice(table, run.row * columns, []));
    eachRowChunk(run.start, run.count, columns, (start, count) => {
      const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
      using ys = converted(ctx, part(y), compute);
      using xs = x && converted(ctx, part(x), x.dtype === "bf16" ? "bf16" : "f32");
      using result = compute === "f32" ? float32Result(ctx, part(out)) : undefined;
      const target = result?.operand ?? part(out);
      const shape = tensor(compute, [count, columns]);
      const tensors = { source: shape, source1: tensor("f32", [1, columns]), target: shape };
      const post: PostOperation<TensorDescription>[] = [];
      if (xs) {
        const operand = tensor(xs.operand.dtype === "bf16" ? "bf16" : "f32", [count, columns]);
        post.push({ kind: "binary", algorithm: "add", operand });
      }
      ctx.run(
        ctx.dnn.primitive({ kind: "binary", algorithm: "multiply", tensors }, post),
        { source: addressOf(ys.operand), source1: gate, target: addressOf(target) },
        xs ? [addressOf(xs.operand)] : [],
      );
      result?.store();
    });
  }
}

/** out[row] = Σ a∘b over the rows that use it. Sums are float32 within a chunk of rows, float64 over chunks. */
export function sumRuns(ctx: CpuContext, a: Operand, b: Operand | undefined, runs: RowRuns, out: Operand): void {
  const columns = lastOf(a);
  const sums = new Float64Array(elementCount(out.shape));
  for (const run of runs) {
    const total = sums.subarray(run.row * columns, (run.row + 1) * columns);
    eachRowChunk(run.start, columns === 0 ? 0 : run.count, columns, (start, count) => {
      const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
      const math = new RowMath(ctx, count, columns);
      using left = asFloat32(ctx, part(a));
      using right = b && asFloat32(ctx, part(b));
      using product = b && ctx.temporary("f32", [count, columns]);
      using ones = ctx.temporary("f32", [count]);
      using added = ctx.temporary("f32", [columns]);
      if (right) math.multiply(addressOf(left.operand), { matrix: addressOf(right.operand) }, addressOf(product!));
      f32View(ones).fill(1);
      math.dotColumns(addressOf(ones), addressOf(product ?? left.operand), addressOf(added));
      const values = f32View(added);
      for (let c = 0; c < columns; c++) total[c]! += values[c]!;
    });
  }
  f32View(out).set(sums);
}

export const modulationKernels = (ctx: CpuContext) =>
  ({
    gatedAdd: (x, y, table, runs, out) => gatedAdd(ctx, x, y, table, runs, out),
    sumRuns: (a, b, runs, out) => sumRuns(ctx, a, b, runs, out),
  }) satisfies Partial<Kernels>;
