// What the training loop asks of an optimizer, and what all of them share.
import type { Device } from "../../device/device.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, type Tensor } from "../../tensor/tensor.ts";

export interface Optimizer extends Disposable {
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Steps done. */
  step: number;
  /** Global L2 norm of the gradients gathered so far. */
  gradientNorm(): Promise<number>;
  /** One update from the gathered gradients, each multiplied by `gradientScale`; clears them. */
  update(learningRate: number, gradientScale?: number): void;
  /** Its state by name, for saving; writing to these tensors restores it. */
  state(): Map<string, Tensor>;
}

/** √Σ‖g‖² over all gathered gradients; read once, when all are summed. */
export async function globalNorm(device: Device, parameters: ReadonlyMap<string, Tensor>): Promise<number> {
  const gradients = [...parameters.values()].flatMap(({ gradient }) => gradient ?? []);
  if (gradients.length === 0) return 0;
  using _scope = openScope(device);
  const squares = empty(device, [gradients.length], "f32");
  for (const [i, gradient] of gradients.entries()) device.kernels.sumSquares(gradient, squares.rows(i, 1));
  return Math.sqrt((await squares.read()).reduce((sum, square) => sum + square, 0));
}
