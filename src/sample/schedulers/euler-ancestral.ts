// Euler steps that fall too far and put noise back, in ComfyUI's form for rectified flow.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_euler_ancestral_RF)
import { weighted } from "./noise-levels.ts";
import { type NoisySettings, noisySettings } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

/** Where a step falls to, and how it comes back from there to `to`: a part of the sample and so much noise. */
export function flowDescent(from: number, to: number, eta: number): { down: number; keep: number; noise: number } {
  const down = to * (1 + (to / from - 1) * eta);
  const keep = (1 - to) / (1 - down);
  return { down, keep, noise: Math.sqrt(Math.max(0, to ** 2 - (down * keep) ** 2)) };
}

class EulerAncestralScheduler extends BaseScheduler {
  readonly kind = "euler_ancestral";
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
    const fallen = [
      [(down / from) * keep, sample],
      [(1 - down / from) * keep, clean],
    ] as const;
    return { next: eta > 0 ? weighted(...fallen, [strength * s_noise, noise(0)]) : weighted(...fallen) };
  }
}

export const eulerAncestral = defineSampler({
  name: "euler_ancestral",
  help: "euler with noise added back in each step",
  options: noisySettings,
  create: (schedule, settings) => new EulerAncestralScheduler(schedule, settings),
});
