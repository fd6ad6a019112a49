// MT19937, the generator behind PyTorch on the CPU, seeded by one 32-bit number.
// Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998 (initialisation of 2002).

const SIZE = 624;
const SHIFT = 397;

export class MersenneTwister {
  readonly #state = new Uint32Array(SIZE);
  #next = SIZE;

  constructor(seed: number) {
    this.#state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const previous = this.#state[i - 1]!;
      this.#state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** An integer from 0 to 2³² − 1. */
  word(): number {
    if (this.#next === SIZE) this.#twist();
    let word = this.#state[this.#next++]!;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < SIZE; i++) {
      const following = state[i + 1 === SIZE ? 0 : i + 1]!;
      const mixed = (state[i]! & 0x80000000) | (following & 0x7fffffff);
      const far = state[i + SHIFT < SIZE ? i + SHIFT : i + SHIFT - SIZE]!;
      state[i] = far ^ (mixed >>> 1) ^ (following & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}
