// Two samplers as docs/extending.md describes adding them, each a file's worth: one draws noise in its steps and has a
// setting of its own, one asks the model twice a step. They pass every test that Kinora's own pass.
import { z } from "zod";
import { flowDescent } from "../../src/sample/schedulers/euler-ancestral.ts";
import { weighted } from "../../src/sample/schedulers/noise-levels.ts";
import { defineSampler } from "../../src/sample/schedulers/sampler.ts";
import {
  type Advance,
  type Asking,
  BaseScheduler,
  type ScheduleOptions,
  type StepNoise,
} from "../../src/sample/schedulers/scheduler.ts";
import { levelsOf } from "../../src/sample/schedulers/schedules/index.ts";

/** Euler steps with noise put back, the more of it the noisier the sample is. */
class RestlessScheduler extends BaseScheduler {
  readonly kind = "restless";
  readonly #share: number;

  constructor(schedule: ScheduleOptions, { share }: { share: number }) {
    super(levelsOf(schedule), schedule);
    this.#share = share;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const clean = yield* this.predict(sample, index);
    if (this.isLast(index)) return { next: clean };
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const { down, keep, noise: strength } = flowDescent(from, to, this.#share * from);
    return {
      next: weighted([(keep * down) / from, sample], [keep * (1 - down / from), clean], [strength, noise(0)]),
    };
  }
}

export const restless = defineSampler({
  name: "restless",
  help: "Euler with noise put back, less and less of it",
  options: z.strictObject({ share: z.number().min(0).max(1).default(1) }),
  create: (schedule, options) => new RestlessScheduler(schedule, options),
});

/** The velocity in the middle of each step. */
class MidpointScheduler extends BaseScheduler {
  readonly kind = "midpoint";

  constructor(schedule: ScheduleOptions) {
    super(levelsOf(schedule), schedule);
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const middle = (from + to) / 2;
    const velocity = yield* this.ask(sample, index);
    const halfway = weighted([1, sample], [middle - from, velocity]);
    const second = yield* this.ask(halfway, { sigma: middle, timestep: 1000 * middle });
    return { next: weighted([1, sample], [to - from, second]), order: 2 };
  }
}

export const midpoint = defineSampler({
  name: "midpoint",
  help: "two evaluations a step",
  options: z.strictObject({}),
  create: (schedule) => new MidpointScheduler(schedule),
});
