// Weights and inputs drawn on the host for tests: every parameter random, biases and gains too, the same on every device.
import type { DType } from "../../src/base/dtype.ts";
import { elementCount, type Shape } from "../../src/base/shape.ts";
import type { Device } from "../../src/device/device.ts";
import { FrozenWeight } from "../../src/nn/frozen-weight.ts";
import { type LookupTable, tableOf } from "../../src/nn/lookup-table.ts";
import type { WeightProvider } from "../../src/nn/weights.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";

/** Uniform in −1…1 (mulberry32). */
export function draws(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function drawn(device: Device, shape: Shape, seed: number): Tensor {
  const next = draws(seed);
  return fromValues(device, Float32Array.from({ length: elementCount(shape) }, next), shape);
}

export interface DrawnOptions {
  seed?: number;
  trainable?: boolean;
  /** Names whose values are all zero. */
  zero?: RegExp;
}

export class DrawnWeights implements WeightProvider {
  readonly device: Device;
  readonly parameters = new Map<string, Tensor>();
  readonly shapes = new Map<string, Shape>();
  readonly #options: DrawnOptions;
  readonly #owned: Disposable[] = [];

  constructor(device: Device, options: DrawnOptions = {}) {
    this.device = device;
    this.#options = options;
  }

  has(): boolean {
    return true;
  }

  tensor(name: string, shape: Shape, dtype: DType): Tensor {
    const { trainable } = this.#options;
    const tensor = ownedEmpty(this.device, shape, trainable ? "f32" : dtype, "weights");
    if (this.device.computes) this.#draw(name, tensor);
    this.shapes.set(name, shape);
    this.#owned.push(tensor);
    if (trainable) this.parameters.set(name, tensor.requireGradient());
    return tensor;
  }

  table(name: string, shape: readonly [number, number]): LookupTable {
    return tableOf(this.tensor(name, shape, "f32"));
  }

  #draw(name: string, target: Tensor): void {
    const { zero, seed = 1 } = this.#options;
    const next = draws(seed * 7919 + this.shapes.size);
    const gain = /gamma$/.test(name) ? 1 : 0;
    const fanIn = Math.max(1, elementCount(target.shape.slice(1)));
    const spread = gain || /bias$/.test(name) ? 0.2 : Math.sqrt(3 / fanIn);
    const value = () => (zero?.test(name) ? 0 : gain + spread * next());
    using _scope = openScope(this.device);
    const values = fromValues(this.device, Float32Array.from({ length: target.size }, value), target.shape);
    this.device.kernels.cast(values, target);
  }

  linear(name: string, shape: readonly [number, number], dtype: DType, stored: Shape = shape): FrozenWeight | Tensor {
    const tensor = this.tensor(name, stored, dtype);
    if (this.#options.trainable) return tensor;
    using _scope = openScope(this.device);
    const weight = new FrozenWeight(tensor.alias(shape).retain());
    this.#owned.push(weight);
    return weight;
  }

  [Symbol.dispose](): void {
    for (const item of this.#owned.splice(0)) item[Symbol.dispose]();
    for (const parameter of this.parameters.values()) parameter.clearGradient();
  }
}
