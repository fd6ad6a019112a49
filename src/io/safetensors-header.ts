// The header of a safetensors file: parsing it as strictly as the Rust library does, and writing it byte for byte alike.
// Not the data behind it. Format: https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs
import { bytesOf, type DType, dtypeFromSafetensors, dtypes } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { elementCount } from "../base/shape.ts";
import type { TensorInfo } from "./named-tensors.ts";
import { type Json, type JsonObject, parseStrictJson } from "./strict-json.ts";

/** The limit of the Rust library. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The header's length, little-endian, stands in front of it. */
export const PREFIX_BYTES = 8;

const METADATA = "__metadata__";

/** The library's dtypes in its order of alignment, by which a writer sorts. */
const alignmentOrder = [
  ..."BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ".split(" "),
  ..."I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64".split(" "),
];

export interface TensorSpec extends TensorInfo {
  readonly name: string;
}

/** A tensor and its bytes `[start, end)`, counted from the end of the header. */
export interface PlacedTensor extends TensorSpec {
  readonly start: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly tensors: readonly PlacedTensor[];
  readonly metadata: ReadonlyMap<string, string>;
}

function invalid(what: string, detail: { expected?: string; actual?: string } = {}): never {
  throw new KinoraError("safetensors.bad-header", what, detail);
}

function count(value: Json | undefined, what: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    invalid(`${what} is not an integer`, { actual: JSON.stringify(value)?.slice(0, 100) });
  }
  return value;
}

function parseDtype(name: string, value: Json | undefined): DType {
  const dtype = typeof value === "string" ? dtypeFromSafetensors(value) : undefined;
  if (dtype) return dtype;
  if (typeof value === "string" && alignmentOrder.includes(value)) {
    throw new KinoraError(
      "safetensors.unsupported-dtype",
      `tensor ${name} has dtype ${value}, which Kinora does not support`,
      {
        hint: `supported: ${Object.values(dtypes)
          .map((row) => row.safetensors)
          .join(", ")}`,
      },
    );
  }
  return invalid(`tensor ${name} has an unknown dtype`, { actual: JSON.stringify(value)?.slice(0, 100) });
}

function parseTensor(name: string, value: Json): PlacedTensor {
  if (!(value instanceof Map)) return invalid(`the entry of tensor ${name} is not an object`);
  const entry: JsonObject = value;
  const dtype = parseDtype(name, entry.get("dtype"));
  const sizes = entry.get("shape");
  if (!Array.isArray(sizes)) return invalid(`tensor ${name} has no shape`);
  const shape = sizes.map((size) => count(size, `a dimension of ${name}`));
  const offsets = entry.get("data_offsets");
  if (!Array.isArray(offsets) || offsets.length !== 2) return invalid(`tensor ${name} has no data_offsets pair`);
  const start = count(offsets[0], `an offset of ${name}`);
  const end = count(offsets[1], `an offset of ${name}`);
  // A zero among the dimensions hides an overflow of the others from the product, so each step is checked.
  let bytes = bytesOf(dtype);
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) invalid(`the size of tensor ${name} overflows`, { actual: `[${shape}]` });
  }
  if (end - start !== bytes) {
    throw new KinoraError("safetensors.wrong-size", `the data of tensor ${name} does not fit its shape`, {
      expected: `${bytes} bytes for ${dtypes[dtype].safetensors} [${shape}]`,
      actual: `${end - start}`,
    });
  }
  return { name, dtype, shape, start, end };
}

function parseMetadata(value: Json | undefined): Map<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined || value === null) return metadata;
  if (!(value instanceof Map)) return invalid(`${METADATA} is not an object`);
  for (const [key, text] of value as JsonObject) {
    if (typeof text !== "string") invalid(`the metadata ${JSON.stringify(key.slice(0, 100))} is not a string`);
    metadata.set(key, text as string);
  }
  return metadata;
}

/**
 * The header's length from the file's first 8 bytes.
 * Throws `safetensors.truncated`, `safetensors.header-too-large`, `safetensors.bad-header`.
 */
