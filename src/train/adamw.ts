// AdamW over named parameters (Loshchilov & Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it.
import type { Device } from "../device/device.ts";
import { openScope } from "../tensor/scope.ts";
import { empty, ownedEmpty, type Tensor } from "../tensor/tensor.ts";

export interface AdamWSettings {
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
}

export class AdamW implements Disposable {
  readonly settings: AdamWSettings;
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** First and second moments by parameter name, float32. */
  readonly moments = new Map<string, { m: Tensor; v: Tensor }>();
  /** Steps done. */
  step = 0;
  readonly #device: Device;

  constructor(device: Device, parameters: ReadonlyMap<string, Tensor>, settings: AdamWSettings) {
    this.#device = device;
    this.parameters = parameters;
    this.settings = settings;
    for (const [name, parameter] of parameters) {
      const moment = () => {
        const tensor = ownedEmpty(device, parameter.shape, "f32", "optimizer");
        device.kernels.fill(tensor, 0);
        return tensor;
      };
      this.moments.set(name, { m: moment(), v: moment() });
    }
  }

  /** Global L2 norm of the gradients gathered so far. */
  async gradientNorm(): Promise<number> {
    using _scope = openScope(this.#device);
    let total = 0;
    for (const { gradient } of this.parameters.values()) {
      if (!gradient) continue;
      const square = empty(this.#device, [1], "f32");
      this.#device.kernels.sumSquares(gradient, square);
      total += await square.item();
    }
    return Math.sqrt(total);
  }

  /** One update from the gathered gradients, each multiplied by `gradientScale`; clears them. */
  update(learningRate: number, gradientScale = 1): void {
    this.step++;
    const { betas, eps, weightDecay } = this.settings;
    for (const [name, parameter] of this.parameters) {
      const { gradient } = parameter;
      if (!gradient) continue;
      const { m, v } = this.moments.get(name)!;
      this.#device.kernels.adamw(parameter, gradient, m, v, {
        learningRate,
        beta1: betas[0],
        beta2: betas[1],
        eps,
        weightDecay,
        step: this.step,
        gradientScale,
      });
      parameter.clearGradient();
    }
  }

  [Symbol.dispose](): void {
    for (const { m, v } of this.moments.values()) {
      m[Symbol.dispose]();
      v[Symbol.dispose]();
    }
    this.moments.clear();
  }
}
