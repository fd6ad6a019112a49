// ComfyUI's UniPC (uni_pc, uni_pc_bh2), of order 3 in variance-preserving variables, which take the flow's noise level for
// k-diffusion's: another algorithm than the official code's (unipc.ts). It ends at 0.001 and is divided by what signal is
// left there. Scalars are rounded to float32 as upstream's are: √(1 − e^2x) cancels where there is little noise.
// https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/extra_samplers/uni_pc.py (arXiv 2302.04867)
import { z } from "zod";
import { weighted } from "./noise-levels.ts";
import { defineSampler } from "./sampler.ts";
import { type Advance, type Asking, BaseScheduler, type ScheduleOptions } from "./scheduler.ts";
import { levelsOf } from "./schedules/index.ts";

const f32 = Math.fround;
const HIGHEST_ORDER = 3;
/** In the place of 0. */
const END = 0.001;

/** ln α, α, σ and ln(α / σ) of the variance-preserving process. */
interface Marginal {
  alpha: number;
  std: number;
  lambda: number;
}

export function marginal(sigma: number): Marginal {
  const logMean = f32(0.5 * f32(Math.log(f32(1 / f32(f32(sigma * sigma) + 1)))));
  const rest = f32(1 - f32(Math.exp(f32(2 * logMean))));
  const logStd = f32(0.5 * f32(Math.log(rest)));
  return { alpha: f32(Math.exp(logMean)), std: f32(Math.sqrt(rest)), lambda: f32(logMean - logStd) };
}

/** k-diffusion's variables are so many times the variance-preserving ones. */
const widening = (sigma: number): number => f32(Math.sqrt(f32(f32(sigma ** 2) + 1)));

type Variant = "bh1" | "bh2";
const kinds = { bh1: "uni_pc", bh2: "uni_pc_bh2" } as const;

class UniPcComfyScheduler extends BaseScheduler {
  readonly kind: string;
  readonly #variant: Variant;
  readonly #order: number;
  readonly #marginals: readonly Marginal[];
  /** The corrected sample of the last step, variance-preserving, and predicted clips, newest first. */
  declare protected kept: Record<string, Float32Array>;

  constructor(variant: Variant, options: ScheduleOptions) {
    super(levelsOf(options, { withoutPenultimate: true }), options);
    this.kind = kinds[variant];
    this.#variant = variant;
    this.#order = Math.min(HIGHEST_ORDER, Math.max(1, this.timesteps.length - 1));
    this.#marginals = Array.from(this.sigmas, (sigma) => marginal(sigma === 0 ? f32(END) : sigma));
  }

  protected keptAt(step: number): readonly string[] {
    return step === 0 ? [] : ["base", ...clipNames(Math.min(step, this.#order))];
  }

  protected *advance(index: number, sample: Float32Array): Asking<Advance> {
    const clean = this.#clip(sample, yield* this.predict(sample, index), index);
    const { base: before, ...clips } = this.kept;
    const history = clipNames(Object.keys(clips).length).map((name) => clips[name]!);
    const base = before
      ? this.#move(index, before, history, clean)
      : weighted([1 / widening(this.sigmas[index]!), sample]);
    const newest = [clean, ...history].slice(0, this.#order);
    const next = this.#move(index + 1, base, newest, undefined);
    const keep = { base, ...Object.fromEntries(newest.map((clip, i) => [`clip${i + 1}`, clip])) };
    const last = this.isLast(index);
    const { alpha } = this.#marginals[index + 1]!;
    return {
      next: weighted([last ? 1 / alpha : widening(this.sigmas[index + 1]!), next]),
      keep,
      order: this.#orderOf(index),
    };
  }

  /** The clip as the algorithm sees it, by way of the noise: in its variables, with float32's cancellation. */
  #clip(sample: Float32Array, clean: Float32Array, index: number): Float32Array {
    const sigma = this.sigmas[index]!;
    const { alpha, std } = this.#marginals[index]!;
    const wide = widening(sigma);
    return sample.map((value, i) => {
      const noise = f32(f32(value - clean[i]!) / sigma);
      return f32(f32(f32(value / wide) - f32(std * noise)) / alpha);
    });
  }

  /** The order of the step that ends at level `to`. */
  #orderOf(to: number): number {
    const steps = this.timesteps.length;
    return to < this.#order ? to : Math.min(this.#order, steps + 1 - to);
  }

  /** From the sample at level `to` − 1 to that at `to`; with the clip predicted there it is the corrector. */
  #move(to: number, from: Float32Array, clips: readonly Float32Array[], there: Float32Array | undefined): Float32Array {
    const order = to === this.timesteps.length ? 1 : Math.max(1, this.#orderOf(to));
    const [start, end] = [this.#marginals[to - 1]!, this.#marginals[to]!];
    const hh = -f32(end.lambda - start.lambda);
    const growth = f32(Math.expm1(hh));
    const b = this.#variant === "bh1" ? hh : growth;
    const ratios = Array.from({ length: order - 1 }, (_, i) =>
      f32(f32(this.#marginals[to - 2 - i]!.lambda - start.lambda) / -hh),
    );
    const { matrix, right } = system([...ratios, 1], hh, growth, b);
    const newest = clips[0]!;
    const terms: [number, Float32Array][] = [
      [end.std / start.std, from],
      [-end.alpha * growth, newest],
    ];
    const differ = (weight: number, clip: Float32Array) => {
      terms.push([-end.alpha * b * weight, clip], [end.alpha * b * weight, newest]);
    };
    let weights: number[];
    if (there) weights = order === 1 ? [0.5] : solve(matrix, right);
    else if (order === 2) weights = [0.5];
    else
      weights = solve(
        matrix.slice(0, -1).map((row) => row.slice(0, -1)),
        right.slice(0, -1),
      );
    for (const [i, ratio] of ratios.entries()) differ(weights[i]! / ratio, clips[i + 1]!);
    if (there) differ(weights.at(-1)!, there);
    return weighted(...terms);
  }
}

const clipNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `clip${i + 1}`);

/** Powers of the ratios, a row for each, and the φ functions of h that they are to come to. */
function system(ratios: readonly number[], hh: number, growth: number, b: number) {
  const matrix = ratios.map((_, power) => ratios.map((ratio) => ratio ** power));
  const right: number[] = [];
  let phi = f32(f32(growth / hh) - 1);
  let factorial = 1;
  for (let i = 1; i <= ratios.length; i++) {
    right.push(f32(f32(phi * factorial) / b));
    factorial *= i + 1;
    phi = f32(f32(phi / hh) - 1 / factorial);
  }
  return { matrix, right };
}

/** By elimination with pivots. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  for (let column = 0; column < rows.length; column++) {
    let pivot = column;
    for (let i = column + 1; i < rows.length; i++) {
      if (Math.abs(rows[i]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = i;
    }
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    for (const [i, row] of rows.entries()) {
      if (i === column) continue;
      const factor = row[column]! / rows[column]![column]!;
      for (let j = column; j < row.length; j++) row[j]! -= factor * rows[column]![j]!;
    }
  }
  return rows.map((row, i) => row.at(-1)! / row[i]!);
}

const row = <const N extends string>(name: N, help: string, variant: Variant) =>
  defineSampler({
    name,
    help,
    options: z.strictObject({}),
    create: (schedule) => new UniPcComfyScheduler(variant, schedule),
  });

export const uniPc = row("uni_pc", "ComfyUI's UniPC, a different algorithm from unipc", "bh1");
export const uniPcBh2 = row("uni_pc_bh2", "the same with its second B(h)", "bh2");
