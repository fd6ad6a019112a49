// Pointwise activations: GELU (tanh form, erf form, quick), SiLU.
import type { Activation } from "../../device/kernels.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** GELU in one of its forms, or SiLU, of each element. */
export function activation(kind: Activation, x: Tensor): Tensor {
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.activation(kind, x, output);
  return record(kind, output, [x], [x], (dy, _needs, [sx]) => {
    const dx = empty(dy.device, dy.shape, sx!.dtype);
    dy.device.kernels.activationBackward(kind, sx!, dy, dx);
    return [dx];
  });
}
