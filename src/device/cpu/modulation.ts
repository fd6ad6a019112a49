// Products with rows of a table: the gated residual add, and the sums its gradients need.
import { elementCount } from "../../base/dtype.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { lastOf } from "../check-operands.ts";
import { f32View } from "../host-views.ts";
import type { Kernels, Operand, RowRuns } from "../kernels.ts";
import { asFloat32, converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, slice, tensor } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";

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

/** out[row] = Σ a∘b over the rows that use it. Float64 sums per chunk and over chunks. */
export function sumRuns(ctx: CpuContext, a: Operand, b: Operand | undefined, runs: RowRuns, out: Operand): void {
  const columns = lastOf(a);
  const sums = new Float64Array(elementCount(out.shape));
  for (const run of runs) {
    const total = sums.subarray(run.row * columns, (run.row + 1) * columns);
    eachRowChunk(run.start, run.count, columns, (start, count) => {
      const part = (operand: Operand): Operand => slice(operand, start * columns, [count, columns]);
      using left = asFloat32(ctx, part(a));
      using right = b && asFloat32(ctx, part(b));
      addRows(f32View(left.operand), right && f32View(right.operand), columns, total);
    });
  }
  f32View(out).set(sums);
}

function addRows(a: Float32Array, b: Float32Array | undefined, columns: number, total: Float64Array): void {
  for (let at = 0; at < a.length; at += columns) {
    if (b) for (let c = 0; c < columns; c++) total[c]! += a[at + c]! * b[at + c]!;
    else for (let c = 0; c < columns; c++) total[c]! += a[at + c]!;
  }
}

export const modulationKernels = (ctx: CpuContext) =>
  ({
    gatedAdd: (x, y, table, runs, out) => gatedAdd(ctx, x, y, table, runs, out),
    sumRuns: (a, b, runs, out) => sumRuns(ctx, a, b, runs, out),
  }) satisfies Partial<Kernels>;
