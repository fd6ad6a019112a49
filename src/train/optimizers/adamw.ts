// AdamW over named parameters (Loshchilov & Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it.
import type { Device } from "../../device/device.ts";
import { ownedEmpty, type Tensor } from "../../tensor/tensor.ts";
import { globalNorm, type Optimizer } from "./optimizer.ts";

export interface AdamWSettings {
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
}

/** What a kernel needs to know of a step. */
export function adamwOptions(settings: AdamWSettings, step: number, learningRate: number, gradientScale: number) {
  const { betas, eps, weightDecay } = settings;
  return { learningRate, beta1: betas[0], beta2: betas[1], eps, weightDecay, step, gradientScale };
}

export class AdamW implements Optimizer {
  readonly settings: AdamWSettings;
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** First and second moments by parameter name, float32. */
  readonly moments = new Map<string, { m: Tensor; v: Tensor }>();
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

  gradientNorm(): Promise<number> {
    return globalNorm(this.#device, this.parameters);
  }

  update(learningRate: number, gradientScale = 1): void {
    this.step++;
    const options = adamwOptions(this.settings, this.step, learningRate, gradientScale);
    for (const [name, parameter] of this.parameters) {
      const { gradient } = parameter;
      if (!gradient) continue;
      const { m, v } = this.moments.get(name)!;
      this.#device.kernels.adamw(parameter, gradient, m, v, options);
      parameter.clearGradient();
    }
  }

  state(): Map<string, Tensor> {
    return new Map(
      [...this.moments].flatMap(([name, { m, v }]) => [
        [`${name}.m`, m],
        [`${name}.v`, v],
      ]),
    );
  }

  [Symbol.dispose](): void {
    for (const { m, v } of this.moments.values()) {
      m[Symbol.dispose]();
      v[Symbol.dispose]();
    }
    this.moments.clear();
  }
}
