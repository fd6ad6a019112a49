// Reads a PyTorch checkpoint (the zip archive of torch.save) as named tensors, executing nothing.
// Stored, contiguous tensors are views of the mapped file; others are gathered on each read.
import { bytesOf } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { elementCount } from "../base/shape.ts";
import type { Address, FileMap } from "../ffi/host-memory.ts";
import { mapFile, naming } from "./files.ts";
import { type TensorInfo, type TensorSource, unknownTensor } from "./named-tensors.ts";
import { isTensor, type PickleValue, readTorchPickle, type TensorRef } from "./torch-pickle.ts";
import { readZipDirectory, readZipEntry, swellLimit, type ZipEntry } from "./zip-directory.ts";

const MAX_PICKLE_BYTES = 100_000_000;
const MAX_NESTING = 16;
/** Of a tensor's name. One long key shared by many tensors would otherwise be copied into each of their names. */
const MAX_NAME = 1000;

/** Keys under which training tools keep the weights beside an optimizer, an epoch count and the like. */
const wrappers = ["state_dict", "model_state_dict", "model", "module", "generator_ema", "generator", "ema", "params"];

interface Found {
  tensors: Map<string, TensorRef>;
  metadata: Map<string, string>;
}

/** The weights' own dictionary, and the names of what stood beside it. */
function unwrap(root: PickleValue): { root: PickleValue; besides: Map<PickleValue, PickleValue> } {
  if (!(root instanceof Map) || [...root.values()].some(isTensor)) return { root, besides: new Map() };
  const key = wrappers.find((name) => root.get(name) instanceof Map);
  if (key === undefined) return { root, besides: new Map() };
  const besides = new Map(root);
  besides.delete(key);
  return { root: root.get(key)!, besides };
}

/**
 * Names every tensor by its path of keys. References can make a short pickle describe an endless tree, so both the
 * depth and the number of steps are bounded.
 */
function flatten(root: PickleValue, steps: number): Found {
  if (!(root instanceof Map || Array.isArray(root) || isTensor(root))) {
    throw new KinoraError("torch-zip.bad-pickle", "the checkpoint contains a plain value, not tensors");
  }
  const found: Found = { tensors: new Map(), metadata: new Map() };
  const visit = (value: PickleValue, path: string, depth: number): void => {
    if (depth > MAX_NESTING || path.length > MAX_NAME || --steps < 0) {
      throw new KinoraError("torch-zip.bad-pickle", "the pickle nests its values too deeply");
    }
    if (isTensor(value)) {
      // A checkpoint may be one bare tensor.
      if (path === "") path = "tensor";
      if (found.tensors.has(path)) throw new KinoraError("torch-zip.bad-pickle", `two tensors have the name ${path}`);
      found.tensors.set(path, value);
    } else if (value instanceof Map || Array.isArray(value)) {
      for (const [key, item] of value.entries()) {
        if (typeof key !== "string" && typeof key !== "number") continue;
        visit(item, path === "" ? `${key}` : `${path}.${key}`, depth + 1);
      }
    } else if (["string", "number", "boolean", "bigint"].includes(typeof value)) {
      found.metadata.set(path, String(value));
    }
  };
  visit(root, "", 0);
  return found;
}

function contiguous({ shape, stride }: TensorRef): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && stride[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}

/** Copies a strided view into row-major order; `unit` is 1, 2 or 4 bytes. */
function gatherUnits(
  source: Uint8Array,
  unit: number,
  ref: Pick<TensorRef, "offset" | "shape" | "stride">,
): Uint8Array {
  const View = unit === 1 ? Uint8Array : unit === 2 ? Uint16Array : Uint32Array;
  const aligned = source.byteOffset % unit === 0 ? source : source.slice();
  const from = new View(aligned.buffer as ArrayBuffer, aligned.byteOffset, Math.floor(aligned.byteLength / unit));
  const to = new View(elementCount(ref.shape));
  const inner = ref.shape.at(-1) ?? 1;
  const step = ref.stride.at(-1) ?? 1;
  const outer = ref.shape.slice(0, -1);
  const index = outer.map(() => 0);
  for (let at = 0, row = ref.offset; at < to.length; at += inner) {
    if (step === 1) to.set(from.subarray(row, row + inner), at);
    else for (let i = 0; i < inner; i++) to[at + i] = from[row + i * step]!;
    for (let axis = outer.length - 1; axis >= 0; axis--) {
      row += ref.stride[axis]!;
      if (++index[axis]! < outer[axis]!) break;
      row -= outer[axis]! * ref.stride[axis]!;
      index[axis] = 0;
    }
  }
  return new Uint8Array(to.buffer as ArrayBuffer);
}

function gather(source: Uint8Array, { dtype, offset, shape, stride }: TensorRef): Uint8Array {
  const bytes = bytesOf(dtype);
  if (bytes < 8) return gatherUnits(source, bytes, { offset, shape, stride });
  // Eight-byte elements as pairs of four, which keeps every bit of a NaN.
  return gatherUnits(source, 4, {
    offset: offset * 2,
    shape: [...shape, 2],
    stride: [...stride.map((step) => step * 2), 1],
  });
}

