// Writing GGML's block formats: llama.cpp's reference quantisers, in float32 as there, without an importance matrix.
// https://github.com/ggml-org/llama.cpp/blob/150f157/ggml/src/ggml-quants.c
import { f16Values, f32ToF16 } from "../float-formats.ts";
import type { GgmlBlockName } from "./types.ts";

/** Writes the block of the elements from `from` of `x` at `at` of `out`, whose bytes are zero there. */
export type QuantizeBlock = (x: Float32Array, from: number, out: Uint8Array, at: number) => void;

const { fround, abs, min, max, sqrt } = Math;

/** To the nearest whole number, ties to even, for |x| below 2²². */
const nearest = (x: number): number => fround(fround(x) + 12582912) - 12582912;
const clamp = (value: number, low: number, high: number): number => min(high, max(low, value));
/** Ties away from zero, as C's roundf. */
const roundAway = (x: number): number => Math.sign(x) * Math.floor(abs(x) + 0.5);

/** Stores a float16; gives back what was stored. */
function putHalf(out: Uint8Array, at: number, value: number): number {
  const bits = f32ToF16(value);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  return f16Values()[bits]!;
}

/** The element of the largest magnitude, with its sign. */
function extreme(x: Float32Array, from: number, count: number): number {
  let most = 0;
  for (let i = from; i < from + count; i++) if (abs(x[i]!) > abs(most)) most = x[i]!;
  return most;
}

function range(x: Float32Array, from: number, count: number): [low: number, high: number] {
  let [low, high] = [x[from]!, x[from]!];
  for (let i = from + 1; i < from + count; i++) {
    low = min(low, x[i]!);
    high = max(high, x[i]!);
  }
  return [low, high];
}

const inverse = (x: number): number => (x === 0 ? 0 : fround(1 / x));

const q8_0: QuantizeBlock = (x, from, out, at) => {
  const d = fround(abs(extreme(x, from, 32)) / 127);
  const id = inverse(d);
  putHalf(out, at, d);
  for (let i = 0; i < 32; i++) out[at + 2 + i] = roundAway(fround(x[from + i]! * id)) & 255;
};

/** Formats of 32 elements whose codes have four bits, or five with the fifth in a field of their own. */
function simple(bits: 4 | 5, withMinimum: boolean): QuantizeBlock {
  const top = 2 ** bits - 1;
  const half = 2 ** (bits - 1);
  const field = withMinimum ? 4 : 2;
  const codes = field + (bits === 5 ? 4 : 0);
  return (x, from, out, at) => {
    let d: number;
    let code: (value: number) => number;
    if (withMinimum) {
      const [low, high] = range(x, from, 32);
      d = fround(fround(high - low) / top);
      const id = inverse(d);
      putHalf(out, at + 2, low);
      code = (value) => min(top, Math.trunc(fround(fround(fround(value - low) * id) + 0.5)));
    } else {
      d = fround(extreme(x, from, 32) / -half);
      const id = inverse(d);
      code = (value) => min(top, Math.trunc(fround(fround(value * id) + half + 0.5)));
    }
    putHalf(out, at, d);
    for (let i = 0; i < 16; i++) {
      const [a, b] = [code(x[from + i]!), code(x[from + 16 + i]!)];
      out[at + codes + i] = (a & 15) | ((b & 15) << 4);
      if (bits === 4) continue;
      out[at + field + (i >> 3)]! |= (a >> 4) << (i & 7);
      out[at + field + 2 + (i >> 3)]! |= (b >> 4) << (i & 7);
    }
  };
}

const SMALLEST = 1e-15;

