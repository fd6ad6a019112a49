// DPM-Solver++ of order 2 (multistep, midpoint), configured as the official generate.py does.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/utils/fm_solvers.py (arXiv 2211.01095)
import { z } from "zod";
import { logSnr, predictClean } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

const f32 = Math.fround;

class DpmSolverScheduler extends BaseScheduler {
  readonly kind = "dpm++";
  declare protected kept: {
    /** Clean prediction of the last step. */
    clean?: Float32Array;
  };

  constructor(options: ScheduleOptions) {
    // From pure noise: σ = 1, where λ is −∞ and the terms that depend on it fall away.
    super(levelsOf(options), options);
  }

  protected keptAt(step: number): readonly string[] {
    return step === 0 ? [] : ["clean"];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const velocity = yield* this.ask(sample, index);
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const clean = predictClean(sample, velocity, from);
    const before = this.kept.clean;
    const keep = { clean };
    const h = f32(logSnr(to) - logSnr(from));
    const ratio = f32(to / from);
    const drift = f32(f32(1 - to) * f32(f32(Math.exp(-h)) - 1));
    const next = new Float32Array(sample.length);
    if (!before || index === this.timesteps.length - 1) {
      for (let i = 0; i < next.length; i++) next[i] = f32(ratio * sample[i]!) - f32(drift * clean[i]!);
      return { next, keep };
    }
    const hBefore = f32(logSnr(from) - logSnr(this.sigmas[index - 1]!));
    const slopeScale = f32(1 / f32(hBefore / h));
    const half = f32(0.5 * drift);
    for (let i = 0; i < next.length; i++) {
      const slope = f32(slopeScale * f32(clean[i]! - before[i]!));
      next[i] = f32(f32(ratio * sample[i]!) - f32(drift * clean[i]!)) - f32(half * slope);
    }
    return { next, keep, order: 2 };
  }
}

export const dpmSolver = defineSampler({
  name: "dpm++",
  help: "second-order DPM-Solver++, as in the official code",
  options: z.strictObject({}),
  create: (schedule) => new DpmSolverScheduler(schedule),
});
