// Two samplers as docs/extending.md describes adding them, each a file's worth: one draws noise in its steps and has a
// setting of its own, one asks the model twice a step. They pass every test that Kinora's own pass.
import { z } from "zod";
import { predictClean, shiftedLevels } from "../../src/sample/schedulers/noise-levels.ts";
import { defineSampler } from "../../src/sample/schedulers/sampler.ts";
import {
  type Advance,
  type Asking,
  BaseScheduler,
  type ScheduleOptions,
  type StepNoise,
} from "../../src/sample/schedulers/scheduler.ts";

/** Euler steps that fall too far and put noise back, in the form for rectified flow. */
class AncestralScheduler extends BaseScheduler {
  readonly kind = "euler-ancestral";
  readonly #eta: number;

  constructor(schedule: ScheduleOptions, { eta }: { eta: number }) {
    super(shiftedLevels(1, schedule), schedule);
    this.#eta = eta;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const velocity = yield* this.ask(sample, index);
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const clean = predictClean(sample, velocity, from);
    if (to === 0) return { next: clean };
    const down = to * (1 + (to / from - 1) * this.#eta);
    const keep = (1 - to) / (1 - down);
    const added = Math.sqrt(Math.max(0, to ** 2 - (down * keep) ** 2));
    const drawn = noise(0);
    const next = sample.map((value, i) => {
      const fallen = (down / from) * value + (1 - down / from) * clean[i]!;
      return keep * fallen + added * drawn[i]!;
    });
    return { next };
  }
}

export const eulerAncestral = defineSampler({
  name: "euler-ancestral",
  help: "Euler with noise put back in each step",
  options: z.strictObject({ eta: z.number().min(0).max(1).default(1) }),
  create: (schedule, options) => new AncestralScheduler(schedule, options),
});

/** The mean of the velocities at both ends of a step. */
class HeunScheduler extends BaseScheduler {
  readonly kind = "heun";

  constructor(schedule: ScheduleOptions) {
    super(shiftedLevels(1, schedule), schedule);
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const fall = this.sigmas[index + 1]! - this.sigmas[index]!;
    const velocity = yield* this.ask(sample, index);
    const reached = sample.map((value, i) => value + fall * velocity[i]!);
    if (index + 1 === this.timesteps.length) return { next: reached };
    const second = yield* this.ask(reached, index + 1);
    return { next: sample.map((value, i) => value + (fall * (velocity[i]! + second[i]!)) / 2), order: 2 };
  }
}

export const heun = defineSampler({
  name: "heun",
  help: "two evaluations a step",
  options: z.strictObject({}),
  create: (schedule) => new HeunScheduler(schedule),
});
