// The noise levels σ at which the official pipelines sample, and the scalar arithmetic on them in float32.
import { KinoraError } from "../../base/errors.ts";
import { type ScheduleOptions, TRAIN_TIMESTEPS } from "./scheduler.ts";

/** More make no schedule that float32 could tell apart, and no film. */
export const MAX_STEPS = 10_000;
const f32 = Math.fround;

/**
 * `steps` levels from `start` towards 0 (which is left out), evenly spaced before the shift, in float64.
 * Throws `scheduler.options`.
 */
export function shiftedLevels(start: number, { steps, shift }: ScheduleOptions): number[] {
  if (!Number.isInteger(steps) || steps < 1 || steps > MAX_STEPS || !Number.isFinite(shift) || shift <= 0) {
    throw new KinoraError("scheduler.options", "these sampler settings give no valid schedule", {
      expected: `1 to ${MAX_STEPS} steps and a positive shift`,
      actual: `${steps} steps, shift ${shift}`,
      hint: "20 to 50 steps and a shift of 3 to 12 are usual",
    });
  }
  // numpy.linspace's own order of operations: i·step + start.
  const spacing = (0 - start) / steps;
  return Array.from({ length: steps }, (_, i) => {
    const sigma = i * spacing + start;
    return (shift * sigma) / (1 + (shift - 1) * sigma);
  });
}

/**
 * Where UniPC starts: the highest level of its training schedule, 1 − 1/1000, kept in float32.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/utils/fm_solvers_unipc.py#L103
 */
export const UNIPC_START = f32(1 - 1 / TRAIN_TIMESTEPS);

/** Half the log signal-to-noise ratio λ = ln(1 − σ) − ln σ, rounded to float32 at every operation. ±∞ at 0 and 1. */
export function logSnr(sigma: number): number {
  return f32(f32(Math.log(f32(1 - sigma))) - f32(Math.log(sigma)));
}

/** Predicted clean latents: sample − σ·velocity, in float32. */
export function predictClean(sample: Float32Array, velocity: Float32Array, sigma: number): Float32Array {
  const clean = new Float32Array(sample.length);
  for (let i = 0; i < clean.length; i++) clean[i] = sample[i]! - f32(sigma * velocity[i]!);
  return clean;
}
