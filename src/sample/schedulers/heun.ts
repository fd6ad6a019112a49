// The mean of the velocities at both ends of a step: two evaluations, one in the last.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_heun)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

class HeunScheduler extends BaseScheduler {
  readonly kind = "heun";

  constructor(schedule: ScheduleOptions) {
    super(levelsOf(schedule), schedule);
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const fall = this.sigmas[index + 1]! - this.sigmas[index]!;
    const velocity = yield* this.ask(sample, index);
    const reached = weighted([1, sample], [fall, velocity]);
    if (this.isLast(index)) return { next: reached };
    const second = yield* this.ask(reached, index + 1);
    return { next: weighted([1, sample], [fall / 2, velocity], [fall / 2, second]), order: 2 };
  }
}

export const heun = defineSampler({
  name: "heun",
  help: "Heun's method: two evaluations per step",
  options: z.strictObject({}),
  create: (schedule) => new HeunScheduler(schedule),
});
