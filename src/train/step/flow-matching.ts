// The training objective: predict the velocity noise − x₀ at x_t = (1−σ)·x₀ + σ·noise (Lipman et al., arXiv 2210.02747;
// Liu et al., arXiv 2209.03003), as Wan was trained. t = σ·1000, not rounded. All on the device.
import { empty, type Tensor } from "../../tensor/tensor.ts";

/** x_t of one sample into `out`, of the same number of elements; σ in [0, 1], 1 is noise. */
export function mixNoise(clean: Tensor, noise: Tensor, sigma: number, out: Tensor): void {
  out.device.kernels.affine(clean, 1 - sigma, noise, sigma, out);
}

/** What the model should answer: noise − x₀, in the current scope. */
export function velocityTarget(clean: Tensor, noise: Tensor): Tensor {
  const target = empty(clean.device, clean.shape, "f32");
  clean.device.kernels.affine(noise, 1, clean, -1, target);
  return target;
}
