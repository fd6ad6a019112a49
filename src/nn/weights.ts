// Where a model's layers take their weights from, by official parameter name, and who owns them.
// Not file formats: a reader hands over bytes; io/ and models/ know files and layouts.
import type { BlockFormat } from "../base/block-format.ts";
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { elementCount, type Shape, sameShape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import { openScope } from "../tensor/scope.ts";
import { empty, mapped, ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import { FrozenWeight } from "./frozen-weight.ts";
import { type LookupTable, storedTable, tableOf } from "./lookup-table.ts";
import { dataShape, inRows, isQuantized, type StoredWeight, storedBytes, widened } from "./stored-weight.ts";
import { type LayerWeight, StreamedWeight, type Uploader, type WeightSource } from "./streamed-weight.ts";

/** What a layer asks when it is built. Everything handed out is owned by the provider and freed with it. */
export interface WeightProvider extends Disposable {
  readonly device: Device;
  /** A vector or convolution kernel in `dtype`. */
  tensor(name: string, shape: Shape, dtype: DType): Tensor;
  /** A table [N, C] as the file has it, of which rows are looked up. */
  table(name: string, shape: readonly [number, number]): LookupTable;
  /** A Linear's weight [N, K] for products in `dtype`; a trainable one keeps `storedShape` (default [N, K]). */
  linear(name: string, shape: readonly [number, number], dtype: DType, storedShape?: Shape): LayerWeight | Tensor;
  /** True where the weights have such a parameter (optional parts of a model). */
  has(name: string): boolean;
}

export interface WeightReader extends Disposable {
  names(): Iterable<string>;
  find(name: string): StoredWeight | undefined;
}

export interface LoadOptions {
  /** Every parameter is a float32 leaf that gathers its gradient (full fine-tune). */
  trainable?: boolean;
  /**
   * Keep weights that are stored in 8 bits or in blocks so (widened some rows at a time in each product) instead of
   * widening them at load.
   */
  keepQuantized?: boolean;
  /**
   * Quantise a Linear weight [N, K] to f8e4m3 as it is loaded: the shape of its scales, by its name and shape (see
   * LinearWeight.scale), or undefined to leave it. Weights that are stored quantised are kept.
   */
  quantize?: (name: string, shape: readonly [number, number]) => Shape | undefined;
  /** Change Linear weights to the device's own layout: faster products, no plain copy. Not for training. */
  pack?: boolean;
  /** Linear weights that come and go, by name: whoever builds the model decides when (residency.ts). */
  stream?: (name: string) => boolean;
  /** Called after each parameter, for progress. */
  loaded?: (name: string, bytes: number) => void;
}

/** What a Linear's weight becomes on the device. */
interface Form {
  readonly dtype: DType;
  /** What its bytes hold, where it stays in blocks. */
  readonly blocks?: BlockFormat | undefined;
  /** The shape of its scales, where it is quantised. */
  readonly scale?: Shape | undefined;
  /** Whether the values stay as they are stored, or memory of its own is taken for them. */
  readonly as: "stored" | "new" | "packed";
  make(values: Tensor): FrozenWeight;
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

  tensor(name: string, shape: Shape, dtype: DType): Tensor {
    const stored = this.#stored(name, shape);
    if (this.#options.trainable) return this.#trainable(name, stored);
    return this.#own(
      stored.dtype === dtype && !isQuantized(stored) ? this.#fetch(stored) : this.#copied(stored, dtype),
    );
  }

  table(name: string, shape: readonly [number, number]): LookupTable {
    const stored = this.#stored(name, shape);
    if (this.#options.trainable) return tableOf(this.#trainable(name, stored));
    if (!isQuantized(stored)) return tableOf(this.#own(this.#fetch(stored)));
    if (!stored.blocks || inRows(stored)) return storedTable(this.device, stored);
    return tableOf(this.#own(this.#copied(stored, "bf16")));
  }

  linear(
    name: string,
    shape: readonly [number, number],
    dtype: DType,
    storedShape: Shape = shape,
  ): LayerWeight | Tensor {
    const found = this.#stored(name, storedShape);
    if (this.#options.trainable) return this.#trainable(name, found);
    const stored: StoredWeight = { ...found, bytes: () => found.bytes(), shape };
    const form = this.#form(name, stored, dtype);
    if (!this.#options.stream?.(name)) return this.#own(form.make(this.#fetch(stored)));
    return this.#own(new StreamedWeight(this.device, name, shape, this.#source(stored, form)));
  }

  /** Names the reader has that no layer asked for. */
  unused(): string[] {
    return [...this.#reader.names()].filter((name) => !this.#asked.has(name));
  }

  #stored(name: string, shape: Shape): StoredWeight {
    const stored = this.#reader.find(name);
    if (!stored) {
      throw new KinoraError("weights.missing", `the weights lack ${name}`, { expected: `[${shape}]` });
    }
    if (!sameShape(stored.shape, shape)) {
      throw new KinoraError("weights.shape", `${name} has the wrong shape`, {
        expected: `[${shape}]`,
        actual: `[${stored.shape}]`,
      });
    }
    this.#asked.add(name);
    this.#options.loaded?.(name, storedBytes(stored));
    return stored.blocks && !this.device.takesBlocks ? widened(stored) : stored;
  }

  #own<T extends Disposable>(item: T): T {
    this.#owned.push(item);
    return item;
  }

  #trainable(name: string, stored: StoredWeight): Tensor {
    const parameter = this.#own(this.#copied(stored, "f32")).requireGradient();
    this.parameters.set(name, parameter);
    return parameter;
  }

  /** The stored values on the device: mapped where the bytes outlive us, else copied. */
  #fetch(stored: StoredWeight, by: Uploader = this.device): Tensor {
    if (stored.address !== undefined && stored.address % bytesOf(stored.dtype) === 0) {
      const tensor = mapped(this.device, stored.address, dataShape(stored), stored.dtype);
      if (tensor) return tensor;
    }
    const tensor = ownedEmpty(this.device, dataShape(stored), stored.dtype, "weights");
    by.upload(tensor.block, tensor.offset, stored.bytes());
    stored.discard?.();
    return tensor;
  }

  /** What a Linear's weight becomes, and how: `make` takes over the stored values. */
  #form(name: string, stored: StoredWeight, dtype: DType): Form {
    const shape = stored.shape as [number, number];
    const quantized = isQuantized(stored);
    const { blocks } = stored;
    const kept = !blocks || inRows(stored);
    const scales = this.#options.quantize?.(name, shape);
    if (!quantized && scales) {
      return { dtype: "f8e4m3", scale: scales, as: "new", make: (values) => this.#quantized(values, stored, scales) };
    }
    if (quantized && kept && (this.#options.keepQuantized || scales)) {
      const make = (values: Tensor) => new FrozenWeight(values, stored.scale && this.#scale(stored.scale), blocks);
      return { dtype: stored.dtype, blocks, scale: stored.scale?.shape, as: "stored", make };
    }
    const same = stored.dtype === dtype && !quantized;
    const { pack = false } = this.#options;
    const make = (values: Tensor) => {
      const weight = new FrozenWeight(same ? values : this.#converted(values, stored, dtype));
      if (pack) weight.pack();
      if (weight.packed) stored.discard?.();
      return weight;
    };
    return { dtype, as: pack ? "packed" : same ? "stored" : "new", make };
  }

  #scale({ values, shape }: NonNullable<StoredWeight["scale"]>): Tensor {
    const scale = ownedEmpty(this.device, shape, "f32", "weights");
    scale.write(values);
    return scale;
  }

  /** One weight at a time: the wide values are the file's own pages. */
  #quantized(values: Tensor, stored: StoredWeight, scales: Shape): FrozenWeight {
    using source = values;
    const data = ownedEmpty(this.device, stored.shape, "f8e4m3", "weights");
    const scale = ownedEmpty(this.device, scales, "f32", "weights");
    this.device.kernels.quantize(source, data, scale);
    stored.discard?.();
    return new FrozenWeight(data, scale);
  }

  /** The stored values in memory of their own. */
  #copied(stored: StoredWeight, dtype: DType): Tensor {
    return this.#converted(this.#fetch(stored), stored, dtype);
  }

  /** The same of values that were fetched, which are freed. */
  #converted(values: Tensor, stored: StoredWeight, dtype: DType): Tensor {
    using source = values;
    const target = ownedEmpty(this.device, stored.shape, dtype, "weights");
    using _scope = openScope(this.device);
    if (isQuantized(stored)) {
      const scale = stored.scale && empty(this.device, stored.scale.shape, "f32");
      scale?.write(stored.scale!.values);
      this.device.kernels.dequantize(source, scale, target, stored.blocks);
    } else {
      this.device.kernels.cast(source, target);
    }
    stored.discard?.();
    return target;
  }

  /** Where a weight that comes and goes is brought from. */
  #source(stored: StoredWeight, { dtype, blocks, scale, as, make }: Form): WeightSource {
    const plain = blocks ? storedBytes(stored) : elementCount(stored.shape) * bytesOf(dtype);
    const bytes = plain + (scale ? elementCount(scale) * bytesOf("f32") : 0);
    const copied = this.#maps(stored) ? 0 : storedBytes(stored);
    const unpacked = as === "packed" && (copied > 0 || stored.dtype !== dtype) ? plain : 0;
    return {
      dtype,
      blocks,
      bytes,
      fetchedBytes: copied,
      mostBytes: bytes + (as === "new" ? copied : as === "packed" ? Math.max(copied, unpacked) : 0),
      readAhead: () => stored.readAhead?.(),
      fetch: (by) => this.#fetch(stored, by),
      make,
      left: () => stored.discard?.(),
    };
  }

  /** Whether the device reads a stored weight where it lies in the file. */
  #maps(stored: StoredWeight): boolean {
    const { address, dtype } = stored;
    if (address === undefined || address % bytesOf(dtype) !== 0) return false;
    using tensor = mapped(this.device, address, dataShape(stored), dtype);
    return tensor !== undefined;
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
  entries: Iterable<
    readonly [name: string, weight: Pick<StoredWeight, "dtype" | "shape" | "blocks" | "scale"> & { bytes: Uint8Array }]
  >,
): WeightReader {
  const map = new Map(entries);
  return {
    names: () => map.keys(),
    find(name) {
      const entry = map.get(name);
      return entry && { ...entry, bytes: () => entry.bytes };
    },
    [Symbol.dispose]() {},
  };
}
