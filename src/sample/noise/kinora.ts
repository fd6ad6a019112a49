// Kinora's own random numbers: counter-based, the same on every device.
import { philoxNormals } from "../../base/rng/philox-rng.ts";
import type { NoiseRow } from "./source.ts";

/** Streams of a seed: the starting noise, then those of the steps. These numbers are part of what a seed means. */
const START = 0;
const STEPS = 1;
/** Draws of a step. No sampler makes more than a few. */
const DRAWS = 64;

function stream(seed: bigint, number: number, count: number): Float32Array {
  const values = new Float32Array(count);
  philoxNormals(seed, number, 0, values);
  return values;
}

export const kinoraNoise = {
  name: "kinora",
  help: "the same on every device",
  create: () => (seed, count) => stream(seed, START, count),
} as const satisfies NoiseRow;

/**
 * `count` normal values for draw `draw` of step `step`, both from 0: what samplers that draw noise in their steps get,
 * wherever the starting noise is from.
 */
export function stepNoise(seed: bigint, step: number, draw: number, count: number): Float32Array {
  if (draw >= DRAWS) throw new RangeError(`a step draws at most ${DRAWS} times`);
  return stream(seed, STEPS + step * DRAWS + draw, count);
}
