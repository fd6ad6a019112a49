// Dropout of adapters: which hidden values are zero in this batch, drawn from the counter-based generator, so that a
// block that runs again for its gradient, and a run that goes on after a stop, drop the same ones.
import type { DType } from "../../base/dtype.ts";
import { normalQuantile } from "../../base/normal-distribution.ts";
import type { Shape } from "../../base/shape.ts";
import type { Device } from "../../device/device.ts";
import type { Dropout } from "../../lora/adapters/kind.ts";
import { empty, type Tensor } from "../../tensor/tensor.ts";

/** Makes a threshold of a multiplication: differences this large leave 0…1 at once. */
const STEEP = 1e30;

export class LoraDropout implements Disposable {
  readonly #device: Device;
  readonly #rate: number;
  readonly #threshold: number;
  #seed: bigint | undefined;

  /** `rate`: the share that is dropped, 0 … 1. */
  constructor(device: Device, rate: number) {
    this.#device = device;
    this.#rate = rate;
    this.#threshold = normalQuantile(rate);
  }

  /** From here on batches are training, with the draws of this seed: a new one for each batch. */
  begin(seed: bigint): void {
    this.#seed = seed;
  }

  /** From here on nothing is dropped: validation, previews. */
  end(): void {
    this.#seed = undefined;
  }

  /** The seam of one adapter; `module` numbers its stream of draws. */
  of(module: number): Dropout {
    return (shape, dtype) => this.#mask(module, shape, dtype);
  }

  /** 0 or 1/(1 − rate), so that the mean stays. A normal draw above the rate's quantile keeps its value. */
  #mask(stream: number, shape: Shape, dtype: DType): Tensor | undefined {
    if (this.#seed === undefined || this.#rate === 0) return undefined;
    const { kernels } = this.#device;
    const values = empty(this.#device, shape, "f32");
    kernels.normal(values, { seed: this.#seed, stream, offset: 0 });
    kernels.affine(values, STEEP, undefined, 0, values, -this.#threshold * STEEP);
    kernels.clamp(values, 0, 1, values);
    const mask = dtype === "f32" ? values : empty(this.#device, shape, dtype);
    kernels.affine(values, 1 / (1 - this.#rate), undefined, 0, mask);
    return mask;
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
