// A parameter that is no product's weight (a bias, a norm's gain, a modulation table), and the seam for its adapters.

import type { Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import type { Adapter, Seam } from "./adapter.ts";
import type { WeightProvider } from "./weights.ts";

export class Parameter implements Seam {
  readonly device: Device;
  /** The official name, e.g. `blocks.0.norm3.weight`. */
  readonly name: string;
  readonly adapters: Adapter[] = [];
  /** float32, as it was loaded. */
  readonly #base: Tensor;

  constructor(weights: WeightProvider, name: string, shape: Shape) {
    this.device = weights.device;
    this.name = name;
    this.#base = weights.tensor(name, shape, "f32");
  }

  get shape(): Shape {
    return this.#base.shape;
  }

  /** With its adapters, then in the current scope; the loaded tensor itself where there are none. */
  get value(): Tensor {
    if (this.adapters.length === 0) return this.#base;
    const total = empty(this.device, this.#base.shape, "f32");
    this.device.kernels.cast(this.#base, total);
    for (const adapter of this.adapters) adapter.delta(total);
    return total;
  }
}