/** Codes −n … n−1, stored from 0, and the scale that fits them best where large elements weigh more (make_qx_quants). */
function fitSymmetric(x: Float32Array, from: number, count: number, n: number, codes: Int32Array, to: number): number {
  const top = extreme(x, from, count);
  if (abs(top) < SMALLEST) {
    codes.fill(0, to, to + count);
    return 0;
  }
  const sums = (scale: number, keep: boolean): [number, number] => {
    let [xl, l2] = [0, 0];
    for (let i = 0; i < count; i++) {
      const value = x[from + i]!;
      const l = clamp(nearest(scale * value), -n, n - 1);
      if (keep) codes[to + i] = l + n;
      const w = value * value;
      xl += w * value * l;
      l2 += w * l * l;
    }
    return [xl, l2];
  };
  const [xl, l2] = sums(-n / top, true);
  let scale = l2 ? xl / l2 : 0;
  let best = scale * xl;
  for (let step = -9; step <= 9; step++) {
    if (step === 0) continue;
    const tried = -(n + 0.1 * step) / top;
    const [a, b] = sums(tried, false);
    if (b > 0 && a * a > best * b) {
      sums(tried, true);
      scale = a / b;
      best = scale * a;
    }
  }
  return fround(scale);
}

/** The same for Q3_K, improved code by code (make_q3_quants). */
function fitThree(x: Float32Array, from: number, count: number, codes: Int32Array, to: number): number {
  const n = 4;
  const top = extreme(x, from, count);
  if (abs(top) < SMALLEST) {
    codes.fill(0, to, to + count);
    return 0;
  }
  let [xl, l2] = [0, 0];
  for (let i = 0; i < count; i++) {
    const value = x[from + i]!;
    const l = clamp(nearest((-n / top) * value), -n, n - 1);
    codes[to + i] = l;
    xl += value ** 3 * l;
    l2 += value ** 2 * l * l;
  }
  for (let round = 0; round < 5; round++) {
    let changed = false;
    for (let i = 0; i < count; i++) {
      const value = x[from + i]!;
      const w = value * value;
      const old = codes[to + i]!;
      let a = xl - w * value * old;
      if (a <= 0) continue;
      let b = l2 - w * old * old;
      const l = clamp(nearest((value * b) / a), -n, n - 1);
      if (l === old) continue;
      a += w * value * l;
      b += w * l * l;
      if (b <= 0 || a * a * l2 <= xl * xl * b) continue;
      codes[to + i] = l;
      [xl, l2] = [a, b];
      changed = true;
    }
    if (!changed) break;
  }
  for (let i = 0; i < count; i++) codes[to + i]! += n;
  return l2 > 0 ? fround(xl / l2) : 0;
}

interface AffineFit {
  /** Of codes. */
  top: number;
  from: number;
  step: number;
  steps: number;
  /** Errors count by their size, not its square. */
  absolute: boolean;
}

const tried = new Int32Array(32);

/** Codes 0 … top with a scale and a minimum (make_qkx2_quants). Gives the scale and the minimum taken away. */
function fitAffine(
  x: Float32Array,
  at: number,
  weights: Float32Array,
  fit: AffineFit,
  codes: Int32Array,
  to: number,
): [scale: number, minimum: number] {
  const count = weights.length;
  const { top, absolute } = fit;
  let [low, high] = range(x, at, count);
  let [sumW, sumX] = [0, 0];
  for (let i = 0; i < count; i++) {
    sumW += weights[i]!;
    sumX += weights[i]! * x[at + i]!;
  }
  low = min(low, 0);
  if (high === low) {
    codes.fill(0, to, to + count);
    return [0, -low];
  }
  const errorOf = (scale: number, minimum: number, list: Int32Array, first: number): number => {
    let error = 0;
    for (let i = 0; i < count; i++) {
      const off = scale * list[first + i]! + minimum - x[at + i]!;
      error += weights[i]! * (absolute ? abs(off) : off * off);
    }
    return error;
  };
  let [scale, minimum] = [(high - low) / top, low];
  for (let i = 0; i < count; i++) codes[to + i] = clamp(nearest((x[at + i]! - low) / scale), 0, top);
  let best = errorOf(scale, minimum, codes, to);
  for (let step = 0; step <= fit.steps; step++) {
    const factor = (fit.from + fit.step * step + top) / (high - low);
    let [l1, l2, xl] = [0, 0, 0];
    for (let i = 0; i < count; i++) {
      const l = clamp(nearest(factor * (x[at + i]! - low)), 0, top);
      tried[i] = l;
      const w = weights[i]!;
      l1 += w * l;
      l2 += w * l * l;
      xl += w * l * x[at + i]!;
    }
    const determinant = sumW * l2 - l1 * l1;
    if (determinant <= 0) continue;
    let fitted = (sumW * xl - sumX * l1) / determinant;
    let offset = (l2 * sumX - l1 * xl) / determinant;
    if (offset > 0) {
      offset = 0;
      fitted = xl / l2;
    }
    const error = errorOf(fitted, offset, tried, 0);
    if (error >= best) continue;
    best = error;
    [scale, minimum] = [fitted, offset];
    for (let i = 0; i < count; i++) codes[to + i] = tried[i]!;
  }
  return [fround(scale), fround(-minimum)];
}

