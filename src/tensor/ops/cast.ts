// Another dtype for the same values; the gradient comes back in the input's.
import type { DType } from "../../base/dtype.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** The same values in another dtype, rounded; x itself where it has that dtype. */
export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  const output = empty(x.device, x.shape, dtype);
  x.device.kernels.cast(x, output);
  return record("cast", output, [x], [], (dy) => {
    const dx = empty(dy.device, dy.shape, x.dtype);
    dy.device.kernels.cast(dy, dx);
    return [dx];
  });
}
