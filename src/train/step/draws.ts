// Every random number of a run, by its place: (seed, purpose, step, batch, sample). Nothing is drawn in sequence, so a
// run that goes on after a stop draws what the unbroken one would have drawn.
import { philoxBlock } from "../../base/rng/philox.ts";
import { PhiloxRng } from "../../base/rng/philox-rng.ts";
import { seedWords } from "../../base/rng/seed.ts";
import type { Shape } from "../../base/shape.ts";
import type { Device } from "../../device/device.ts";
import { empty, type Tensor } from "../../tensor/tensor.ts";

/** What a draw is for. The numbers are part of what a seed means: they never change. */
const purposes = {
  noise: 1,
  sigma: 2,
  condition: 3,
  dropout: 4,
  initialization: 5,
  holdOut: 6,
  validation: 7,
} as const;
export type DrawPurpose = keyof typeof purposes;

/** Keeps these blocks apart from streams of the same seed, whose last counter stays below 2^21, and from shuffling. */
const DRAWS = 0x80000002;

/** A seed of 64 bits for one purpose at one place. */
export function drawSeed(seed: bigint, purpose: DrawPurpose, index: number, within = 0): bigint {
  const { low, high } = seedWords(seed);
  const words = new Uint32Array(4);
  philoxBlock(index >>> 0, within >>> 0, purposes[purpose], DRAWS, low, high, words);
  return (BigInt(words[1]!) << 32n) | BigInt(words[0]!);
}

export function drawRng(seed: bigint, purpose: DrawPurpose, index: number, within = 0): PhiloxRng {
  return new PhiloxRng(drawSeed(seed, purpose, index, within));
}

/** Standard normal values of a shape, drawn on the device: float32, in the current scope. */
export function drawNoise(
  device: Device,
  seed: bigint,
  purpose: "noise" | "validation",
  shape: Shape,
  { index, within = 0 }: { index: number; within?: number },
): Tensor {
  const values = empty(device, shape, "f32");
  device.kernels.normal(values, { seed: drawSeed(seed, purpose, index, within), stream: 0, offset: 0 });
  return values;
}

/** Uniform values in [0, 1). */
export function drawUniforms(seed: bigint, purpose: DrawPurpose, count: number, index: number, within = 0) {
  const rng = drawRng(seed, purpose, index, within);
  return Float32Array.from({ length: count }, () => rng.uniform());
}