/** 256 codes; each kernel is done with them before another begins. */
const codes = new Int32Array(256);

const q2Fit: AffineFit = { top: 3, from: -0.5, step: 0.1, steps: 15, absolute: true };

const q2K: QuantizeBlock = (x, from, out, at) => {
  const weights = new Float32Array(16);
  const scales = new Float32Array(16);
  const minima = new Float32Array(16);
  for (let j = 0; j < 16; j++) {
    for (let i = 0; i < 16; i++) weights[i] = abs(x[from + 16 * j + i]!);
    [scales[j], minima[j]] = fitAffine(x, from + 16 * j, weights, q2Fit, codes, 16 * j) as [number, number];
  }
  const [topScale, topMinimum] = [Math.max(...scales, 0), Math.max(...minima, 0)];
  for (let j = 0; j < 16; j++) {
    const s = topScale > 0 ? nearest((15 / topScale) * scales[j]!) : 0;
    const m = topMinimum > 0 ? nearest((15 / topMinimum) * minima[j]!) : 0;
    out[at + j] = s | (m << 4);
  }
  const d = putHalf(out, at + 80, topScale / 15);
  const dmin = putHalf(out, at + 82, topMinimum / 15);
  for (let j = 0; j < 16; j++) {
    const scale = d * (out[at + j]! & 15);
    if (!scale) continue;
    const minimum = dmin * (out[at + j]! >> 4);
    for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = clamp(nearest((x[from + i]! + minimum) / scale), 0, 3);
  }
  pairsOfBits(out, at + 16);
};

/** Codes of two bits, four planes of 32 in each half. */
function pairsOfBits(out: Uint8Array, at: number): void {
  for (let j = 0; j < 256; j += 128) {
    for (let i = 0; i < 32; i++) {
      out[at + j / 4 + i] =
        codes[j + i]! | (codes[j + i + 32]! << 2) | (codes[j + i + 64]! << 4) | (codes[j + i + 96]! << 6);
    }
  }
}

const q3K: QuantizeBlock = (x, from, out, at) => {
  const scales = new Float32Array(16);
  for (let j = 0; j < 16; j++) scales[j] = fitThree(x, from + 16 * j, 16, codes, 16 * j);
  const top = extreme(scales, 0, 16);
  const [field, place] = [at + 96, at + 108];
  let d = 0;
  if (top !== 0) {
    const factor = fround(-32 / top);
    for (let j = 0; j < 16; j++) {
      const l = clamp(nearest(factor * scales[j]!), -32, 31) + 32;
      if (j < 8) out[field + j] = l & 15;
      else out[field + j - 8]! |= (l & 15) << 4;
      out[field + 8 + (j % 4)]! |= (l >> 4) << (2 * (j >> 2));
    }
    d = putHalf(out, place, 1 / factor);
  }
  for (let j = 0; j < 16; j++) {
    const low = j < 8 ? out[field + j]! & 15 : out[field + j - 8]! >> 4;
    const scale = d * ((low | (((out[field + 8 + (j % 4)]! >> (2 * (j >> 2))) & 3) << 4)) - 32);
    if (!scale) continue;
    for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = clamp(nearest(x[from + i]! / scale), -4, 3) + 4;
  }
  for (let i = 0; i < 256; i++) {
    if (codes[i]! <= 3) continue;
    out[at + (i & 31)]! |= 1 << (i >> 5);
    codes[i]! -= 4;
  }
  pairsOfBits(out, at + 32);
};

const fits = {
  4: { top: 15, from: -1, step: 0.1, steps: 20, absolute: false },
  5: { top: 31, from: -0.5, step: 0.1, steps: 15, absolute: false },
} as const;

