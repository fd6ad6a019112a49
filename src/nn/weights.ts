// Where a model's layers take their weights from, by official parameter name, and who owns them.
// Not file formats: a reader hands over bytes; io/ and models/ know files and layouts.
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { elementCount, type Shape, sameShape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import type { LinearWeight, PackedWeight } from "../device/kernels.ts";
import type { Address } from "../ffi/host-memory.ts";
import { openScope } from "../tensor/scope.ts";
import { empty, mapped, ownedEmpty, type Tensor } from "../tensor/tensor.ts";

/** A frozen Linear weight [N, K], in the form the device wants. */
export class FrozenWeight implements LinearWeight, Disposable {
  readonly shape: readonly [outputs: number, inputs: number];
  readonly #device: Device;
  #dtype: DType;
  #scale: Tensor | undefined;
  #plain: Tensor | undefined;
  #packed: PackedWeight | undefined;

  constructor(plain: Tensor, scale?: Tensor) {
    this.#dtype = plain.dtype;
    this.shape = [plain.shape[0]!, plain.shape[1]!];
    this.#scale = scale;
    this.#device = plain.device;
    this.#plain = plain;
  }

  get dtype(): DType {
    return this.#dtype;
  }

  get plain(): Tensor | undefined {
    return this.#plain;
  }

  /** float32; for quantised weights. */
  get scale(): Tensor | undefined {
    return this.#scale;
  }

  get packed(): PackedWeight | undefined {
    return this.#packed;
  }

  /** Changes to the device's own layout, where it has a better one, and frees the plain form. */
  pack(rows?: number): void {
    if (!this.#plain || !isPlainFloat(this.#dtype)) return;
    this.#packed = this.#device.kernels.packWeight(this.#plain, rows);
    if (!this.#packed) return;
    this.#plain[Symbol.dispose]();
    this.#plain = undefined;
  }

  /** The values in `dtype` [N, K], in the current scope. */
  values(dtype: DType): Tensor {
    const { kernels } = this.#device;
    const result = empty(this.#device, this.shape, dtype);
    if (!isPlainFloat(this.dtype)) {
      kernels.dequantize(this.#plain!, this.#scale, result);
      return result;
    }
    if (this.#plain) {
      kernels.cast(this.#plain, result);
      return result;
    }
    if (dtype === this.dtype) {
      kernels.unpackWeight(this.#packed!, result);
      return result;
    }
    const unpacked = empty(this.#device, this.shape, this.dtype);
    kernels.unpackWeight(this.#packed!, unpacked);
    kernels.cast(unpacked, result);
    return result;
  }

  /** Replaces the values by `values` [N, K], which it then owns; the old form is freed. */
  replace(values: Tensor): void {
    this[Symbol.dispose]();
    this.#dtype = values.dtype;
    this.#plain = values;
  }

  [Symbol.dispose](): void {
    this.#plain?.[Symbol.dispose]();
    this.#plain = undefined;
    this.#scale?.[Symbol.dispose]();
    this.#scale = undefined;
    if (this.#packed) this.#device.free(this.#packed.block);
    this.#packed = undefined;
  }
}

function isPlainFloat(dtype: DType): boolean {
  return dtype === "f32" || dtype === "bf16" || dtype === "f16";
}

/** What a layer asks when it is built. Everything handed out is owned by the provider and freed with it. */
export interface WeightProvider extends Disposable {
  readonly device: Device;
  /** A vector, table or convolution kernel in `dtype`; "stored": as the file has it (large tables that are only looked up). */
  tensor(name: string, shape: Shape, dtype: DType | "stored"): Tensor;
  /** A Linear's weight [N, K] for products in `dtype`; a trainable one keeps `storedShape` (default [N, K]). */
  linear(name: string, shape: readonly [number, number], dtype: DType, storedShape?: Shape): FrozenWeight | Tensor;
  /** True where the weights have such a parameter (optional parts of a model). */
  has(name: string): boolean;
}

/** One parameter as a file has it, under its official name and shape. Plain data. */
export interface StoredWeight {
  readonly dtype: DType;
  readonly shape: Shape;
  /** The bytes, row-major; a view that is valid while the reader is open. */
  bytes(): Uint8Array;
  /** Where the bytes are, if they are plain host memory that outlives the model: no copy is made then. */
  readonly address?: Address;
  /** Says that the bytes will not be read again soon, so that a file's pages need not stay in memory. */
  discard?(): void;
  /** Quantised weights: value = stored · scale; granularity by shape, see LinearWeight. */
  readonly scale?: { readonly values: Float32Array; readonly shape: Shape };
}

export interface WeightReader extends Disposable {
  names(): Iterable<string>;
  find(name: string): StoredWeight | undefined;
}

export interface LoadOptions {
  /** Every parameter is a float32 leaf that gathers its gradient (full fine-tune). */
  trainable?: boolean;
  /** Keep f8/i8 weights quantised (dequantised block by block in each product) instead of widening them at load. */
  keepQuantized?: boolean;
  /**
   * Quantise a Linear weight [N, K] to f8e4m3 as it is loaded: the shape of its scales, by its name and shape (see
   * LinearWeight.scale), or undefined to leave it. Weights that are stored quantised are kept.
   */
  quantize?: (name: string, shape: readonly [number, number]) => Shape | undefined;
  /** Change Linear weights to the device's own layout: faster products, no plain copy. Not for training. */
  pack?: boolean;
  /** Called after each parameter, for progress. */
  loaded?: (name: string, bytes: number) => void;
}

/**
 * Hands out stored weights: converted once to what the layer asks, mapped without a copy where nothing changes. Owns its
 * reader, which closes last.
 */
export class WeightLoader implements WeightProvider {
  readonly device: Device;
  readonly parameters = new Map<string, Tensor>();
  readonly #reader: WeightReader;
  readonly #options: LoadOptions;
  readonly #owned: Disposable[] = [];
  readonly #asked = new Set<string>();

  constructor(device: Device, reader: WeightReader, options: LoadOptions = {}) {
    this.device = device;
    this.#reader = reader;
    this.#options = options;
  }

  has(name: string): boolean {
    return this.#reader.find(name) !== undefined;
  }

  tensor(name: string, shape: Shape, dtype: DType | "stored"): Tensor {
    const stored = this.#stored(name, shape);
    if (this.#options.trainable) return this.#trainable(name, stored);
    const asStored = dtype === "stored" && !stored.scale && isPlainFloat(stored.dtype);
    return this.#own(this.#convert(stored, asStored ? stored.dtype : dtype === "stored" ? "bf16" : dtype));
  }

  linear(
    name: string,
    shape: readonly [number, number],
    dtype: DType,
    storedShape: Shape = shape,
  ): FrozenWeight | Tensor {
    const found = this.#stored(name, storedShape);
    if (this.#options.trainable) return this.#trainable(name, found);
    const stored: StoredWeight = { ...found, bytes: () => found.bytes(), shape };
    const quantized = stored.scale !== undefined || !isPlainFloat(stored.dtype);
    const scales = this.#options.quantize?.(name, shape);
    let weight: FrozenWeight;
    if (!quantized && scales) {
      weight = this.#quantized(stored, scales);
    } else if (quantized && (this.#options.keepQuantized || scales)) {
      const scale = stored.scale && ownedEmpty(this.device, stored.scale.shape, "f32", "weights");
      if (scale) scale.write(stored.scale!.values);
      weight = new FrozenWeight(this.#plain(stored), scale);
    } else {
      weight = new FrozenWeight(this.#convert(stored, dtype));
    }
    if (this.#options.pack) {
      weight.pack();
      if (weight.packed) stored.discard?.();
    }
    this.#owned.push(weight);
    return weight;
  }

  /** Names the reader has that no layer asked for. */
  unused(): string[] {
    return [...this.#reader.names()].filter((name) => !this.#asked.has(name));
  }

  #stored(name: string, shape: Shape): StoredWeight {
    const stored = this.#reader.find(name);
    if (!stored) {
      throw new KinoraError("weights.missing", `the weights have no ${name}`, { expected: `[${shape}]` });
    }
    if (!sameShape(stored.shape, shape)) {
      throw new KinoraError("weights.shape", `${name} has the wrong shape`, {
        expected: `[${shape}]`,
        actual: `[${stored.shape}]`,
      });
    }
    this.#asked.add(name);
    this.#options.loaded?.(name, elementCount(shape) * bytesOf(stored.dtype));
    return stored;
  }

  #own<T extends Disposable>(item: T): T {
    this.#owned.push(item);
    return item;
  }

  #trainable(name: string, stored: StoredWeight): Tensor {
    const parameter = this.#own(this.#copy(stored, "f32")).requireGradient();
    this.parameters.set(name, parameter);
    return parameter;
  }

  /** As stored: mapped where the bytes outlive us, else copied. */
  #plain(stored: StoredWeight): Tensor {
    if (stored.address !== undefined && stored.address % bytesOf(stored.dtype) === 0) {
      const tensor = mapped(this.device, stored.address, stored.shape, stored.dtype);
      if (tensor) return tensor;
    }
    const tensor = ownedEmpty(this.device, stored.shape, stored.dtype, "weights");
    tensor.writeBytes(stored.bytes());
    stored.discard?.();
    return tensor;
  }

  /** One weight at a time: the wide values are the file's own pages. */
  #quantized(stored: StoredWeight, scales: Shape): FrozenWeight {
    const data = ownedEmpty(this.device, stored.shape, "f8e4m3", "weights");
    const scale = ownedEmpty(this.device, scales, "f32", "weights");
    using source = this.#plain(stored);
    this.device.kernels.quantize(source, data, scale);
    stored.discard?.();
    return new FrozenWeight(data, scale);
  }

  #convert(stored: StoredWeight, dtype: DType): Tensor {
    if (stored.dtype === dtype && !stored.scale) return this.#plain(stored);
    return this.#copy(stored, dtype);
  }

  #copy(stored: StoredWeight, dtype: DType): Tensor {
    const target = ownedEmpty(this.device, stored.shape, dtype, "weights");
    using source = this.#plain(stored);
    using _scope = openScope(this.device);
    if (stored.scale || !isPlainFloat(stored.dtype)) {
      const scale = stored.scale && empty(this.device, stored.scale.shape, "f32");
      scale?.write(stored.scale!.values);
      this.device.kernels.dequantize(source, scale, target);
    } else {
      this.device.kernels.cast(source, target);
    }
    stored.discard?.();
    return target;
  }

  [Symbol.dispose](): void {
    for (const item of this.#owned.splice(0)) item[Symbol.dispose]();
    for (const parameter of this.parameters.values()) parameter.clearGradient();
    this.#reader[Symbol.dispose]();
    this.device.trim();
  }
}

/** A reader over values in memory: tests, golden fixtures, freshly initialised models. */
export function readerFrom(
  entries: Iterable<readonly [name: string, weight: { dtype: DType; shape: Shape; bytes: Uint8Array }]>,
): WeightReader {
  const map = new Map(entries);
  return {
    names: () => map.keys(),
    find(name) {
      const entry = map.get(name);
      return entry && { dtype: entry.dtype, shape: entry.shape, bytes: () => entry.bytes };
    },
    [Symbol.dispose]() {},
  };
}

/** The stored values as float32, scales applied: for the few small tables that are read on the host. */
export function storedValues(stored: StoredWeight): Float32Array {
  const values = toFloat32(stored.bytes(), stored.dtype);
  if (stored.scale?.values.length === 1) {
    const factor = stored.scale.values[0]!;
    for (let i = 0; i < values.length; i++) values[i]! *= factor;
  }
  return values;
}
