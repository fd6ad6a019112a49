// Reads a GGUF file through a memory map: its metadata, and where each tensor's blocks lie. Not what blocks mean
// (base/ggml), nor writing (gguf-writer.ts). https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { blockBytes } from "../base/block-format.ts";
import { KinoraError } from "../base/errors.ts";
import { ggmlType } from "../base/ggml/types.ts";
import { elementCount } from "../base/shape.ts";
import type { Address, FileMap } from "../ffi/host-memory.ts";
import { mapFile, naming } from "./files.ts";
import { type TensorInfo, type TensorSource, tensorBytes, unknownTensor } from "./named-tensors.ts";

/** A value of the metadata. Integers of 64 bits are numbers where they are exact, else bigints. */
export type GgufValue = string | number | bigint | boolean | readonly GgufValue[];

export interface GgufTensor extends TensorInfo {
  readonly name: string;
  /** Within the data. */
  readonly start: number;
  readonly bytes: number;
}

const MAGIC = 0x46554747;
const DEFAULT_ALIGNMENT = 32;
/** Far beyond any model; what is larger is damage, and must not fill the memory. */
const MOST_TENSORS = 1_000_000;
const MOST_VALUES = 1_000_000;
const MOST_AXES = 8;
const MOST_TEXT = 64 * 2 ** 20;
/** Arrays within arrays. */
const DEEPEST = 4;

const scalarBytes: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const STRING = 8;
const ARRAY = 9;

/** Walks over the head of a file; whatever does not fit is `gguf.truncated`. */
class Cursor {
  readonly #map: FileMap;
  #at = 0;

  constructor(map: FileMap) {
    this.#map = map;
  }

  get at(): number {
    return this.#at;
  }

  take(count: number): DataView {
    if (count > this.#map.size - this.#at) {
      throw new KinoraError("gguf.truncated", "the file ends within its header", {
        expected: `at least ${this.#at + count} bytes`,
        actual: `${this.#map.size}`,
        hint: "download the file again",
      });
    }
    const bytes = this.#map.bytes(this.#at, this.#at + count);
    this.#at += count;
    return new DataView(bytes.buffer, bytes.byteOffset, count);
  }

  u32(): number {
    return this.take(4).getUint32(0, true);
  }

  /** A count or an offset. */
  size(what: string, most: number): number {
    const value = this.take(8).getBigUint64(0, true);
    if (value <= BigInt(most)) return Number(value);
    throw new KinoraError("gguf.malformed", `${what} is out of bounds`, {
      expected: `at most ${most}`,
      actual: `${value}`,
      hint: "download the file again",
    });
  }

  text(what: string): string {
    const view = this.take(this.size(`the length of ${what}`, MOST_TEXT));
    return new TextDecoder().decode(view);
  }

  value(type: number, depth = 0): GgufValue {
    if (type === STRING) return this.text("a text");
    if (type === ARRAY) return this.#array(depth);
    const bytes = scalarBytes[type];
    if (bytes === undefined) throw malformed(`a value of unknown type ${type}`);
    return scalar(this.take(bytes), type);
  }

  #array(depth: number): readonly GgufValue[] {
    if (depth >= DEEPEST) throw malformed("arrays nested too deeply");
    const type = this.u32();
    const count = this.size("the length of an array", Number.MAX_SAFE_INTEGER);
    const bytes = scalarBytes[type];
    if (bytes !== undefined) {
      const view = this.take(count * bytes);
      // Vocabularies of language models: nothing that a video model needs.
      const kept = Math.min(count, MOST_VALUES);
      return Array.from({ length: kept }, (_, i) =>
        scalar(new DataView(view.buffer, view.byteOffset + i * bytes, bytes), type),
      );
    }
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) {
      const value = this.value(type, depth + 1);
      if (values.length < MOST_VALUES) values.push(value);
    }
    return values;
  }
}