export function headerLength(prefix: Uint8Array, fileSize: number): number {
  if (prefix.length < PREFIX_BYTES) {
    throw new KinoraError("safetensors.truncated", "the file is too short for a safetensors header", {
      expected: `at least ${PREFIX_BYTES} bytes`,
      actual: `${fileSize}`,
    });
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new KinoraError(
      "safetensors.header-too-large",
      "the header length is out of bounds; this may not be a safetensors file",
      {
        expected: `at most ${MAX_HEADER_BYTES}`,
        actual: `${length}`,
      },
    );
  }
  if (length < 2n) {
    return invalid("the header is empty, as in an unfinished download", { actual: `${length} bytes` });
  }
  if (Number(length) + PREFIX_BYTES > fileSize) {
    throw new KinoraError("safetensors.truncated", "the file ends within its header", {
      expected: `${Number(length) + PREFIX_BYTES} bytes or more`,
      actual: `${fileSize}`,
      hint: "the download is incomplete: download the file again",
    });
  }
  return Number(length);
}

/**
 * Parses and checks a header: every tensor's dtype known, its data as long as its shape says, and all data laid end to
 * end without a hole or an overlap, up to the file's last byte. Tensors come in the order of their data.
 * @param dataBytes the length of the file behind the header
 */
export function parseHeader(header: Uint8Array, dataBytes: number): SafetensorsHeader {
  const entries = parseStrictJson(header, "safetensors.bad-header");
  const metadata = parseMetadata(entries.get(METADATA));
  const tensors: PlacedTensor[] = [];
  for (const [name, value] of entries) if (name !== METADATA) tensors.push(parseTensor(name, value));
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = 0;
  let previous = "the header";
  for (const { name, start, end } of tensors) {
    if (start !== at) {
      throw new KinoraError(
        "safetensors.bad-offsets",
        start < at ? `the data of ${name} overlaps that of ${previous}` : `there is a gap before the data of ${name}`,
        { expected: `offset ${at}`, actual: `${start}` },
      );
    }
    at = end;
    previous = name;
  }
  if (at > dataBytes) {
    throw new KinoraError("safetensors.truncated", "the file is shorter than its header says", {
      expected: `${at} bytes of data`,
      actual: `${dataBytes}`,
      hint: "the download is incomplete: download the file again",
    });
  }
  if (at < dataBytes) {
    throw new KinoraError("safetensors.bad-offsets", "the file is longer than its header says", {
      expected: `${at} bytes of data`,
      actual: `${dataBytes}`,
    });
  }
  return { tensors, metadata };
}

/**
 * Lays tensors out as the Rust library does: widest dtype first, then by name, so that every tensor is aligned.
 * Throws `safetensors.bad-tensor` for a name given twice or reserved, or a shape of no whole numbers.
 */
export function placeTensors(specs: Iterable<TensorSpec>): PlacedTensor[] {
  const sorted = [...specs].sort(
    (a, b) =>
      alignmentOrder.indexOf(dtypes[b.dtype].safetensors) - alignmentOrder.indexOf(dtypes[a.dtype].safetensors) ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  let at = 0;
  return sorted.map(({ name, dtype, shape }, i) => {
    if (name === METADATA || name === sorted[i - 1]?.name) {
      throw new KinoraError("safetensors.bad-tensor", `the tensor name ${name} is reserved or duplicated`);
    }
    const start = at;
    at += bytesOf(dtype) * elementCount(shape);
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || !Number.isSafeInteger(at)) {
      throw new KinoraError("safetensors.bad-tensor", `the shape of tensor ${name} is impossible`, {
        actual: `[${shape}]`,
      });
    }
    return { name, dtype, shape: [...shape], start, end: at };
  });
}

/** The file's beginning: length and header, padded with spaces to a multiple of 8 bytes. */
export function encodeHeader(
  tensors: readonly PlacedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const entries: string[] = [];
  if (Object.keys(metadata).length > 0) entries.push(`"${METADATA}":${JSON.stringify(metadata)}`);
  for (const { name, dtype, shape, start, end } of tensors) {
    const entry = { dtype: dtypes[dtype].safetensors, shape, data_offsets: [start, end] };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new KinoraError("safetensors.header-too-large", "too many tensors or too much metadata for one file", {
      expected: `at most ${MAX_HEADER_BYTES} bytes of header`,
      actual: `${length}`,
    });
  }
  const bytes = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, PREFIX_BYTES);
  return bytes;
}
