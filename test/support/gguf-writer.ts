// Writes small GGUF files for tests, right or wrong as asked. Not the product's writer.
import { writeFileSync } from "node:fs";

export interface DrawnTensor {
  name: string;
  /** Row-major as PyTorch counts axes. */
  shape: readonly number[];
  /** Its number in GGUF files. */
  type: number;
  data: Uint8Array;
  /** Instead of the right offset. */
  offset?: number;
}

export type DrawnValue = { type: number; bytes: Uint8Array };

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
export const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
export const string = (value: string): DrawnValue => ({ type: 8, bytes: text(value) });
export const uint32 = (value: number): DrawnValue => ({ type: 4, bytes: u32(value) });
export const uint64 = (value: bigint): DrawnValue => ({ type: 10, bytes: u64(value) });
export const int32s = (values: readonly number[]): DrawnValue => ({
  type: 9,
  bytes: Buffer.concat([u32(5), u64(values.length), Buffer.from(Int32Array.from(values).buffer)]),
});
export const strings = (values: readonly string[]): DrawnValue => ({
  type: 9,
  bytes: Buffer.concat([u32(8), u64(values.length), ...values.map(text)]),
});

export function ggufBytes(
  tensors: readonly DrawnTensor[],
  metadata: Readonly<Record<string, DrawnValue>> = {},
  {
    version = 3,
    alignment = 32,
    count = tensors.length,
  }: { version?: number; alignment?: number; count?: number } = {},
): Buffer {
  const head: Buffer[] = [Buffer.from("GGUF"), u32(version), u64(count), u64(Object.keys(metadata).length)];
  for (const [key, { type, bytes }] of Object.entries(metadata)) head.push(text(key), u32(type), Buffer.from(bytes));
  let at = 0;
  const data: Buffer[] = [];
  for (const { name, shape, type, data: bytes, offset } of tensors) {
    const axes = [...shape].reverse().map(u64);
    head.push(text(name), u32(shape.length), ...axes, u32(type), u64(offset ?? at));
    const padded = Math.ceil(bytes.length / alignment) * alignment;
    data.push(Buffer.concat([bytes, Buffer.alloc(padded - bytes.length)]));
    at += padded;
  }
  const joined = Buffer.concat(head);
  const padding = Buffer.alloc((alignment - (joined.length % alignment)) % alignment);
  return Buffer.concat([joined, padding, ...data]);
}

export function writeGguf(path: string, ...given: Parameters<typeof ggufBytes>): void {
  writeFileSync(path, ggufBytes(...given));
}