/** Eight groups of 32 with scales and minima of six bits; codes of four bits, or five. */
function fourOrFive(bits: 4 | 5): QuantizeBlock {
  return (x, from, out, at) => {
    const weights = new Float32Array(32);
    const scales = new Float32Array(8);
    const minima = new Float32Array(8);
    for (let j = 0; j < 8; j++) {
      let squares = 0;
      for (let i = 0; i < 32; i++) squares += x[from + 32 * j + i]! ** 2;
      const mean = sqrt(squares / 32);
      for (let i = 0; i < 32; i++) weights[i] = mean + abs(x[from + 32 * j + i]!);
      [scales[j], minima[j]] = fitAffine(x, from + 32 * j, weights, fits[bits], codes, 32 * j) as [number, number];
    }
    const [topScale, topMinimum] = [Math.max(...scales, 0), Math.max(...minima, 0)];
    const code = (value: number, top: number) => (top > 0 ? min(63, nearest((63 / top) * value)) : 0);
    const field = at + 4;
    const d = putHalf(out, at, topScale / 63);
    const dmin = putHalf(out, at + 2, topMinimum / 63);
    for (let j = 0; j < 8; j++) {
      const [s, m] = [code(scales[j]!, topScale), code(minima[j]!, topMinimum)];
      if (j < 4) {
        out[field + j]! |= s;
        out[field + j + 4]! |= m;
      } else {
        out[field + j + 4] = (s & 15) | ((m & 15) << 4);
        out[field + j - 4]! |= (s >> 4) << 6;
        out[field + j]! |= (m >> 4) << 6;
      }
      const scale = d * s;
      if (!scale) continue;
      const minimum = dmin * m;
      const { top } = fits[bits];
      for (let i = 32 * j; i < 32 * j + 32; i++) codes[i] = clamp(nearest((x[from + i]! + minimum) / scale), 0, top);
    }
    const nibbles = at + (bits === 4 ? 16 : 48);
    for (let pair = 0; pair < 4; pair++) {
      for (let i = 0; i < 32; i++) {
        const [a, b] = [codes[64 * pair + i]!, codes[64 * pair + 32 + i]!];
        out[nibbles + 32 * pair + i] = (a & 15) | ((b & 15) << 4);
        if (bits === 5) out[at + 16 + i]! |= ((a >> 4) << (2 * pair)) | ((b >> 4) << (2 * pair + 1));
      }
    }
  };
}

const q6K: QuantizeBlock = (x, from, out, at) => {
  const scales = new Float32Array(16);
  for (let j = 0; j < 16; j++) scales[j] = fitSymmetric(x, from + 16 * j, 16, 32, codes, 16 * j);
  const top = extreme(scales, 0, 16);
  if (abs(top) < SMALLEST) return;
  const factor = fround(-128 / top);
  const d = putHalf(out, at + 208, 1 / factor);
  for (let j = 0; j < 16; j++) {
    const s = min(127, nearest(factor * scales[j]!));
    out[at + 192 + j] = s & 255;
    const scale = d * s;
    if (!scale) continue;
    for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = clamp(nearest(x[from + i]! / scale), -32, 31) + 32;
  }
  for (let side = 0; side < 2; side++) {
    const base = side * 128;
    for (let i = 0; i < 32; i++) {
      const [a, b, c, e] = [0, 32, 64, 96].map((plane) => codes[base + plane + i]!) as [number, number, number, number];
      out[at + side * 64 + i] = (a & 15) | ((c & 15) << 4);
      out[at + side * 64 + 32 + i] = (b & 15) | ((e & 15) << 4);
      out[at + 128 + side * 32 + i] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((e >> 4) << 6);
    }
  }
};

/** The formats that Kinora writes. */
export const quantizers = {
  Q4_0: simple(4, false),
  Q4_1: simple(4, true),
  Q5_0: simple(5, false),
  Q5_1: simple(5, true),
  Q8_0: q8_0,
  Q2_K: q2K,
  Q3_K: q3K,
  Q4_K: fourOrFive(4),
  Q5_K: fourOrFive(5),
  Q6_K: q6K,
} as const satisfies Partial<Record<GgmlBlockName, QuantizeBlock>>;

export type QuantizedName = keyof typeof quantizers;
