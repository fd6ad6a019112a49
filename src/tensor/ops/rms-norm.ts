// RMS norm over the last axis: the transformer's form, and the autoencoders' (with an optional SiLU in the same pass).
import type { RmsNormOptions } from "../../device/kernels.ts";
import { isRecorded, record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";
import { activation } from "./activation.ts";

/** x [..., C], weight [C] → the shape of x. */
export function rmsNorm(x: Tensor, weight: Tensor, options: RmsNormOptions): Tensor {
  if (options.silu && isRecorded(x.device, [x, weight])) {
    return activation("silu", rmsNorm(x, weight, { ...options, silu: false }));
  }
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.rmsNorm(x, weight, output, options);
  return record("rmsNorm", output, [x, weight], [x, weight], (dy, needs, [sx, sw]) => {
    const dx = needs[0] ? empty(dy.device, sx!.shape, sx!.dtype) : undefined;
    const dweight = needs[1] ? empty(dy.device, sw!.shape, "f32") : undefined;
    dy.device.kernels.rmsNormBackward(sx!, sw!, dy, options, {
      ...(dx ? { dx } : {}),
      ...(dweight ? { dweight } : {}),
    });
    return [dx, dweight];
  });
}
