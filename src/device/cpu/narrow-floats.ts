// Table-driven conversions of the narrow formats that oneDNN is slow at: f16, fp8 and int8.
import type { DType } from "../../base/dtype.ts";
import {
  f8e4m3Values,
  f8e5m2Values,
  f16Values,
  f32ToBf16,
  f32ToF8e4m3,
  f32ToF8e5m2,
} from "../../base/float-formats.ts";

function memoized<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

const signedBytes = memoized(() => Float32Array.from({ length: 256 }, (_, bits) => (bits << 24) >> 24));

const bf16Bits = memoized(() => new Map<Float32Array, Uint16Array>());

/** float32 values of each bit pattern of a narrow format; undefined for formats that need no table. */
export function valueTable(dtype: DType): Float32Array | undefined {
  switch (dtype) {
    case "f16":
      return f16Values();
    case "f8e4m3":
      return f8e4m3Values();
    case "f8e5m2":
      return f8e5m2Values();
    case "i8":
      return signedBytes();
    default:
      return undefined;
  }
}

/** target[i] = table[codes[i]] for `[from, to)`. Four at a time: 1.0 instead of 1.7 ns each. */
export function lookUp<T extends Float32Array | Uint16Array>(
  codes: Uint8Array | Uint16Array,
  table: T,
  target: T,
  from: number,
  to: number,
): void {
  let i = from;
  for (; i < to - 3; i += 4) {
    target[i] = table[codes[i]!]!;
    target[i + 1] = table[codes[i + 1]!]!;
    target[i + 2] = table[codes[i + 2]!]!;
    target[i + 3] = table[codes[i + 3]!]!;
  }
  for (; i < to; i++) target[i] = table[codes[i]!]!;
}

/** The same values as bf16 bit patterns. */
export function bf16Table(values: Float32Array): Uint16Array {
  const tables = bf16Bits();
  let table = tables.get(values);
  if (!table) {
    table = Uint16Array.from(values, f32ToBf16);
    tables.set(values, table);
  }
  return table;
}

/**
 * fp8 codes by the upper half of a float32, its lowest bit also standing for "something below is not zero": seven bits of
 * mantissa with a sticky one decide any rounding to three bits, ties and subnormals included.
 */
function roundingTable(round: (value: number) => number): Uint8Array {
  const bits = new Uint32Array(1);
  const value = new Float32Array(bits.buffer);
  return Uint8Array.from({ length: 65_536 }, (_, upper) => {
    bits[0] = upper << 16;
    return round(value[0]!);
  });
}

const roundingTables = {
  f8e4m3: memoized(() => roundingTable(f32ToF8e4m3)),
  f8e5m2: memoized(() => roundingTable(f32ToF8e5m2)),
};

/** Rounds float32 bit patterns to fp8 codes. */
export function roundToF8(dtype: "f8e4m3" | "f8e5m2", source: Uint32Array, target: Uint8Array): void {
  const table = roundingTables[dtype]();
  for (let i = 0; i < source.length; i++) {
    const bits = source[i]!;
    target[i] = table[(bits >>> 16) | ((bits & 0xffff) === 0 ? 0 : 1)]!;
  }
}

/** Rounds float32 bit patterns to f16, to nearest, ties to even. */
export function roundToF16(source: Uint32Array, target: Uint16Array): void {
  for (let i = 0; i < source.length; i++) {
    const bits = source[i]!;
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) {
      // 65536 and beyond, infinity, NaN.
      target[i] = sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
    } else if (magnitude >= 0x38800000) {
      // A carry out of the mantissa adds one to the exponent, up to infinity, by itself.
      target[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    } else if (magnitude < 0x33000000) {
      target[i] = sign;
    } else {
      const shift = 126 - (magnitude >>> 23);
      const mantissa = (magnitude & 0x7fffff) | 0x800000;
      const half = 1 << (shift - 1);
      const rounded = (mantissa + half - 1 + ((mantissa >>> shift) & 1)) >>> shift;
      target[i] = sign | rounded;
    }
  }
}