function scalar(view: DataView, type: number): GgufValue {
  switch (type) {
    case 0:
      return view.getUint8(0);
    case 1:
      return view.getInt8(0);
    case 2:
      return view.getUint16(0, true);
    case 3:
      return view.getInt16(0, true);
    case 4:
      return view.getUint32(0, true);
    case 5:
      return view.getInt32(0, true);
    case 6:
      return view.getFloat32(0, true);
    case 7:
      return view.getUint8(0) !== 0;
    case 10:
      return exact(view.getBigUint64(0, true));
    case 11:
      return exact(view.getBigInt64(0, true));
    default:
      return view.getFloat64(0, true);
  }
}

const exact = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

function malformed(what: string): KinoraError {
  return new KinoraError("gguf.malformed", `the file's header has ${what}`, { hint: "download the file again" });
}

export class GgufFile implements TensorSource {
  readonly path: string;
  readonly format = "gguf";
  readonly values: ReadonlyMap<string, GgufValue>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly names: readonly string[];
  /** In the order of their data. */
  readonly tensors: readonly GgufTensor[];
  readonly #map: FileMap;
  readonly #dataStart: number;
  readonly #byName: ReadonlyMap<string, GgufTensor>;

  private constructor(path: string, map: FileMap) {
    this.path = path;
    this.#map = map;
    const cursor = new Cursor(map);
    if (cursor.u32() !== MAGIC) throw malformed("no GGUF signature");
    const version = cursor.u32();
    if (version !== 2 && version !== 3) throw badVersion(version);
    const count = cursor.size("the number of tensors", MOST_TENSORS);
    const pairs = cursor.size("the number of metadata values", MOST_TENSORS);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < pairs; i++) {
      const key = cursor.text("a key");
      if (metadata.has(key)) throw malformed(`the key ${JSON.stringify(key)} twice`);
      metadata.set(key, cursor.value(cursor.u32()));
    }
    this.values = metadata;
    this.metadata = Object.assign(Object.create(null), Object.fromEntries(inWords(metadata)));
    const alignment = alignmentOf(metadata);
    const placed: GgufTensor[] = [];
    for (let i = 0; i < count; i++) placed.push(readTensor(cursor, metadata, alignment));
    this.#dataStart = Math.ceil(cursor.at / alignment) * alignment;
    this.#byName = new Map(placed.map((tensor) => [tensor.name, tensor]));
    if (this.#byName.size < placed.length) throw malformed("a tensor's name twice");
    this.tensors = placed.sort((a, b) => a.start - b.start);
    this.names = this.tensors.map(({ name }) => name);
    this.#checkPlaces();
  }

  /** Maps the file and checks its head. Throws `io.*` and `gguf.*`, naming the file. */
  static open(path: string): GgufFile {
    const map = mapFile(path);
    try {
      return naming(path, () => new GgufFile(path, map));
    } catch (error) {
      map[Symbol.dispose]();
      throw error;
    }
  }

