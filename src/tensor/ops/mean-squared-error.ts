// mean((prediction − target)²): the flow-matching loss.
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

/** Scalar [1] float32. The target has no gradient. `weight` multiplies the loss. */
export function meanSquaredError(prediction: Tensor, target: Tensor, weight = 1): Tensor {
  const { device } = prediction;
  const difference = empty(device, prediction.shape, "f32");
  device.kernels.affine(prediction, 1, target, -1, difference);
  const output = empty(device, [1], "f32");
  device.kernels.sumSquares(difference, output);
  device.kernels.affine(output, weight / prediction.size, undefined, 0, output);
  return record("meanSquaredError", output, [prediction], [difference], (dy, _needs, [sdifference]) => {
    const scaled = empty(dy.device, sdifference!.shape, "f32");
    dy.device.kernels.affine(sdifference!, (2 * weight) / sdifference!.size, undefined, 0, scaled);
    const dx = empty(dy.device, sdifference!.shape, prediction.dtype);
    dy.device.kernels.binary("multiply", scaled, dy, dx);
    return [dx];
  });
}
