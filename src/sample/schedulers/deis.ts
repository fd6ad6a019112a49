// DEIS of order 3 in its tabulated form: velocities of up to three steps, weighted by integrals of their interpolation
// over EDM's times. https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/deis.py (arXiv 2204.13902)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";
import { pushVelocity, velocitiesOf, velocityNames } from "./velocity-history.ts";

/** Points of each integral. */
const POINTS = 10_000;

// EDM's noise levels as times of a variance-preserving process.
const EPSILON = 1e-3;
const spread = (sigma: number): number => Math.log(sigma ** 2 + 1);
const SLOPE = (2 * (spread(0.002) / EPSILON - spread(80))) / (EPSILON - 1);
const START = spread(80) - 0.5 * SLOPE;

/** The time at which the process is as noisy as σ. */
const timeOf = (sigma: number): number => (Math.sqrt(START ** 2 + 2 * SLOPE * spread(sigma)) - START) / SLOPE;

/** The weights of the velocities at `times`, newest first, over the step from times[0] to `next`. */
function integrals(times: readonly number[], next: number): number[] {
  const from = times[0]!;
  const sums = times.map(() => 0);
  for (let p = 0; p < POINTS; p++) {
    const tau = from + ((next - from) * p) / (POINTS - 1);
    const alpha = Math.exp(-0.5 * tau ** 2 * SLOPE - tau * START);
    const rate = (0.5 * (tau * SLOPE + START)) / Math.sqrt(alpha * (1 - alpha));
    for (const [j, at] of times.entries()) {
      let share = 1;
      for (const [k, other] of times.entries()) if (k !== j) share *= (tau - other) / (at - other);
      sums[j]! += rate * share;
    }
  }
  return sums.map((sum) => (sum * (next - from)) / POINTS);
}

class DeisScheduler extends BaseScheduler {
  readonly kind = "deis";
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
    if (velocities.length === 1 || this.isLast(index)) {
      return { next: weighted([1, sample], [this.sigmas[index + 1]! - this.sigmas[index]!, velocity]), keep };
    }
    const times = velocities.map((_, i) => timeOf(this.sigmas[index - i]!));
    const shares = integrals(times, timeOf(this.sigmas[index + 1]!));
    const next = weighted([1, sample], ...shares.map((share, i) => [share, velocities[i]!] as const));
    return { next, keep, order: shares.length };
  }
}

export const deis = defineSampler({
  name: "deis",
  help: "DEIS: up to three velocities, weighted by exact integrals",
  options: z.strictObject({ max_order: z.int().min(1).max(4).default(3) }),
  create: (schedule, settings) => new DeisScheduler(schedule, settings.max_order),
});
