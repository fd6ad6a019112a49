// Reads a safetensors file through a memory map, without a copy. Not its shards (sharded.ts), nor writing.
import type { Address, FileMap } from "../ffi/host-memory.ts";
import { mapFile, naming } from "./files.ts";
import { type TensorInfo, type TensorSource, unknownTensor } from "./named-tensors.ts";
import { headerLength, type PlacedTensor, PREFIX_BYTES, parseHeader } from "./safetensors-header.ts";

export class SafetensorsFile implements TensorSource {
  readonly path: string;
  readonly format = "safetensors";
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the data begins in the file. */
  readonly dataStart: number;
  readonly #map: FileMap;
  readonly #tensors: ReadonlyMap<string, PlacedTensor>;

  private constructor(path: string, map: FileMap) {
    this.path = path;
    this.#map = map;
    const length = headerLength(map.bytes(0, Math.min(PREFIX_BYTES, map.size)), map.size);
    this.dataStart = PREFIX_BYTES + length;
    const header = parseHeader(map.bytes(PREFIX_BYTES, this.dataStart), map.size - this.dataStart);
    this.names = header.tensors.map((tensor) => tensor.name);
    this.#tensors = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
    this.metadata = Object.assign(Object.create(null), Object.fromEntries(header.metadata));
  }

  /** Maps the file and checks its header. Throws `io.*` and `safetensors.*`, naming the file. */
  static open(path: string): SafetensorsFile {
    const map = mapFile(path);
    try {
      return naming(path, () => new SafetensorsFile(path, map));
    } catch (error) {
      map[Symbol.dispose]();
      throw error;
    }
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): TensorInfo {
    return this.#tensor(name);
  }

  /** Bytes `[start, end)` of the tensor within the file. */
  range(name: string): { start: number; end: number } {
    const { start, end } = this.#tensor(name);
    return { start: this.dataStart + start, end: this.dataStart + end };
  }

  bytes(name: string): Uint8Array {
    const { start, end } = this.range(name);
    return this.#map.bytes(start, end);
  }

  address(name: string): Address {
    return (this.#map.address + this.range(name).start) as Address;
  }

  readAhead(name: string): void {
    const { start, end } = this.range(name);
    this.#map.readAhead(start, end);
  }

  discard(name: string): void {
    const { start, end } = this.range(name);
    this.#map.discard(start, end);
  }

  #tensor(name: string): PlacedTensor {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw unknownTensor(this.path, name, this.names);
    return tensor;
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}
