// Arithmetic on float32 matrices [rows, columns] with a number per row or per column, on oneDNN. What gradients of norms
// and sums over rows are made of. Everything goes by address; nothing is allocated.
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { type CpuContext, tensor } from "./context.ts";

/** A second factor or a term: a whole matrix, or a number per row or per column. */
export type Term = { readonly matrix: number } | { readonly rows: number } | { readonly columns: number };

export class RowMath {
  readonly rows: number;
  readonly columns: number;
  readonly #ctx: CpuContext;
  readonly #matrix: TensorDescription;

  constructor(ctx: CpuContext, rows: number, columns: number) {
    this.#ctx = ctx;
    this.rows = rows;
    this.columns = columns;
    // The leading axis makes a number per row a broadcast that oneDNN 2.x has fast code for.
    this.#matrix = tensor("f32", [1, rows, columns]);
  }

  /** target = a ∘ first [∘ factor] [± term]; target may be a. After a number per row there is none per column (slow). */
  multiply(a: number, first: Term, target: number, more: { factor?: Term; plus?: Term; minus?: Term } = {}): void {
    const post: PostOperation<TensorDescription>[] = [];
    const operands: number[] = [];
    const append = (algorithm: "multiply" | "add" | "subtract", term: Term | undefined): void => {
      if (!term) return;
      post.push({ kind: "binary", algorithm, operand: this.#describe(term) });
      operands.push(addressIn(term));
    };
    append("multiply", more.factor);
    append("add", more.plus);
    append("subtract", more.minus);
    const tensors = { source: this.#matrix, source1: this.#describe(first), target: this.#matrix };
    const primitive = this.#ctx.dnn.primitive({ kind: "binary", tensors, algorithm: "multiply" }, post);
    this.#ctx.run(primitive, { source: a, source1: addressIn(first), target }, operands);
  }

  /** target [rows] = a · weights [columns] */
  dotRows(a: number, weights: number, target: number): void {
    this.#product(a, [this.rows, this.columns], weights, 1, target);
  }

  /** target [columns] = weights [rows] · a */
  dotColumns(weights: number, a: number, target: number): void {
    this.#product(weights, [1, this.rows], a, this.columns, target);
  }

  /** target = (a − mean)/√(variance + eps) with each row's own, which are written too. */
  normalize(a: number, target: number, mean: number, variance: number, eps: number): void {
    const matrix = tensor("f32", [this.rows, this.columns]);
    const perRow = tensor("f32", [this.rows]);
    const tensors = { source: matrix, target: matrix, mean: perRow, variance: perRow };
    const primitive = this.#ctx.dnn.primitive({ kind: "layer-norm", tensors, statistics: "kept", eps });
    this.#ctx.run(primitive, { source: a, target, mean, variance });
  }

  /** target = dy ∘ silu′(z) */
  siluBackward(z: number, dy: number, target: number): void {
    const flat = tensor("f32", [this.rows * this.columns]);
    const tensors = { source: flat, diffTarget: flat, diffSource: flat };
    const operation = { kind: "eltwise-backward", tensors, algorithm: "swish", alpha: 1, beta: 0 } as const;
    this.#ctx.run(this.#ctx.dnn.primitive(operation), { source: z, diffTarget: dy, diffSource: target });
  }

  #describe(term: Term): TensorDescription {
    if ("matrix" in term) return this.#matrix;
    return tensor("f32", "rows" in term ? [1, this.rows, 1] : [1, 1, this.columns]);
  }

  #product(a: number, [rows, inner]: readonly [number, number], b: number, columns: number, target: number): void {
    const tensors = {
      source: tensor("f32", [rows, inner]),
      weights: tensor("f32", [inner, columns]),
      target: tensor("f32", [rows, columns]),
    };
    this.#ctx.run(this.#ctx.dnn.primitive({ kind: "matmul", tensors }), { source: a, weights: b, target });
  }
}

function addressIn(term: Term): number {
  if ("matrix" in term) return term.matrix;
  return "rows" in term ? term.rows : term.columns;
}
