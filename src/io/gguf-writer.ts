// Writes GGUF files, version 3, tensor by tensor; in place only when whole. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
import { KinoraError } from "../base/errors.ts";
import { type GgmlFormat, plainTypeId } from "../base/ggml/types.ts";
import { type TensorInfo, tensorBytes } from "./named-tensors.ts";
import { type Placed, PlacedWriter } from "./placed-writer.ts";

export interface GgufSpec extends TensorInfo {
  readonly name: string;
  readonly blocks?: GgmlFormat | undefined;
}

/** Numbers are 32-bit, without a sign. */
export type GgufMetadata = Readonly<Record<string, string | number>>;

const ALIGNMENT = 32;
const TEXT = 8;
const UINT32 = 4;

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

function typeOf({ name, dtype, blocks }: GgufSpec): number {
  const id = blocks?.id ?? plainTypeId(dtype);
  if (id !== undefined) return id;
  throw new KinoraError("gguf.unknown-type", `GGUF has no number for ${dtype}, the dtype of ${name}`);
}

/** Opens a file for its tensors: see {@link PlacedWriter.begin}. Throws `gguf.unknown-type`, `io.*`. */
export function createGguf(path: string, specs: readonly GgufSpec[], metadata: GgufMetadata): Promise<PlacedWriter> {
  const parts: Buffer[] = [Buffer.from("GGUF"), u32(3), u64(specs.length), u64(Object.keys(metadata).length)];
  for (const [key, value] of Object.entries(metadata)) {
    parts.push(
      text(key),
      typeof value === "string" ? Buffer.concat([u32(TEXT), text(value)]) : Buffer.concat([u32(UINT32), u32(value)]),
    );
  }
  const placed: Placed[] = [];
  let at = 0;
  for (const spec of specs) {
    const { name, shape } = spec;
    parts.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(typeOf(spec)), u64(at));
    const end = at + tensorBytes(spec);
    placed.push({ name, start: at, end });
    at = aligned(end);
  }
  const head = Buffer.concat(parts);
  return PlacedWriter.begin(path, Buffer.concat([head, Buffer.alloc(aligned(head.length) - head.length)]), placed);
}
