// RES, an exponential integrator of order 2 over two steps (arXiv 2308.02157), and with noise put back. Unlike the other
// ancestral ones it takes the sample for variance exploding, as ComfyUI does.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (res_multistep)
import { z } from "zod";
import { ancestralStep, weighted } from "./noise-levels.ts";
import { type NoisySettings, noisySettings } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

class ResMultistepScheduler extends BaseScheduler {
  readonly kind: string;
  readonly #settings: NoisySettings;
  declare protected kept: { clean?: Float32Array };

  constructor(kind: string, schedule: ScheduleOptions, settings: NoisySettings) {
    super(levelsOf(schedule), schedule);
    this.kind = kind;
    this.#settings = settings;
  }

  protected keptAt(step: number): readonly string[] {
    return step === 0 ? [] : ["clean"];
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const { eta, s_noise } = this.#settings;
    const clean = yield* this.predict(sample, index);
    const keep = { clean };
    if (this.isLast(index)) return { next: clean, keep };
    const from = this.sigmas[index]!;
    const { down, up } = ancestralStep(from, this.sigmas[index + 1]!, eta);
    const terms: [number, Float32Array][] = [[down / from, sample]];
    const { clean: before } = this.kept;
    if (before && down > 0) {
      const h = Math.log(from / down);
      const fallenTo = ancestralStep(this.sigmas[index - 1]!, from, eta).down;
      const c2 = Math.log(fallenTo / this.sigmas[index - 1]!) / h;
      const phi1 = Math.expm1(-h) / -h;
      const phi2 = (phi1 - 1) / -h;
      const second = phi2 / c2;
      terms.push([h * (phi1 - second), clean], [h * second, before]);
    } else terms.push([1 - down / from, clean]);
    if (up > 0) terms.push([s_noise * up, noise(0)]);
    return { next: weighted(...terms), keep, order: before ? 2 : 1 };
  }
}

export const resMultistep = defineSampler({
  name: "res_multistep",
  help: "second-order exponential integrator",
  options: z.strictObject({}),
  create: (schedule) => new ResMultistepScheduler("res_multistep", schedule, { eta: 0, s_noise: 0 }),
});

export const resMultistepAncestral = defineSampler({
  name: "res_multistep_ancestral",
  help: "the same with noise added back in each step",
  options: noisySettings,
  create: (schedule, settings) => new ResMultistepScheduler("res_multistep_ancestral", schedule, settings),
});
