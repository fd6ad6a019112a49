// Stochastic DPM-Solver++ with a step in between: two evaluations and two noises a step.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_dpmpp_sde)
import { z } from "zod";
import { ancestralStep, halfLogSnr, sigmaOfSnr, weighted } from "./noise-levels.ts";
import { noisySettings } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { flowTime } from "./schedules/index.ts";
import { snrLevels } from "./snr-levels.ts";

const settings = noisySettings.extend({
  /** Where the step in between lies, of its share in the log signal-to-noise ratio. */
  r: z.number().positive().max(1).default(0.5),
});

class DpmppSdeScheduler extends BaseScheduler {
  readonly kind = "dpmpp_sde";
  readonly #settings: z.output<typeof settings>;

  constructor(schedule: ScheduleOptions, given: z.output<typeof settings>) {
    super(snrLevels(schedule), schedule);
    this.#settings = given;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const { eta, s_noise, r } = this.#settings;
    const clean = yield* this.predict(sample, index);
    if (this.isLast(index)) return { next: clean };
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const [start, end] = [halfLogSnr(from), halfLogSnr(to)];
    const between = Math.fround(start + r * (end - start));
    const middle = sigmaOfSnr(between);
    const noisy = eta > 0 && s_noise > 0;
    const signal = (sigma: number, lambda: number) => sigma * Math.exp(lambda);
    /** From the step's start to a level, towards a clip. */
    const fall = (sigma: number, lambda: number, clip: Float32Array, draw: number) => {
      const alpha = signal(sigma, lambda);
      const { down, up } = ancestralStep(Math.exp(-start), Math.exp(-lambda), eta);
      const decay = down / Math.exp(-start);
      const terms = [
        [(alpha / signal(from, start)) * decay, sample],
        [alpha * (1 - decay), clip],
      ] as const;
      return noisy ? weighted(...terms, [alpha * s_noise * up, noise(draw)]) : weighted(...terms);
    };
    const halfway = fall(middle, between, clean, 0);
    const second = yield* this.predict(halfway, { sigma: middle, timestep: flowTime(middle) });
    const share = 1 / (2 * r);
    return { next: fall(to, end, weighted([1 - share, clean], [share, second]), 1), order: 2 };
  }
}

export const dpmppSde = defineSampler({
  name: "dpmpp_sde",
  help: "stochastic DPM-Solver++: two evaluations per step",
  options: settings,
  create: (schedule, given) => new DpmppSdeScheduler(schedule, given),
});
