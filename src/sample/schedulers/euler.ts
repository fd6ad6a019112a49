// Euler steps along the flow: each moves the sample by the model's velocity times the fall in noise.
// Not in the official code; it uses the noise levels of the official DPM++ schedule (from pure noise, σ = 1).
import { z } from "zod";
import { shiftedLevels } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";

class EulerScheduler extends BaseScheduler {
  readonly kind = "euler";

  constructor(options: ScheduleOptions) {
    super(shiftedLevels(1, options), options);
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
  help: "one Euler step along the velocity; not in the official code",
  options: z.strictObject({}),
  create: (schedule) => new EulerScheduler(schedule),
});
