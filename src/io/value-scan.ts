// Looks through a weight file for values that are not finite. Counts; judges nothing.
import { type DType, dtypes } from "../base/dtype.ts";
import { typedArray } from "../base/float-formats.ts";
import { type TensorSource, tensorBytes } from "./named-tensors.ts";

export interface NonFinite {
  name: string;
  nan: number;
  infinite: number;
  /** How many values were looked at, of how many. */
  checked: number;
  total: number;
}

export interface ScanProgress {
  bytesDone: number;
  bytesTotal: number;
}

/** Bytes looked at in one go; a progress event follows each. */
const CHUNK_BYTES = 16 << 20;
/** A sample takes this many pieces of a tensor, spread evenly. */
const SAMPLE_PIECES = 4;
const SAMPLE_BYTES = 1 << 16;

/** The bit pattern of infinity without its sign; larger ones are NaN. E4M3 has no infinity, and one NaN. */
const infinities: Partial<Record<DType, { sign: number; infinity: number }>> = {
  f32: { sign: 0x80000000, infinity: 0x7f800000 },
  bf16: { sign: 0x8000, infinity: 0x7f80 },
  f16: { sign: 0x8000, infinity: 0x7c00 },
  f8e5m2: { sign: 0x80, infinity: 0x7c },
  f8e4m3: { sign: 0x80, infinity: 0x7e + 0.5 },
};

/** How many of these little-endian elements are NaN or infinite. Integers never are. */
export function countNonFinite(bytes: Uint8Array, dtype: DType): { nan: number; infinite: number } {
  const count = { nan: 0, infinite: 0 };
  if (!dtypes[dtype].floating) return count;
  const width = dtypes[dtype].bytes;
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const length = Math.floor(bytes.length / width);
  if (dtype === "f64") {
    for (const value of new Float64Array(aligned.buffer, aligned.byteOffset, length)) {
      if (Number.isNaN(value)) count.nan++;
      else if (!Number.isFinite(value)) count.infinite++;
    }
    return count;
  }
  const { sign, infinity } = infinities[dtype]!;
  const mask = sign - 1;
  const bits =
    dtype === "f32"
      ? new Uint32Array(aligned.buffer, aligned.byteOffset, length)
      : (typedArray(dtype, aligned.buffer, aligned.byteOffset, length) as Uint16Array | Uint8Array);
  for (let i = 0; i < length; i++) {
    const magnitude = bits[i]! & mask;
    if (magnitude < infinity) continue;
    if (magnitude === infinity) count.infinite++;
    else count.nan++;
  }
  return count;
}

/** The pieces `[start, end)` of a tensor of `length` bytes to look at; whole elements each. */
function pieces(length: number, sample: boolean): [start: number, end: number][] {
  const size = sample ? SAMPLE_BYTES : CHUNK_BYTES;
  if (!sample || length <= size * SAMPLE_PIECES) {
    return Array.from({ length: Math.ceil(length / size) }, (_, i) => [i * size, Math.min(length, (i + 1) * size)]);
  }
  return Array.from({ length: SAMPLE_PIECES }, (_, i) => {
    // Multiples of eight keep every element whole.
    const start = Math.floor(((length - size) * i) / (SAMPLE_PIECES - 1) / 8) * 8;
    return [start, start + size];
  });
}

/**
 * Looks at every value, or at a sample of each tensor, and gives back the tensors with values that are not finite.
 * Pages that were read are let go of, so that the file does not fill the memory.
 */
export function* scanValues(source: TensorSource, sample: boolean): Generator<ScanProgress, NonFinite[]> {
  const found: NonFinite[] = [];
  const sizes = source.names.map((name) => tensorBytes(source.info(name)));
  const bytesTotal = sizes.reduce((sum, size) => sum + size, 0);
  let bytesDone = 0;
  for (const [i, name] of source.names.entries()) {
    const { dtype } = source.info(name);
    const width = dtypes[dtype].bytes;
    const row: NonFinite = { name, nan: 0, infinite: 0, checked: 0, total: sizes[i]! / width };
    if (dtypes[dtype].floating) {
      const bytes = source.bytes(name);
      for (const [start, end] of pieces(bytes.length, sample)) {
        const { nan, infinite } = countNonFinite(bytes.subarray(start, end), dtype);
        row.nan += nan;
        row.infinite += infinite;
        row.checked += (end - start) / width;
        yield { bytesDone: bytesDone + end, bytesTotal };
      }
      source.discard(name);
    }
    bytesDone += sizes[i]!;
    if (row.nan + row.infinite > 0) found.push(row);
  }
  return found;
}