export class TorchZipFile implements TensorSource {
  readonly path: string;
  readonly format = "torch zip";
  readonly names: readonly string[];
  /** The plain values (epoch, version…) found in the checkpoint, by their path of keys. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #map: FileMap;
  readonly #entries: ReadonlyMap<string, ZipEntry>;
  readonly #prefix: string;
  readonly #tensors: ReadonlyMap<string, TensorRef>;

  private constructor(path: string, map: FileMap) {
    this.path = path;
    this.#map = map;
    this.#entries = readZipDirectory(map);
    this.#prefix = this.#findPrefix();
    const pickle = this.#entry("data.pkl");
    if (pickle.size > MAX_PICKLE_BYTES) {
      throw new KinoraError("torch-zip.bad-pickle", "data.pkl is far too large for a state dict", {
        expected: `at most ${MAX_PICKLE_BYTES} bytes`,
        actual: `${pickle.size}`,
      });
    }
    const { root, besides } = unwrap(readTorchPickle(readZipEntry(map, pickle)));
    const { tensors, metadata } = flatten(root, pickle.size);
    for (const [key, value] of besides) {
      const plain = value === null || typeof value !== "object";
      metadata.set(String(key), plain ? String(value) : "(left out: not part of the weights)");
    }
    for (const [name, ref] of tensors) this.#check(name, ref);
    this.#tensors = tensors;
    this.names = [...tensors.keys()];
    this.metadata = Object.assign(Object.create(null), Object.fromEntries(metadata));
  }

  /** Maps the archive and reads its directory and pickle. Throws `io.*`, `zip.*` and `torch-zip.*`, naming the file. */
  static open(path: string): TorchZipFile {
    const map = mapFile(path);
    try {
      return naming(path, () => new TorchZipFile(path, map));
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

  bytes(name: string): Uint8Array {
    const ref = this.#tensor(name);
    const range = this.#range(ref);
    if (range) return this.#map.bytes(range.start, range.end);
    if (ref.shape.includes(0)) return new Uint8Array(0);
    const storage = naming(this.path, () => readZipEntry(this.#map, this.#storage(ref)));
    if (!contiguous(ref)) return gather(storage, ref);
    const start = ref.offset * bytesOf(ref.dtype);
    return storage.subarray(start, start + bytesOf(ref.dtype) * elementCount(ref.shape));
  }

  address(name: string): Address | undefined {
    const range = this.#range(this.#tensor(name));
    return range && ((this.#map.address + range.start) as Address);
  }

  readAhead(name: string): void {
    const entry = this.#storage(this.#tensor(name));
    this.#map.readAhead(entry.start, entry.start + entry.compressedSize);
  }

  discard(name: string): void {
    const entry = this.#storage(this.#tensor(name));
    this.#map.discard(entry.start, entry.start + entry.compressedSize);
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }

  /** Archives hold everything in one folder, named after the file as it was first saved. */
  #findPrefix(): string {
    const pickles = [...this.#entries.keys()].filter((name) => /^(?:[^/]+\/)?data\.pkl$/.test(name));
    const prefix = pickles[0]?.slice(0, -"data.pkl".length);
    if (prefix === undefined || pickles.length > 1) {
      throw new KinoraError("torch-zip.not-a-checkpoint", "a zip archive that was not written by torch.save", {
        expected: "one data.pkl",
        actual: `${pickles.length} among ${this.#entries.size} entries`,
      });
    }
    if (this.#entries.has(`${prefix}constants.pkl`)) {
      throw new KinoraError("torch-zip.not-a-checkpoint", "a TorchScript program, not plain weights", {
        hint: "save the module's state_dict() as safetensors instead",
      });
    }
    const order = this.#entries.get(`${prefix}byteorder`);
    if (order && order.size < 16) {
      const text = new TextDecoder().decode(readZipEntry(this.#map, order));
      if (text !== "little") throw new KinoraError("torch-zip.byte-order", `the tensors are stored ${text}-endian`);
    }
    return prefix;
  }

  #entry(name: string): ZipEntry {
    const entry = this.#entries.get(`${this.#prefix}${name}`);
    if (!entry) throw new KinoraError("torch-zip.missing-entry", `the archive lacks ${this.#prefix}${name}`);
    return entry;
  }

  #storage(ref: TensorRef): ZipEntry {
    return this.#entry(`data/${ref.storage.key}`);
  }

  #tensor(name: string): TensorRef {
    const ref = this.#tensors.get(name);
    if (!ref) throw unknownTensor(this.path, name, this.names);
    return ref;
  }

  /** Where a tensor lies in the file as it is, if it does. */
  #range(ref: TensorRef): { start: number; end: number } | undefined {
    const entry = this.#storage(ref);
    if (entry.method !== "stored" || !contiguous(ref) || ref.shape.includes(0)) return undefined;
    const start = entry.start + ref.offset * bytesOf(ref.dtype);
    return { start, end: start + bytesOf(ref.dtype) * elementCount(ref.shape) };
  }

  #check(name: string, ref: TensorRef): void {
    const { dtype, length, key } = ref.storage;
    const stored = length * (dtype ? bytesOf(dtype) : 1);
    const entry = this.#storage(ref);
    if (entry.size !== stored) {
      throw new KinoraError(
        "torch-zip.wrong-size",
        `the storage ${key} of tensor ${name} has another size than the pickle says`,
        {
          expected: `${stored} bytes`,
          actual: `${entry.size}`,
        },
      );
    }
    // A stride of zero makes one stored number stand for any count of them.
    const bytes = bytesOf(ref.dtype) * elementCount(ref.shape);
    if (!(bytes <= swellLimit(stored))) {
      throw new KinoraError("torch-zip.expanded", `tensor ${name} repeats its storage too often`, {
        expected: `at most ${swellLimit(stored)} bytes`,
        actual: `${bytes}`,
      });
    }
  }
}
