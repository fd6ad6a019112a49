// The right factor of a product in the layout the product likes best.
import type { Primitive } from "../../ffi/onednn.ts";
import type { Layout, TensorDescription } from "../../ffi/onednn-operations.ts";
import { type CpuContext, tensor } from "./context.ts";

/** A matrix that is the right factor of a product again and again, in the layout the product likes best. */
export interface RightFactor {
  readonly layout: Layout;
  readonly description: TensorDescription;
  /** Brings rows or columns that lie at `from` into the layout. */
  readonly pack: Primitive;
}

/** The right factor [inner, columns] for products of `rows` rows, packed from the matrix `source` describes. */
export function rightFactor(
  ctx: CpuContext,
  rows: number,
  source: TensorDescription,
  target: "f32" | "bf16",
): RightFactor {
  const { dtype, dims } = source;
  const [inner, columns] = dims as readonly [number, number];
  const tensors = {
    source: tensor(dtype, [rows, inner]),
    weights: { dtype, dims, strides: "any" as const },
    target: tensor(target, [rows, columns]),
  };
  const layout = ctx.dnn.layoutOf(ctx.dnn.primitive({ kind: "matmul", tensors }), "weights", 2);
  const description = { dtype, dims, strides: layout };
  const pack = ctx.dnn.primitive({ kind: "reorder", tensors: { source, target: description } });
  return { layout, description, pack };
}
