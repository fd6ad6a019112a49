// A model's weights drawn at random in place: for benchmarks at full size, planning, and training from nothing.
import { bytesOf, type DType } from "../base/dtype.ts";
import { elementCount, type Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { openScope } from "../tensor/scope.ts";
import { empty, ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import { FrozenWeight } from "./frozen-weight.ts";
import { type LookupTable, tableOf } from "./lookup-table.ts";
import type { WeightProvider } from "./weights.ts";

export interface RandomOptions {
  seed?: bigint;
  /** See LoadOptions. */
  trainable?: boolean;
  pack?: boolean;
  /** Repeat the first values of each weight instead of drawing them all: thirty times quicker at full size. For benchmarks. */
  tiled?: boolean;
  /** Names that exist; all where absent. */
  has?: (name: string) => boolean;
}

/** Elements drawn at a time, so that float32 values never stand beside a whole narrow weight. */
const CHUNK = 1 << 20;

/** What a parameter starts as: one value, or normal values with variance 1/fan-in. */
export function initialValues(
  name: string,
  shape: Shape,
): { constant: number; deviation?: undefined } | { constant?: undefined; deviation: number } {
  if (/\.bias$/.test(name)) return { constant: 0 };
  if (/gamma$|norm[^.]*\.weight$/.test(name)) return { constant: 1 };
  return { deviation: 1 / Math.sqrt(Math.max(1, elementCount(shape.slice(1)))) };
}

/**
 * Normal values with variance 1/fan-in for products and convolutions, ones for norm gains, zeros for biases. Each
 * parameter has its own Philox stream by the order of asking.
 */
export class RandomWeights implements WeightProvider {
  readonly device: Device;
  readonly parameters = new Map<string, Tensor>();
  readonly #options: RandomOptions;
  readonly #owned: Disposable[] = [];
  #stream = 0;

  constructor(device: Device, options: RandomOptions = {}) {
    this.device = device;
    this.#options = options;
  }

  has(name: string): boolean {
    return this.#options.has?.(name) ?? true;
  }

  tensor(name: string, shape: Shape, dtype: DType): Tensor {
    const stored = this.#options.trainable ? "f32" : dtype;
    const tensor = ownedEmpty(this.device, shape, stored, "weights");
    this.#owned.push(tensor);
    const { constant, deviation } = initialValues(name, shape);
    if (deviation === undefined) this.device.kernels.fill(tensor, constant);
    else this.#draw(tensor, deviation);
    return this.#trainable(name, tensor);
  }

  table(name: string, shape: readonly [number, number]): LookupTable {
    return tableOf(this.tensor(name, shape, "bf16"));
  }

  linear(
    name: string,
    shape: readonly [number, number],
    dtype: DType,
    storedShape: Shape = shape,
  ): FrozenWeight | Tensor {
    if (this.#options.trainable) return this.tensor(name, storedShape, dtype);
    const tensor = ownedEmpty(this.device, shape, dtype, "weights");
    this.#draw(tensor, 1 / Math.sqrt(shape[1]));
    const weight = new FrozenWeight(tensor);
    if (this.#options.pack) weight.pack();
    this.#owned.push(weight);
    return weight;
  }

  #trainable(name: string, tensor: Tensor): Tensor {
    if (!this.#options.trainable) return tensor;
    this.parameters.set(name, tensor.requireGradient());
    return tensor;
  }

  #draw(target: Tensor, deviation: number): void {
    const stream = this.#stream++;
    const { kernels } = this.device;
    using _scope = openScope(this.device);
    const chunk = empty(this.device, [Math.min(CHUNK, target.size)], "f32", "workspace");
    for (let offset = 0; offset < target.size; offset += CHUNK) {
      const count = Math.min(CHUNK, target.size - offset);
      const values = { block: chunk.block, offset: 0, dtype: "f32" as const, shape: [count] };
      if (offset === 0 || !this.#options.tiled) {
        kernels.normal(values, { seed: this.#options.seed ?? 0n, stream, offset });
        kernels.affine(values, deviation, undefined, 0, values);
      }
      kernels.cast(values, {
        block: target.block,
        offset: target.offset + offset * bytesOf(target.dtype),
        dtype: target.dtype,
        shape: [count],
      });
    }
  }

  [Symbol.dispose](): void {
    for (const item of this.#owned.splice(0)) item[Symbol.dispose]();
    for (const parameter of this.parameters.values()) parameter.clearGradient();
  }
}
