// The numbers of torch.randn on a CPU, so that a seed gives the noise it gives in ComfyUI and other PyTorch programs.
// PyTorch fills 16 and more values with vector code whose logarithm, sine and cosine are Cephes polynomials in
// float32; this follows them operation by operation, with the fused multiply-adds its compiler makes of them. Builds
// without AVX2 use the C library instead and differ in the last digits (around 1e-7).
// https://github.com/pytorch/pytorch/blob/v2.7.0/aten/src/ATen/native/cpu/DistributionTemplates.h (normal_fill)
// https://github.com/pytorch/pytorch/blob/v2.7.0/aten/src/ATen/native/cpu/avx_mathfun.h
import { MersenneTwister } from "./mersenne-twister.ts";
import { type Seed, seedWords } from "./seed.ts";

const f32 = Math.fround;

/** Values that one pass of the vector code makes: eight radii, then eight angles. */
const GROUP = 16;
const HALF_GROUP = 8;

/** torch.Generator("cpu").manual_seed(seed). Only the low 32 bits of the seed count. */
export class TorchCpuGenerator {
  readonly #engine: MersenneTwister;
  /** The second value of the last pair that the scalar code made. */
  #spare: number | undefined;

  /** Throws `rng.seed`. */
  constructor(seed: Seed) {
    this.#engine = new MersenneTwister(seedWords(seed).low);
  }

  /** torch.randn(count, generator=self): float32. Shape does not matter, only the number of values. */
  normal(count: number): Float32Array {
    const values = new Float32Array(count);
    if (count < GROUP) {
      for (let i = 0; i < count; i++) values[i] = this.#scalarNormal();
      return values;
    }
    for (let i = 0; i < count; i++) values[i] = this.#uniform();
    for (let start = 0; start + GROUP <= count; start += GROUP) transform(values, start);
    if (count % GROUP !== 0) {
      // The last sixteen values are made afresh, so that they overlap the last whole group.
      const start = count - GROUP;
      for (let i = start; i < count; i++) values[i] = this.#uniform();
      transform(values, start);
    }
    return values;
  }

  /** Uniform in [0, 1) with 24 bits, as float32 has them. */
  #uniform(): number {
    return (this.#engine.word() & 0xffffff) * 2 ** -24;
  }

  /** Uniform in [0, 1) with 53 bits. */
  #uniformDouble(): number {
    const high = this.#engine.word() & 0x1fffff;
    const low = this.#engine.word();
    return (high * 2 ** 32 + low) * 2 ** -53;
  }

  #scalarNormal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.#uniformDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniformDouble()));
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed)). */
export function torchCpuNormal(seed: Seed, count: number): Float32Array {
  return new TorchCpuGenerator(seed).normal(count);
}

/** Box–Muller in place over sixteen uniform values. */
function transform(values: Float32Array, start: number): void {
  for (let i = start; i < start + HALF_GROUP; i++) {
    const radius = f32(Math.sqrt(f32(-2 * cephesLog(f32(1 - values[i]!)))));
    const angle = f32(TWO_PI * values[i + HALF_GROUP]!);
    // The library's final multiply-add with mean 0 turns −0 into 0.
    values[i] = f32(radius * cephesSine(angle, true)) + 0;
    values[i + HALF_GROUP] = f32(radius * cephesSine(angle, false)) + 0;
  }
}

const TWO_PI = f32(2 * Math.PI);

/** a·b + c rounded once (but for one case in 2²⁹, where the sum's 53 bits are rounded twice). */
function fma(a: number, b: number, c: number): number {
  return f32(a * b + c);
}

const logCoefficients = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(f32);
const LN2_LOW = f32(-2.1219444e-4);
const LN2_HIGH = 0.693359375;
const SQRT_HALF = f32(Math.SQRT1_2);

const floats = new Float32Array(1);
const bits = new Uint32Array(floats.buffer);

/** Cephes logf for normal numbers: of the fraction in [√½, √2) by a polynomial, and the exponent times ln 2. */
function cephesLog(value: number): number {
  floats[0] = value;
  let exponent = (bits[0]! >>> 23) - 126;
  bits[0] = (bits[0]! & 0x007fffff) | 0x3f000000;
  const fraction = floats[0];
  let x = f32(fraction - 1);
  if (fraction < SQRT_HALF) {
    exponent--;
    x = f32(x + fraction);
  }
  const square = f32(x * x);
  let y = logCoefficients[0]!;
  for (let i = 1; i < logCoefficients.length; i++) y = fma(y, x, logCoefficients[i]!);
  y = fma(f32(y * x), square, f32(exponent * LN2_LOW));
  y = fma(square, -0.5, y);
  return fma(exponent, LN2_HIGH, f32(x + y));
}

const FOUR_OVER_PI = f32(4 / Math.PI);
/** π/4 in three parts, for a remainder with extra digits. */
const piParts = [0.78515625, 2.4187564849853516e-4, 3.774894977445941e-8].map(f32) as [number, number, number];
const sineCoefficients = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1].map(f32) as [number, number, number];
const cosineCoefficients = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2].map(f32) as [
  number,
  number,
  number,
];

/** Cephes sinf, or cosf, of an angle in [0, 2π). */
function cephesSine(angle: number, cosine: boolean): number {
  const octant = (Math.trunc(f32(angle * FOUR_OVER_PI)) + 1) & ~1;
  let x = fma(octant, -piParts[0], angle);
  x = fma(octant, -piParts[1], x);
  x = fma(octant, -piParts[2], x);
  const square = f32(x * x);
  // Quarter turns swap sine and cosine, half turns change the sign.
  const useSine = ((octant & 2) === 0) !== cosine;
  const negative = cosine ? ((octant - 2) & 4) === 0 : (octant & 4) !== 0;
  let y: number;
  if (useSine) {
    const [s0, s1, s2] = sineCoefficients;
    y = fma(f32(fma(fma(s0, square, s1), square, s2) * square), x, x);
  } else {
    const [c0, c1, c2] = cosineCoefficients;
    const quartic = f32(fma(fma(c0, square, c1), square, c2) * square);
    y = f32(fma(quartic, square, -f32(square * 0.5)) + 1);
  }
  return negative ? -y : y;
}
