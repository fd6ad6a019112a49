// Widening and rounding between float32 and the narrow float formats, element by element on the host.
// Round to nearest, ties to even, as PyTorch does. Not the fast path: devices convert with their own kernels.
import { bytesOf, type DType } from "./dtype.ts";
import { KinoraError } from "./errors.ts";

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

export function bf16ToF32(bits: number): number {
  u32[0] = bits << 16;
  return f32[0]!;
}

export function f32ToBf16(value: number): number {
  f32[0] = value;
  const bits = u32[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

interface SmallFloat {
  exponentBits: number;
  mantissaBits: number;
  /** E4M3FN has no infinities: its all-ones exponent is finite but for one NaN pattern. */
  finiteOnly: boolean;
}

const f16: SmallFloat = { exponentBits: 5, mantissaBits: 10, finiteOnly: false };
const e4m3: SmallFloat = { exponentBits: 4, mantissaBits: 3, finiteOnly: true };
const e5m2: SmallFloat = { exponentBits: 5, mantissaBits: 2, finiteOnly: false };

function decode(bits: number, format: SmallFloat): number {
  const { exponentBits, mantissaBits, finiteOnly } = format;
  const sign = bits >>> (exponentBits + mantissaBits) ? -1 : 1;
  const exponentMask = (1 << exponentBits) - 1;
  const mantissaMask = (1 << mantissaBits) - 1;
  const exponent = (bits >>> mantissaBits) & exponentMask;
  const mantissa = bits & mantissaMask;
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === exponentMask) {
    if (finiteOnly && mantissa === mantissaMask) return Number.NaN;
    if (!finiteOnly) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  }
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / (1 << mantissaBits)) * 2 ** (exponent - bias);
}

function encode(value: number, format: SmallFloat): number {
  const { exponentBits, mantissaBits, finiteOnly } = format;
  const exponentMask = (1 << exponentBits) - 1;
  const mantissaMask = (1 << mantissaBits) - 1;
  const bias = (1 << (exponentBits - 1)) - 1;
  const nan = (exponentMask << mantissaBits) | (finiteOnly ? mantissaMask : 1 << (mantissaBits - 1));
  if (Number.isNaN(value)) return nan;
  const sign = (value < 0 || Object.is(value, -0) ? 1 : 0) << (exponentBits + mantissaBits);
  const magnitude = Math.abs(value);
  const infinity = exponentMask << mantissaBits;
  if (magnitude === 0) return sign;
  if (magnitude === Number.POSITIVE_INFINITY) return sign | (finiteOnly ? nan : infinity);
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), 1 - bias);
  const step = 2 ** (exponent - mantissaBits);
  const scaled = magnitude / step;
  let rounded = Math.floor(scaled);
  const rest = scaled - rounded;
  if (rest > 0.5 || (rest === 0.5 && rounded % 2 === 1)) rounded++;
  // `rounded` carries the implicit bit; a carry into the next exponent adds up by itself.
  const code = rounded < 1 << mantissaBits ? rounded : ((exponent + bias - 1) << mantissaBits) + rounded;
  if (finiteOnly) return sign | Math.min(code, nan);
  return sign | Math.min(code, infinity);
}

const tables = new Map<SmallFloat, Float32Array>();
function table(format: SmallFloat): Float32Array {
  let values = tables.get(format);
  if (!values) {
    const count = 1 << (1 + format.exponentBits + format.mantissaBits);
    values = Float32Array.from({ length: count }, (_, bits) => decode(bits, format));
    tables.set(format, values);
  }
  return values;
}

/** Values by bit pattern, for loops that convert whole arrays. */
export const f16Values = (): Float32Array => table(f16);
export const f8e4m3Values = (): Float32Array => table(e4m3);
export const f8e5m2Values = (): Float32Array => table(e5m2);

export const f32ToF16 = (value: number): number => encode(Math.fround(value), f16);
export const f32ToF8e4m3 = (value: number): number => encode(Math.fround(value), e4m3);
export const f32ToF8e5m2 = (value: number): number => encode(Math.fround(value), e5m2);

type NumberArray =
  | Float64Array
  | Float32Array
  | Uint16Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array;

/** A typed array over `buffer`, whose elements hold `dtype` (narrow floats as their bit patterns). */
export function typedArray(dtype: DType, buffer: ArrayBufferLike, byteOffset: number, length: number): NumberArray {
  switch (dtype) {
    case "f64":
      return new Float64Array(buffer, byteOffset, length);
    case "f32":
      return new Float32Array(buffer, byteOffset, length);
    case "bf16":
    case "f16":
      return new Uint16Array(buffer, byteOffset, length);
    case "i64":
      return new BigInt64Array(buffer, byteOffset, length);
    case "i32":
      return new Int32Array(buffer, byteOffset, length);
    case "i16":
      return new Int16Array(buffer, byteOffset, length);
    case "i8":
      return new Int8Array(buffer, byteOffset, length);
    case "f8e4m3":
    case "f8e5m2":
    case "u8":
    case "bool":
      return new Uint8Array(buffer, byteOffset, length);
  }
}

/** Reads `bytes` (elements of `dtype`, little-endian, any alignment) as float32. int64 beyond 2^53 loses precision. */
export function toFloat32(bytes: Uint8Array, dtype: DType): Float32Array {
  const length = Math.floor(bytes.byteLength / bytesOf(dtype));
  const aligned = bytes.byteOffset % bytesOf(dtype) === 0 ? bytes : bytes.slice();
  const source = typedArray(dtype, aligned.buffer, aligned.byteOffset, length);
  if (dtype === "f32") return (source as Float32Array).slice();
  const result = new Float32Array(length);
  if (dtype === "bf16") {
    const bits = new Uint32Array(result.buffer);
    for (let i = 0; i < length; i++) bits[i] = (source[i] as number) << 16;
    return result;
  }
  const values =
    dtype === "f16"
      ? f16Values()
      : dtype === "f8e4m3"
        ? f8e4m3Values()
        : dtype === "f8e5m2"
          ? f8e5m2Values()
          : undefined;
  if (values) for (let i = 0; i < length; i++) result[i] = values[source[i] as number]!;
  else for (let i = 0; i < length; i++) result[i] = Number(source[i]);
  return result;
}

/** Rounds float32 `values` to `dtype` and returns the bytes. */
export function fromFloat32(values: Float32Array, dtype: DType): Uint8Array {
  const bytes = new Uint8Array(values.length * bytesOf(dtype));
  const target = typedArray(dtype, bytes.buffer, 0, values.length);
  if (target instanceof BigInt64Array) {
    for (let i = 0; i < values.length; i++) target[i] = BigInt(Math.trunc(values[i]!));
    return bytes;
  }
  const round = rounders[dtype];
  if (!round) throw new KinoraError("dtype.unsupported", `float32 cannot be written as ${dtype}`);
  for (let i = 0; i < values.length; i++) target[i] = round(values[i]!);
  return bytes;
}

const same = (value: number): number => value;
const rounders: Partial<Record<DType, (value: number) => number>> = {
  f64: same,
  f32: same,
  bf16: f32ToBf16,
  f16: f32ToF16,
  f8e4m3: f32ToF8e4m3,
  f8e5m2: f32ToF8e5m2,
  i32: same,
  i16: same,
  i8: same,
  u8: same,
};
