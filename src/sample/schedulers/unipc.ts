// UniPC of order 2 (B2, predicting the clean latents): a predictor, and a corrector that mends the step before.
// Every scalar and element is rounded to float32 where the official code's tensors are.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/utils/fm_solvers_unipc.py (arXiv 2302.04867)
import { z } from "zod";
import { logSnr, predictClean, UNIPC_START } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

const f32 = Math.fround;
const SOLVER_ORDER = 2;

/** Coefficients of the step between two noise levels. */
interface StepTerms {
  /** σ_to / σ_from, for the sample the step starts from. */
  ratio: number;
  /** α_to·(e^−h − 1), for the clean prediction; in the B2 variant also α_to·B(h), for differences of predictions. */
  drift: number;
  h: number;
}

/** What is looked back on. */
interface Kept {
  /** The sample the last step started from, corrected. */
  base: Float32Array;
  /** Clean predictions of the last step and the one before it. */
  clean: Float32Array;
  cleanBefore?: Float32Array;
}

/**
 * The published class finds its first step by the timestep's value and goes wrong where the first two coincide (at
 * shift 12 from 92 steps on, where it ends in an assertion). This one counts, and such schedules simply work.
 */
class UniPcScheduler extends BaseScheduler {
  readonly kind = "unipc";
  declare protected kept: Partial<Kept>;

  constructor(options: ScheduleOptions) {
    super(levelsOf(options, { start: UNIPC_START }), options);
  }

  protected keptAt(step: number): readonly string[] {
    return ["base", "clean", "cleanBefore"].slice(0, step === 0 ? 0 : step + 1);
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const velocity = yield* this.ask(sample, index);
    // The clean prediction comes from the sample as it was, before the corrector touches it.
    const clean = predictClean(sample, velocity, this.sigmas[index]!);
    const base = index > 0 ? this.#correct(index, clean) : sample.slice();
    const cleanBefore = this.kept.clean;
    // The last step is of order 1, and so is the first: there is nothing to look back on.
    const order = Math.min(SOLVER_ORDER, this.timesteps.length - index, this.lastOrder + 1);
    const keep: Kept & Record<string, Float32Array> = cleanBefore ? { base, clean, cleanBefore } : { base, clean };
    return { next: this.#predict(index, order, keep), keep, order };
  }

  #terms(from: number, to: number): StepTerms {
    const [sigmaFrom, sigmaTo] = [this.sigmas[from]!, this.sigmas[to]!];
    const alphaTo = f32(1 - sigmaTo);
    const h = f32(logSnr(sigmaTo) - logSnr(sigmaFrom));
    return { ratio: f32(sigmaTo / sigmaFrom), drift: f32(alphaTo * f32(Math.expm1(-h))), h };
  }

  /** How far back the prediction before `from` lies, in units of the step: negative. */
  #lookBack(from: number, h: number): number {
    return f32(f32(logSnr(this.sigmas[from - 1]!) - logSnr(this.sigmas[from]!)) / h);
  }

  #predict(index: number, order: number, { base, clean, cleanBefore }: Kept): Float32Array {
    const { ratio, drift, h } = this.#terms(index, index + 1);
    const next = new Float32Array(base.length);
    if (order === 1 || !cleanBefore) {
      for (let i = 0; i < next.length; i++) next[i] = f32(ratio * base[i]!) - f32(drift * clean[i]!);
      return next;
    }
    const back = this.#lookBack(index, h);
    for (let i = 0; i < next.length; i++) {
      const slope = f32(f32(cleanBefore[i]! - clean[i]!) / back);
      const first = f32(f32(ratio * base[i]!) - f32(drift * clean[i]!));
      next[i] = first - f32(drift * f32(0.5 * slope));
    }
    return next;
  }

  /** Redoes the last step with the prediction `cleanNow` at its end: the base of the step to come. */
  #correct(index: number, cleanNow: Float32Array): Float32Array {
    const { ratio, drift, h } = this.#terms(index - 1, index);
    const [base, clean, cleanBefore] = [this.kept.base!, this.kept.clean!, this.kept.cleanBefore];
    const corrected = new Float32Array(base.length);
    if (this.lastOrder === 1 || !cleanBefore) {
      for (let i = 0; i < corrected.length; i++) {
        const first = f32(f32(ratio * base[i]!) - f32(drift * clean[i]!));
        const change = f32(0.5 * f32(cleanNow[i]! - clean[i]!));
        corrected[i] = first - f32(drift * change);
      }
      return corrected;
    }
    const back = this.#lookBack(index - 1, h);
    const [weightBack, weightNow] = correctorWeights(h, back);
    for (let i = 0; i < corrected.length; i++) {
      const slope = f32(f32(cleanBefore[i]! - clean[i]!) / back);
      const first = f32(f32(ratio * base[i]!) - f32(drift * clean[i]!));
      const change = f32(weightNow * f32(cleanNow[i]! - clean[i]!));
      corrected[i] = first - f32(drift * f32(f32(weightBack * slope) + change));
    }
    return corrected;
  }
}

/** Solves [[1, 1], [back, 1]]·w = b, b from the φ functions of −h; by elimination with a pivot, as LAPACK does. */
function correctorWeights(h: number, back: number): [number, number] {
  const hh = -h;
  const growth = f32(Math.expm1(hh));
  const phi1 = f32(f32(growth / hh) - 1);
  const b1 = f32(phi1 / growth);
  const phi2 = f32(f32(phi1 / hh) - 0.5);
  const b2 = f32(f32(phi2 * 2) / growth);
  if (Math.abs(back) <= 1) {
    const second = f32(f32(b2 - f32(back * b1)) / f32(1 - back));
    return [f32(b1 - second), second];
  }
  const factor = f32(1 / back);
  const second = f32(f32(b1 - f32(factor * b2)) / f32(1 - factor));
  return [f32(f32(b2 - second) / back), second];
}

export const unipc = defineSampler({
  name: "unipc",
  help: "second-order UniPC, as in the official code",
  options: z.strictObject({}),
  create: (schedule) => new UniPcScheduler(schedule),
});
