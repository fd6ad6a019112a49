// DPM-Solver++ (2S) with noise put back, in ComfyUI's form for rectified flow: two evaluations a step.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_dpmpp_2s_ancestral_RF)
import { flowDescent } from "./euler-ancestral.ts";
import { weighted } from "./noise-levels.ts";
import { type NoisySettings, noisySettings } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { flowTime, levelsOf } from "./schedules/index.ts";

/** The middle that pure noise has, whose log signal-to-noise ratio is none. */
const BELOW_NOISE = 0.9999;

class Dpmpp2sAncestralScheduler extends BaseScheduler {
  readonly kind = "dpmpp_2s_ancestral";
  readonly #settings: NoisySettings;

  constructor(schedule: ScheduleOptions, settings: NoisySettings) {
    super(levelsOf(schedule), schedule);
    this.#settings = settings;
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const { eta, s_noise } = this.#settings;
    const clean = yield* this.predict(sample, index);
    if (this.isLast(index)) return { next: clean };
    const from = this.sigmas[index]!;
    const { down, keep, noise: strength } = flowDescent(from, this.sigmas[index + 1]!, eta);
    const towards = (sigma: number, clip: Float32Array, share = 1) =>
      [
        [(sigma / from) * share, sample],
        [(1 - sigma / from) * share, clip],
      ] as const;
    const ratio = (sigma: number) => Math.log((1 - sigma) / sigma);
    const middle = from === 1 ? BELOW_NOISE : 1 / (1 + Math.exp((ratio(from) + ratio(down)) / 2));
    const sigma = Math.fround(middle);
    const second = yield* this.predict(weighted(...towards(sigma, clean)), { sigma, timestep: flowTime(sigma) });
    const fallen = towards(down, second, eta > 0 ? keep : 1);
    const next = eta > 0 ? weighted(...fallen, [strength * s_noise, noise(0)]) : weighted(...fallen);
    return { next, order: 2 };
  }
}

export const dpmpp2sAncestral = defineSampler({
  name: "dpmpp_2s_ancestral",
  help: "DPM-Solver++ (2S) ancestral: two evaluations per step",
  options: noisySettings,
  create: (schedule, settings) => new Dpmpp2sAncestralScheduler(schedule, settings),
});
