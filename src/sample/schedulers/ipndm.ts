// Adams–Bashforth of velocities, up to order 4 (IPNDM, arXiv 2204.13902).
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_ipndm)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";
import { pushVelocity, velocitiesOf, velocityNames } from "./velocity-history.ts";

/** Of this velocity and those before it, newest first. */
const weights = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]] as const;

class IpndmScheduler extends BaseScheduler {
  readonly kind = "ipndm";
  readonly #order: number;

  constructor(schedule: ScheduleOptions, order: number) {
    super(levelsOf(schedule), schedule);
    this.#order = order;
  }

  protected keptAt(step: number): readonly string[] {
    return velocityNames(Math.min(step, this.#order - 1));
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const velocity = yield* this.ask(sample, index);
    const velocities = [velocity, ...velocitiesOf(this.kept)];
    const keep = pushVelocity(this.kept, velocity, this.#order - 1);
    const fall = this.sigmas[index + 1]! - this.sigmas[index]!;
    const shares = this.isLast(index) ? weights[0] : weights[velocities.length - 1]!;
    const next = weighted([1, sample], ...shares.map((share, i) => [fall * share, velocities[i]!] as const));
    return { next, keep, order: shares.length };
  }
}

export const ipndm = defineSampler({
  name: "ipndm",
  help: "IPNDM: combines the velocities of up to four steps",
  options: z.strictObject({ max_order: z.int().min(1).max(4).default(4) }),
  create: (schedule, settings) => new IpndmScheduler(schedule, settings.max_order),
});
