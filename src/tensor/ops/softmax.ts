// Softmax over the last axis.
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** Softmax over the last axis. */
export function softmax(x: Tensor): Tensor {
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.softmax(x, output);
  return record("softmax", output, [x], [output], (dy, _needs, [y]) => {
    const dx = empty(dy.device, dy.shape, y!.dtype);
    dy.device.kernels.softmaxBackward(y!, dy, dx);
    return [dx];
  });
}
