// Kinora's own random numbers: the same on every device and platform, and addressable, so that a resumed run draws
// what the unbroken one would have drawn. (For PyTorch's numbers see torch-cpu.ts and torch-cuda.ts.)
//
// Stream `stream` of seed `seed` is the words of the Philox blocks with key = seed and counter = (block, stream), two
// words each, the low one first. Normal value i of the stream comes from block ⌊i/4⌋: its words (a, b) give
// values 0 and 1, (c, d) values 2 and 3, by Box–Muller in float64 with u = (word + ½)·2⁻³²:
// √(−2·ln u₁)·cos(2π·u₂) and the same with the sine.
import { KinoraError } from "../errors.ts";
import { philoxBlock } from "./philox.ts";
import { type Seed, seedWords } from "./seed.ts";

const WORDS = 4;
const UNIT = 2 ** -32;

/** Bits 32 and up of a whole number below 2^53. */
function highWord(value: number): number {
  return Math.floor(value / 2 ** 32);
}

/** Writes the normal values `offset` … of a stream to `out`. This defines the numbers that device kernels reproduce. */
export function philoxNormals(seed: Seed, stream: number, offset: number, out: Float32Array): void {
  const { low, high } = seedWords(seed);
  const words = new Uint32Array(WORDS);
  const values = new Float64Array(WORDS);
  for (let i = 0; i < out.length; ) {
    const block = Math.floor((offset + i) / WORDS);
    philoxBlock(block >>> 0, highWord(block), stream >>> 0, highWord(stream), low, high, words);
    for (let k = 0; k < WORDS; k += 2) {
      const radius = Math.sqrt(-2 * Math.log((words[k]! + 0.5) * UNIT));
      const angle = 2 * Math.PI * ((words[k + 1]! + 0.5) * UNIT);
      values[k] = radius * Math.cos(angle);
      values[k + 1] = radius * Math.sin(angle);
    }
    for (let k = offset + i - block * WORDS; k < WORDS && i < out.length; k++) out[i++] = values[k]!;
  }
}

/** All that a generator is: plain data, fit for a file. */
export interface PhiloxState {
  /** Decimal, since a seed has 64 bits. */
  seed: string;
  stream: number;
  /** 32-bit words drawn so far. */
  position: number;
}

/** A generator that walks a stream. Streams of one seed are independent: one per purpose. */
export class PhiloxRng {
  readonly #seed: Seed;
  readonly #low: number;
  readonly #high: number;
  readonly #stream: number;
  #position: number;
  readonly #words = new Uint32Array(WORDS);
  #block = -1;

  /** @param position words already drawn. Throws `rng.seed`, `rng.stream`. */
  constructor(seed: Seed, stream = 0, position = 0) {
    ({ low: this.#low, high: this.#high } = seedWords(seed));
    if (!Number.isSafeInteger(stream) || stream < 0 || !Number.isSafeInteger(position) || position < 0) {
      throw new KinoraError("rng.stream", "a stream and a position are whole numbers below 2^53", {
        actual: `stream ${stream}, position ${position}`,
      });
    }
    this.#seed = seed;
    this.#stream = stream;
    this.#position = position;
  }

  static restore({ seed, stream, position }: PhiloxState): PhiloxRng {
    return new PhiloxRng(BigInt(seed), stream, position);
  }

  state(): PhiloxState {
    return { seed: String(this.#seed), stream: this.#stream, position: this.#position };
  }

  /** An integer from 0 to 2³² − 1. One word. */
  word(): number {
    const block = Math.floor(this.#position / WORDS);
    if (block !== this.#block) {
      const stream = this.#stream;
      philoxBlock(block >>> 0, highWord(block), stream >>> 0, highWord(stream), this.#low, this.#high, this.#words);
      this.#block = block;
    }
    return this.#words[this.#position++ % WORDS]!;
  }

  /** A number in [0, 1) with 53 random bits. Two words. */
  uniform(): number {
    const high = this.word() >>> 5;
    const low = this.word() >>> 6;
    return (high * 2 ** 26 + low) * 2 ** -53;
  }

  /** An integer from 0 to `bound` − 1, all equally likely. `bound` is at most 2³². Throws `rng.bound`. */
  integer(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32) {
      throw new KinoraError("rng.bound", "a bound must be an integer from 1 to 2^32", { actual: String(bound) });
    }
    // Words from the last, incomplete run of `bound` are drawn again.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % bound;
    }
  }

  /** A standard normal number in float64. Four words. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Fills `out` with standard normal numbers from the next whole block on, as `philoxNormals` counts them. */
  fillNormal(out: Float32Array): void {
    const start = Math.ceil(this.#position / WORDS) * WORDS;
    philoxNormals(this.#seed, this.#stream, start, out);
    this.#position = start + Math.ceil(out.length / WORDS) * WORDS;
  }

  /** Shuffles in place (Fisher–Yates); every order is equally likely. */
  shuffle<T>(items: T[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
  }
}
