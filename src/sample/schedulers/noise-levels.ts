// Arithmetic on noise levels σ and latents that samplers share; scalars are rounded to float32 where upstream's are.

/** Timesteps run from 0 to 1000, as in training. */
export const TRAIN_TIMESTEPS = 1000;

/** More make no schedule that float32 could tell apart, and no film. */
export const MAX_STEPS = 10_000;
const f32 = Math.fround;

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

/** Half the log signal-to-noise ratio as torch.logit has it: −ln(σ / (1 − σ)). */
export const halfLogSnr = (sigma: number): number => -f32(Math.log(f32(sigma / f32(1 - sigma))));

/** The noise level of a half log signal-to-noise ratio. */
export const sigmaOfSnr = (lambda: number): number => f32(1 / (1 + Math.exp(lambda)));

/** Σ weight · values, one by one. */
export function weighted(...terms: readonly (readonly [weight: number, values: Float32Array])[]): Float32Array {
  const result = new Float32Array(terms[0]![1].length);
  for (let i = 0; i < result.length; i++) {
    let sum = 0;
    for (const [weight, values] of terms) sum += weight * values[i]!;
    result[i] = sum;
  }
  return result;
}

/** The noise level to fall to, and the noise to put back to be at `to` (variance exploding, k-diffusion). */
export function ancestralStep(from: number, to: number, eta: number): { down: number; up: number } {
  if (eta === 0) return { down: to, up: 0 };
  const up = Math.min(to, eta * Math.sqrt((to ** 2 * (from ** 2 - to ** 2)) / from ** 2));
  return { down: Math.sqrt(to ** 2 - up ** 2), up };
}
