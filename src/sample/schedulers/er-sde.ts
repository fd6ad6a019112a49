// ER-SDE-Solver-3: the reverse-time equation with its noise extended (arXiv 2309.06169).
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_er_sde)
import { z } from "zod";
import { halfLogSnr, weighted } from "./noise-levels.ts";
import { s_noise } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { snrLevels } from "./snr-levels.ts";

/** Points of the integrals. */
const POINTS = 200;

/** How noise is extended over λ = σ / α. */
const extent = (lambda: number): number => lambda * (Math.exp(lambda ** 0.3) + 10);

interface Settings {
  s_noise: number;
  max_stage: number;
}

class ErSdeScheduler extends BaseScheduler {
  readonly kind = "er_sde";
  readonly #settings: Settings;
  /** The last clip, and the slope of clips there. */
  declare protected kept: { clean?: Float32Array; slope?: Float32Array };

  constructor(schedule: ScheduleOptions, settings: Settings) {
    super(snrLevels(schedule), schedule);
    this.#settings = settings;
  }

  protected keptAt(step: number): readonly string[] {
    if (step === this.timesteps.length) return [];
    return ["clean", "slope"].slice(0, Math.min(step, this.#settings.max_stage, 2));
  }

  #lambda(index: number): number {
    return Math.exp(-halfLogSnr(this.sigmas[index]!));
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const { s_noise: strength, max_stage } = this.#settings;
    const clean = yield* this.predict(sample, index);
    if (this.isLast(index)) return { next: clean };
    const [from, to] = [this.#lambda(index), this.#lambda(index + 1)];
    const signal = this.sigmas[index + 1]! / to;
    const ratio = signal / (this.sigmas[index]! / from);
    const r = extent(to) / extent(from);
    const terms: [number, Float32Array][] = [
      [ratio * r, sample],
      [signal * (1 - r), clean],
    ];
    const { clean: last, slope: lastSlope } = this.kept;
    const stage = Math.min(max_stage, index + 1);
    let slope: Float32Array | undefined;
    if (stage >= 2) {
      const fall = to - from;
      const width = -fall / POINTS;
      let plain = 0;
      let moment = 0;
      for (let p = 0; p < POINTS; p++) {
        const at = to + p * width;
        plain += width / extent(at);
        moment += (width * (at - from)) / extent(at);
      }
      const back = from - this.#lambda(index - 1);
      slope = weighted([1 / back, clean], [-1 / back, last!]);
      terms.push([signal * (fall + plain * extent(to)), slope]);
      if (stage >= 3) {
        const half = (from - this.#lambda(index - 2)) / 2;
        const bend = weighted([1 / half, slope], [-1 / half, lastSlope!]);
        terms.push([signal * (fall ** 2 / 2 + moment * extent(to)), bend]);
      }
    }
    if (strength > 0) terms.push([signal * strength * Math.sqrt(Math.max(0, to ** 2 - (from * r) ** 2)), noise(0)]);
    const keep: Record<string, Float32Array> = slope ? { clean, slope } : { clean };
    return { next: weighted(...terms), keep, order: stage };
  }
}

export const erSde = defineSampler({
  name: "er_sde",
  help: "ER-SDE-Solver of up to three stages",
  options: z.strictObject({ s_noise, max_stage: z.int().min(1).max(3).default(3) }),
  create: (schedule, settings) => new ErSdeScheduler(schedule, settings),
});
