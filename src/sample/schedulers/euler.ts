// Euler steps along the flow: each moves the sample by the model's velocity times the fall in noise. With the official
// schedule it takes the noise levels of the official DPM++ (from pure noise, σ = 1); ComfyUI's `ddim` is the same.
import { z } from "zod";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf, type NoiseLevels } from "./schedules/index.ts";

export class EulerScheduler extends BaseScheduler {
  readonly kind: string;

  constructor(kind: string, options: ScheduleOptions, levels: NoiseLevels = levelsOf(options)) {
    super(levels, options);
    this.kind = kind;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const velocity = yield* this.ask(sample, index);
    const fall = Math.fround(this.sigmas[index + 1]! - this.sigmas[index]!);
    const next = new Float32Array(sample.length);
    for (let i = 0; i < next.length; i++) next[i] = sample[i]! + Math.fround(fall * velocity[i]!);
    return { next };
  }
}

export const euler = defineSampler({
  name: "euler",
  help: "one Euler step along the velocity",
  options: z.strictObject({}),
  create: (schedule) => new EulerScheduler("euler", schedule),
});

export const ddim = defineSampler({
  name: "ddim",
  help: "the same as euler for flow models",
  options: z.strictObject({}),
  create: (schedule) => new EulerScheduler("ddim", schedule),
});
