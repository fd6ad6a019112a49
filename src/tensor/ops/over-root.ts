// numerator/(√square + eps): the one kernel that takes roots is AdamW's, and this asks it for them. Has no gradient.
import { openScope } from "../scope.ts";
import { empty, filled, type Tensor } from "../tensor.ts";

/** Corrections of moments are 1 from here on: ½ to this power is 0. */
const LATE = 4096;

/**
 * parameter ← parameter·(1 − rate·decay) − rate·numerator/(√square + eps). AdamW's kernel is the one that takes roots: its
 * moments are these two, halved by the step it would make of them.
 */
export function stepOverRoot(
  parameter: Tensor,
  numerator: Tensor,
  square: Tensor,
  { learningRate, eps = 0, weightDecay = 0 }: { learningRate: number; eps?: number; weightDecay?: number },
): void {
  const { device, shape } = parameter;
  const { kernels } = device;
  using _scope = openScope(device);
  const [m, v] = [empty(device, shape, "f32"), empty(device, shape, "f32")];
  kernels.affine(numerator, 2, undefined, 0, m);
  kernels.affine(square, 2, undefined, 0, v);
  const halves = { beta1: 0.5, beta2: 0.5, gradientScale: 0, step: LATE };
  kernels.adamw(parameter, numerator, m, v, { learningRate, eps, weightDecay, ...halves });
}

/** numerator/(√square + eps) */
export function overRoot(numerator: Tensor, square: Tensor, eps = 0): Tensor {
  const out = filled(numerator.device, numerator.shape, 0);
  stepOverRoot(out, numerator, square, { learningRate: -1, eps });
  return out;
}
