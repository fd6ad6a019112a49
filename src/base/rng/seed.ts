// Seeds as 64-bit numbers, and one drawn at random where nobody gave any.
import { randomInt } from "node:crypto";
import { KinoraError } from "../errors.ts";

/** A seed as the command line and the libraries take it: any integer of 64 bits, signed or not. */
export type Seed = number | bigint;

/** The range of 64 bits, signed or not. */
export const SEED_MIN = -(1n << 63n);
export const SEED_MAX = (1n << 64n) - 1n;

/** The two 32-bit halves of a seed; negative ones wrap, as torch.manual_seed does. Throws `rng.seed`. */
export function seedWords(seed: Seed): { low: number; high: number } {
  const whole = typeof seed === "bigint" || Number.isSafeInteger(seed) ? BigInt(seed) : undefined;
  if (whole === undefined || whole > SEED_MAX || whole < SEED_MIN) {
    throw new KinoraError("rng.seed", "a seed is an integer of at most 64 bits", {
      actual: String(seed),
      hint: "Beyond 2^53 a seed must be a bigint: as a number it has lost digits.",
    });
  }
  const bits = BigInt.asUintN(64, whole);
  return { low: Number(bits & 0xffffffffn), high: Number(bits >> 32n) };
}

/** A seed for whoever gave none: of 32 bits, which every other tool takes too. */
export const drawSeed = (): bigint => BigInt(randomInt(2 ** 32));
