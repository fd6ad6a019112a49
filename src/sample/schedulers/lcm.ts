// Latent consistency: straight to the predicted clip, and new noise on it. For distilled models.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_lcm)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { s_noise } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

class LcmScheduler extends BaseScheduler {
  readonly kind = "lcm";
  readonly #strength: number;

  constructor(schedule: ScheduleOptions, strength: number) {
    super(levelsOf(schedule), schedule);
    this.#strength = strength;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const clean = yield* this.predict(sample, index);
    if (this.isLast(index)) return { next: clean };
    const to = this.sigmas[index + 1]!;
    return { next: weighted([1 - to, clean], [to * this.#strength, noise(0)]) };
  }
}

export const lcm = defineSampler({
  name: "lcm",
  help: "LCM: jumps to the predicted clip and adds new noise; for distilled models",
  options: z.strictObject({ s_noise }),
  create: (schedule, settings) => new LcmScheduler(schedule, settings.s_noise),
});
