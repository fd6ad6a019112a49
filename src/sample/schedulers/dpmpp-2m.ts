// ComfyUI's DPM-Solver++ (2M), which takes the sample for variance exploding; the official code's own is dpm-solver.ts.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_dpmpp_2m)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

class Dpmpp2mScheduler extends BaseScheduler {
  readonly kind = "dpmpp_2m";
  declare protected kept: { clean?: Float32Array };

  constructor(schedule: ScheduleOptions) {
    super(levelsOf(schedule), schedule);
  }

  protected keptAt(step: number): readonly string[] {
    return step === 0 ? [] : ["clean"];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const clean = yield* this.predict(sample, index);
    const keep = { clean };
    if (this.isLast(index)) return { next: clean, keep };
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    // e^−h, of h = ln from − ln to.
    const ratio = to / from;
    const { clean: before } = this.kept;
    if (!before) return { next: weighted([ratio, sample], [1 - ratio, clean]), keep };
    const r = Math.log(this.sigmas[index - 1]! / from) / Math.log(from / to);
    const slope = 1 / (2 * r);
    const next = weighted([ratio, sample], [(1 - ratio) * (1 + slope), clean], [(ratio - 1) * slope, before]);
    return { next, keep, order: 2 };
  }
}

export const dpmpp2m = defineSampler({
  name: "dpmpp_2m",
  help: "DPM-Solver++ (2M), as in ComfyUI",
  options: z.strictObject({}),
  create: (schedule) => new Dpmpp2mScheduler(schedule),
});
