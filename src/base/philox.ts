// Philox4x32-10, the counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
// and Kinora's own normal stream on top of it. Any value of any stream is reached without the ones before it.

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** The high 32 bits of a·b, for unsigned 32-bit a and b. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  // `middle` has up to 33 bits: its halves are taken by arithmetic, not by shifts.
  const carry = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/** Four random 32-bit words for a 128-bit counter and a 64-bit key, each little end first, into `out`. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
): void {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

export interface NormalStream {
  /** 64 bits; larger or negative seeds wrap. */
  readonly seed: bigint;
  /** Streams of one seed are independent: a whole number below 2^53. */
  readonly stream: number;
  /** The first value's place in the stream. */
  readonly offset: number;
}

const low32 = (value: number): number => value >>> 0;
const high32 = (value: number): number => Math.floor(value / 2 ** 32) >>> 0;

/**
 * Standard normal values `offset …` of a stream. Block b of a stream is the counter (b, stream) under the seed as key;
 * its words give values 4b … 4b+3 by Box and Muller in float64: √(−2·ln u)·(cos, sin)(2πw), u = (word + 1)/2³², w = word/2³².
 */
export function fillNormal(out: Float32Array, { seed, stream, offset }: NormalStream): void {
  const wrapped = BigInt.asUintN(64, seed);
  const key = [Number(wrapped & 0xffffffffn), Number(wrapped >> 32n)] as const;
  const words = new Uint32Array(4);
  const values = new Float64Array(4);
  const first = Math.floor(offset / 4);
  for (let block = first, i = 4 * first - offset; i < out.length; block++, i += 4) {
    philox([low32(block), high32(block), low32(stream), high32(stream)], key, words);
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log((words[pair]! + 1) / 2 ** 32));
      const angle = (2 * Math.PI * words[pair + 1]!) / 2 ** 32;
      values[pair] = radius * Math.cos(angle);
      values[pair + 1] = radius * Math.sin(angle);
    }
    // Writes outside of a typed array do nothing: the ends of the first and the last block fall away.
    for (let lane = 0; lane < 4; lane++) if (i + lane >= 0) out[i + lane] = values[lane]!;
  }
}
