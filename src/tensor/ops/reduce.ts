// Sums and means.
import { elementCount } from "../../base/shape.ts";
import { record } from "../tape.ts";
import { empty, type Tensor, zeros } from "../tensor.ts";
import { scale } from "./elementwise.ts";

/** Sum over axes (all where absent), which stay with size 1. */
export function sum(x: Tensor, axes: readonly number[] = x.shape.map((_, i) => i)): Tensor {
  const shape = x.shape.map((size, i) => (axes.includes(i) ? 1 : size));
  const output = empty(x.device, shape, x.dtype);
  x.device.kernels.sum(x, axes, output);
  return record("sum", output, [x], [], (dy) => {
    const dx = zeros(dy.device, x.shape, x.dtype);
    dy.device.kernels.binary("add", dx, dy, dx);
    return [dx];
  });
}

/** Mean over axes (all where absent), which stay with size 1. */
export function mean(x: Tensor, axes: readonly number[] = x.shape.map((_, i) => i)): Tensor {
  const count = elementCount(axes.map((axis) => x.shape[axis]!));
  return scale(sum(x, axes), 1 / count);
}
