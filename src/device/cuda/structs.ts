// Structs that kernels take by value, as their bytes: little-endian, with C's alignment.

/** An int64 and int32s behind it. */
export function int32Struct(first: number, rest: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(8 + Math.ceil(rest.length / 2) * 8);
  const view = new DataView(bytes.buffer);
  writeInt64(view, 0, first);
  for (const [i, value] of rest.entries()) view.setInt32(8 + 4 * i, value, true);
  return bytes;
}

/** A whole number of up to 53 bits and its sign. */
export function writeInt64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
}

export function int32s(values: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

export function float32s(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}
