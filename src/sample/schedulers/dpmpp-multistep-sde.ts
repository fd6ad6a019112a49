// Stochastic multistep DPM-Solver++ of order 2 (in two forms) and 3.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py (sample_dpmpp_2m_sde, sample_dpmpp_3m_sde)
import { halfLogSnr, weighted } from "./noise-levels.ts";
import { type NoisySettings, noisySettings } from "./noisy-settings.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions, type StepNoise } from "./scheduler.ts";
import { snrLevels } from "./snr-levels.ts";

type Form = "midpoint" | "heun" | "third";

const kinds = { midpoint: "dpmpp_2m_sde", heun: "dpmpp_2m_sde_heun", third: "dpmpp_3m_sde" } as const;

class DpmppMultistepSdeScheduler extends BaseScheduler {
  readonly kind: string;
  readonly #form: Form;
  readonly #settings: NoisySettings;
  declare protected kept: { clean?: Float32Array; before?: Float32Array };

  constructor(form: Form, schedule: ScheduleOptions, settings: NoisySettings) {
    super(snrLevels(schedule), schedule);
    this.kind = kinds[form];
    this.#form = form;
    this.#settings = settings;
  }

  protected keptAt(step: number): readonly string[] {
    return ["clean", "before"].slice(0, Math.min(step, this.#form === "third" ? 2 : 1));
  }

  /** How far step `index` goes in half the log signal-to-noise ratio. */
  #width(index: number): number {
    return halfLogSnr(this.sigmas[index + 1]!) - halfLogSnr(this.sigmas[index]!);
  }

  protected *advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance> {
    const { eta, s_noise } = this.#settings;
    const clean = yield* this.predict(sample, index);
    const { clean: last, before } = this.kept;
    const keep: Record<string, Float32Array> = this.#form === "third" && last ? { clean, before: last } : { clean };
    if (this.isLast(index)) return { next: clean, keep };
    const [from, to] = [this.sigmas[index]!, this.sigmas[index + 1]!];
    const h = this.#width(index);
    const wide = h * (eta + 1);
    const signal = 1 - to;
    const reach = -Math.expm1(-wide);
    const terms: [number, Float32Array][] = [
      [(to / from) * Math.exp(-h * eta), sample],
      [signal * reach, clean],
    ];
    const phi2 = 1 - reach / wide;
    if (last && before && this.#form === "third") {
      const [r0, r1] = [this.#width(index - 1) / h, this.#width(index - 2) / h];
      const phi3 = phi2 / wide - 0.5;
      // Weights of the two differences: (clean − last) / r0 and (last − before) / r1.
      const bend = (signal * (phi2 * r0 - phi3)) / (r0 + r1);
      const near = (signal * phi2 + bend) / r0;
      const far = bend / r1;
      terms.push([near, clean], [-near - far, last], [far, before]);
    } else if (last) {
      const slope = this.#form === "midpoint" ? 0.5 * reach : phi2;
      const weight = (signal * slope * h) / this.#width(index - 1);
      terms.push([weight, clean], [-weight, last]);
    }
    if (eta > 0 && s_noise > 0) terms.push([to * Math.sqrt(-Math.expm1(-2 * h * eta)) * s_noise, noise(0)]);
    return { next: weighted(...terms), keep, order: before ? 3 : last ? 2 : 1 };
  }
}

const row = <const N extends string>(name: N, help: string, form: Form) =>
  defineSampler({
    name,
    help,
    options: noisySettings,
    create: (schedule, settings) => new DpmppMultistepSdeScheduler(form, schedule, settings),
  });

export const dpmpp2mSde = row("dpmpp_2m_sde", "stochastic DPM-Solver++ (2M)", "midpoint");
export const dpmpp2mSdeHeun = row("dpmpp_2m_sde_heun", "the same in Heun's form", "heun");
export const dpmpp3mSde = row("dpmpp_3m_sde", "stochastic DPM-Solver++ (3M)", "third");
