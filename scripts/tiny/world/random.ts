// Random draws for the world: a counter-based stream, so that scene n of a seed is reached without the ones before it.
import { philoxBlock } from "../../../src/base/rng/philox.ts";

/** Draws of one stream, in order. Streams of one seed are independent. */
export class Draws {
  readonly #key: readonly [number, number];
  readonly #stream: number;
  readonly #words = new Uint32Array(4);
  #position = 0;

  /** `seed` below 2^53 (its fraction and sign are dropped), `stream` a whole number below 2^53. */
  constructor(seed: number, stream: number) {
    const whole = Math.abs(Math.trunc(seed));
    this.#key = [whole >>> 0, Math.floor(whole / 2 ** 32) >>> 0];
    this.#stream = stream;
  }

  /** Uniform in [0, 1). */
  unit(): number {
    const lane = this.#position % 4;
    if (lane === 0) {
      const block = Math.floor(this.#position / 4);
      const [low, high] = this.#key;
      philoxBlock(block, 0, this.#stream >>> 0, Math.floor(this.#stream / 2 ** 32), low, high, this.#words);
    }
    this.#position++;
    return this.#words[lane]! / 2 ** 32;
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.unit();
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.unit() * items.length)]!;
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }
}
