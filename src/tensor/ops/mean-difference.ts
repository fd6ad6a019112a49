// mean(f(prediction − target)·mask) for functions of a difference that losses are made of. Each is a few elementwise kernels.
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";
import { stepOverRoot } from "./over-root.ts";

/** With d the difference: d²; |d|; scale·(d²/2 up to delta, delta·(|d| − delta/2) above); √(d² + c²) − c. */
export type DifferenceLoss =
  | { kind: "square" }
  | { kind: "l1" }
  | { kind: "huber"; delta: number; scale: number }
  | { kind: "pseudo-huber"; c: number };

/** f(d) and f'(d), element by element, float32 in the current scope. */
function evaluate(d: Tensor, loss: DifferenceLoss): { value: Tensor; slope: Tensor } {
  const { device, shape } = d;
  const { kernels } = device;
  const fresh = () => empty(device, shape, "f32");
  const [value, slope] = [fresh(), fresh()];
  switch (loss.kind) {
    case "square":
      kernels.binary("multiply", d, d, value);
      kernels.affine(d, 2, undefined, 0, slope);
      break;
    case "l1":
      // −1, 0 or 1: twice, for differences that a single factor would leave below 1.
      for (const source of [d, slope]) {
        kernels.affine(source, 1e30, undefined, 0, slope);
        kernels.clamp(slope, -1, 1, slope);
      }
      kernels.binary("multiply", d, slope, value);
      break;
    case "huber": {
      // With c = d limited to ±delta: c·(d − c/2), whose slope is c.
      const { delta, scale } = loss;
      kernels.clamp(d, -delta, delta, slope);
      const rest = fresh();
      kernels.affine(d, scale, slope, -scale / 2, rest);
      kernels.binary("multiply", slope, rest, value);
      kernels.affine(slope, scale, undefined, 0, slope);
      break;
    }
    case "pseudo-huber": {
      const { c } = loss;
      const [square, moved] = [fresh(), fresh()];
      kernels.binary("multiply", d, d, square);
      kernels.affine(square, 1, undefined, 0, moved, c * c);
      kernels.fill(slope, 0);
      stepOverRoot(slope, d, moved, { learningRate: -1 });
      // d²/(√(d² + c²) + c) is √(d² + c²) − c without its cancellation.
      kernels.fill(value, 0);
      stepOverRoot(value, square, moved, { learningRate: -1, eps: c });
      break;
    }
  }
  return { value, slope };
}

/**
 * Scalar [1] float32, times `weight`. The target has no gradient. `mask` broadcasts to the prediction; elements that it
 * hides stay in the mean.
 */
export function meanOf(
  prediction: Tensor,
  target: Tensor,
  weight: number,
  loss: DifferenceLoss,
  mask?: Tensor,
): Tensor {
  const { device, shape, size } = prediction;
  const { kernels } = device;
  const difference = empty(device, shape, "f32");
  kernels.affine(prediction, 1, target, -1, difference);
  const { value, slope } = evaluate(difference, loss);
  if (mask) for (const tensor of [value, slope]) kernels.binary("multiply", tensor, mask, tensor);
  const output = empty(device, [1], "f32");
  kernels.sum(value.alias([size]), [0], output);
  kernels.affine(output, weight / size, undefined, 0, output);
  return record("meanOf", output, [prediction], [slope], (dy, _needs, [saved]) => {
    const scaled = empty(dy.device, saved!.shape, "f32");
    dy.device.kernels.affine(saved!, weight / saved!.size, undefined, 0, scaled);
    const dx = empty(dy.device, saved!.shape, prediction.dtype);
    dy.device.kernels.binary("multiply", scaled, dy, dx);
    return [dx];
  });
}
