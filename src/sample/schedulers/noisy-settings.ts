// Settings of samplers that put noise back.
import { z } from "zod";

export const eta = z.number().min(0).max(1).default(1);
export const s_noise = z.number().min(0).max(100).default(1);

/** eta: how much of the step's fall is made with new noise; s_noise: how strong that noise is. */
export const noisySettings = z.strictObject({ eta, s_noise });

export type NoisySettings = z.output<typeof noisySettings>;