  #checkPlaces(): void {
    let end = 0;
    for (const { name, start, bytes } of this.tensors) {
      if (start < end) throw malformed(`tensors that overlap, at ${JSON.stringify(name)}`);
      end = start + bytes;
    }
    if (this.#dataStart + end <= this.#map.size) return;
    throw new KinoraError("gguf.truncated", "the file is shorter than its tensors", {
      expected: `${this.#dataStart + end} bytes`,
      actual: `${this.#map.size}`,
      hint: "download the file again",
    });
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Throws `tensors.unknown-name`. */
  info(name: string): GgufTensor {
    const found = this.#byName.get(name);
    if (found) return found;
    throw unknownTensor(this.path, name, [...this.#byName.keys()]);
  }

  /** The tensor's bytes as they are stored; a view of the file, valid until this is disposed. */
  bytes(name: string): Uint8Array {
    const { start, bytes } = this.info(name);
    return this.#map.bytes(this.#dataStart + start, this.#dataStart + start + bytes);
  }

  address(name: string): Address {
    return (this.#map.address + this.#dataStart + this.info(name).start) as Address;
  }

  readAhead(name: string): void {
    const { start, bytes } = this.info(name);
    this.#map.readAhead(this.#dataStart + start, this.#dataStart + start + bytes);
  }

  /** Lets the system drop the mapped pages of a tensor that has been read. */
  discard(name: string): void {
    const { start, bytes } = this.info(name);
    this.#map.discard(this.#dataStart + start, this.#dataStart + start + bytes);
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}

/** Longer lists (vocabularies) are only counted. */
const LISTED = 16;

/** Metadata as words, as other formats have it. */
function* inWords(metadata: ReadonlyMap<string, GgufValue>): Generator<[string, string]> {
  // 64-bit integers beyond the exact ones are no JSON.
  const text = (value: GgufValue): string =>
    typeof value === "object" ? `[${value.map(text).join(", ")}]` : String(value);
  for (const [key, value] of metadata) {
    const long = typeof value === "object" && value.length > LISTED;
    yield [key, long ? `a list of ${value.length}` : text(value)];
  }
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (typeof alignment === "number" && Number.isInteger(alignment) && alignment > 0 && alignment <= 2 ** 20)
    return alignment;
  throw malformed(`the alignment ${String(alignment)}`);
}

function readTensor(cursor: Cursor, metadata: ReadonlyMap<string, GgufValue>, alignment: number): GgufTensor {
  const name = cursor.text("a tensor's name");
  const axes = cursor.u32();
  if (axes > MOST_AXES) throw malformed(`${axes} axes of ${JSON.stringify(name)}`);
  const stored: number[] = [];
  for (let i = 0; i < axes; i++) stored.push(cursor.size(`an axis of ${name}`, Number.MAX_SAFE_INTEGER));
  stored.reverse();
  const count = elementCount(stored);
  if (!Number.isSafeInteger(count)) throw malformed(`more elements of ${JSON.stringify(name)} than can be counted`);
  const id = cursor.u32();
  const type = ggmlType(id);
  if (!type) {
    throw new KinoraError("gguf.unknown-type", `${JSON.stringify(name)} uses an unknown number format`, {
      actual: `GGML type ${id}`,
      hint: "use a file in a common format, e.g. Q4_K_M or Q8_0",
    });
  }
  const start = cursor.size(`the offset of ${name}`, Number.MAX_SAFE_INTEGER);
  if (start % alignment !== 0) throw malformed(`an offset of ${JSON.stringify(name)} that is not aligned`);
  const shape = originalShape(metadata, name, count) ?? stored;
  if ("dtype" in type) {
    const info = { dtype: type.dtype, shape };
    return { name, ...info, start, bytes: tensorBytes(info) };
  }
  const { blocks } = type;
  const row = stored.at(-1) ?? 1;
  if (row % blocks.elements !== 0) throw malformed(`rows of ${row} elements in blocks of ${blocks.elements}`);
  return { name, shape, dtype: "u8", blocks, start, bytes: blockBytes(blocks, count) };
}

/** City96's tools reshape tensors whose rows are no whole blocks, and note the true shape. */
function originalShape(metadata: ReadonlyMap<string, GgufValue>, name: string, count: number): number[] | undefined {
  const noted = metadata.get(`comfy.gguf.orig_shape.${name}`);
  if (!Array.isArray(noted)) return undefined;
  const shape = noted.map(Number);
  return shape.length <= MOST_AXES && elementCount(shape) === count ? shape : undefined;
}

function badVersion(version: number): KinoraError {
  // Of the other byte order, a small number lies in the upper bytes.
  const bigEndian = version > 0xffff;
  return new KinoraError(
    "gguf.version",
    bigEndian ? "this GGUF file is big-endian" : "this GGUF file is of another version",
    {
      expected: "version 2 or 3",
      actual: bigEndian ? "a big-endian file" : `${version}`,
      hint: "convert it with a current gguf-py",
    },
  );
}
