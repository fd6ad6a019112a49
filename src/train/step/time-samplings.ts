// The table of distributions that noise levels are drawn from (σ = 1 is noise); a row each.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/trainer_base.py#L575-L619
import { z } from "zod";
import { normalShare } from "../../base/normal-distribution.ts";
import type { PhiloxRng } from "../../base/rng/philox-rng.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { ChoiceRow, ChoiceTable } from "../choices.ts";

/** Where a sampling takes its numbers from: a run's generator, or what a fixture recorded. */
export type TimeDraws = Pick<PhiloxRng, "uniform" | "normal">;

/** Of a sample's latents, in their own pixels. */
export interface LatentSize {
  height: number;
  width: number;
}

export interface TimeSampler {
  /** A noise level; takes as many numbers as it needs. */
  draw(rng: TimeDraws): number;
  /** The share of draws below a level within (0, 1). */
  shareBelow(sigma: number): number;
  /** Where levels are steps: the step of a level that was squeezed into a range. */
  settle?(sigma: number): number;
}

export interface TimeSamplingRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** Defaults that are the model's own. */
  defaults?(model: WanModel): Partial<z.infer<S>>;
  /** `size`: of the sample, for what hangs on it. */
  sampler(settings: z.infer<S>, size: LatentSize): TimeSampler;
}

/** σ = s·x/(1 + (s − 1)·x) with x = sigmoid(mean ± std·N). */
function shiftedLogitNormal(mean: number, std: number, shift: number, way: 1 | -1 = 1): TimeSampler {
  return {
    draw(rng) {
      const x = 1 / (1 + Math.exp(-(mean + way * std * rng.normal())));
      return (shift * x) / (1 + (shift - 1) * x);
    },
    shareBelow(sigma) {
      const x = sigma / (shift - (shift - 1) * sigma);
      return normalShare((Math.log(x / (1 - x)) - mean) / std);
    },
  };
}

const width = z.number().positive().max(100);
const shift = z.number().positive().max(1000);

const none = z.strictObject({});
const uniform: TimeSamplingRow<typeof none> = {
  help: "σ = u",
  settings: none,
  sampler: () => ({ draw: (rng) => rng.uniform(), shareBelow: (sigma) => sigma }),
};

const scaled = z.strictObject({ scale: width.default(1).describe("scales the normal distribution") });
const sigmoid: TimeSamplingRow<typeof scaled> = {
  help: "σ = sigmoid(scale·N)",
  settings: scaled,
  sampler: ({ scale }) => shiftedLogitNormal(0, scale, 1),
};

const scaledAndShifted = z.strictObject({
  shift: shift.describe("flow shift s"),
  ...scaled.shape,
});
const shifted: TimeSamplingRow<typeof scaledAndShifted> = {
  help: "x = sigmoid(scale·N), σ = s·x/(1 + (s − 1)·x)",
  settings: scaledAndShifted,
  defaults: (model) => ({ shift: model.defaults.shift }),
  sampler: ({ scale, shift: s }) => shiftedLogitNormal(0, scale, s),
};

const located = z.strictObject({
  mean: z.number().min(-100).max(100).default(0).describe("of the normal draw"),
  std: width.default(1).describe("of the normal draw"),
  shift: shift.default(1).describe("flow shift s"),
});
const logitNormal: TimeSamplingRow<typeof located> = {
  help: "x = sigmoid(mean + std·N), σ = s·x/(1 + (s − 1)·x)",
  settings: located,
  sampler: ({ mean, std, shift: s }) => shiftedLogitNormal(mean, std, s),
};

/**
 * The flow shift of an image model for a size: e to the power of a line through two counts of tokens.
 * https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/trainer_base.py
 */
interface SizedShift {
  /** Sides of a token in latent pixels. */
  side: 1 | 2;
  from: readonly [tokens: number, mu: number];
  to: readonly [tokens: number, mu: number];
}

const sizedShifts = {
  flux: { side: 2, from: [256, 0.5], to: [4096, 1.15] },
  flux2: { side: 1, from: [256, 0.5], to: [4096, 1.15] },
  qwen: { side: 2, from: [256, 0.5], to: [8192, 0.9] },
  krea2: { side: 2, from: [256, 0.5], to: [6400, 1.15] },
} as const satisfies Record<string, SizedShift>;

export function shiftOfSize(kind: keyof typeof sizedShifts, { height, width }: LatentSize): number {
  const { side, from, to } = sizedShifts[kind];
  const tokens = Math.floor(height / side) * Math.floor(width / side);
  return Math.exp(from[1] + ((to[1] - from[1]) * (tokens - from[0])) / (to[0] - from[0]));
}

const sized = (kind: keyof typeof sizedShifts): TimeSamplingRow<typeof scaled> => ({
  help: `as \`shift\`, with ${kind}'s shift for the size of each sample (frames do not count)`,
  settings: scaled,
  sampler: ({ scale }, size) => shiftedLogitNormal(0, scale, shiftOfSize(kind, size)),
});

const signal = z.strictObject({
  mean: z.number().min(-100).max(100).default(0).describe("of the log signal-to-noise ratio"),
  std: width.default(1).describe("of the log signal-to-noise ratio"),
});

/** sigmoid(−(mean + std·N)/2): the logarithm of signal to noise is normal. */
const logSignal = (mean: number, std: number): TimeSampler => shiftedLogitNormal(-mean / 2, std / 2, 1, -1);

const logsnr: TimeSamplingRow<typeof signal> = {
  help: "σ = sigmoid(−(mean + std·N)/2): normal log signal-to-noise ratio",
  settings: signal,
  sampler: ({ mean, std }) => logSignal(mean, std),
};

/** Some draws of each of several samplers: the first whose share a uniform number is below. */
function mixture(parts: readonly (readonly [below: number, sampler: TimeSampler])[]): TimeSampler {
  return {
    draw(rng) {
      const decision = rng.uniform();
      return parts.find(([below]) => decision < below)![1].draw(rng);
    },
    shareBelow: (sigma) =>
      parts.reduce(
        (sum, [below, sampler], i) => sum + (below - (parts[i - 1]?.[0] ?? 0)) * sampler.shareBelow(sigma),
        0,
      ),
  };
}

/** The last part of both mixtures: clean images. */
const clean = logSignal(5.36, 1);

const qinglongFlux: TimeSamplingRow<typeof signal> = {
  help: "79 % as `flux_shift`, 11 % as `logsnr`, 10 % nearly clean",
  settings: signal,
  sampler: ({ mean, std }, size) =>
    mixture([
      [0.79, shiftedLogitNormal(0, 1, shiftOfSize("flux", size))],
      [0.9, logSignal(mean, std)],
      [1, clean],
    ]),
};

const qinglongQwen: TimeSamplingRow<typeof none> = {
  help: "95 % as `qwen_shift`, 5 % nearly clean",
  settings: none,
  sampler: (_settings, size) =>
    mixture([
      [0.95, shiftedLogitNormal(0, 1, shiftOfSize("qwen", size))],
      [1, clean],
    ]),
};

const steps = z.strictObject({
  density: z.enum(["uniform", "logit_normal", "mode"]).default("uniform").describe("density of the steps"),
  mean: z.number().min(-100).max(100).default(0).describe("of logit_normal"),
  std: width.default(1).describe("of logit_normal"),
  // Beyond these it would turn back.
  mode_scale: z.number().min(-1).max(1.75).default(1.29).describe("of mode: weight of the middle"),
});

/** Draws of the densities in 0…1, as diffusers' SD3 training has them. */
export function drawDensity(rng: TimeDraws, { density, mean, std, mode_scale }: z.infer<typeof steps>): number {
  if (density === "logit_normal") return 1 / (1 + Math.exp(-(mean + std * rng.normal())));
  const u = rng.uniform();
  return density === "mode" ? modeOf(u, mode_scale) : u;
}

const modeOf = (u: number, scale: number): number => 1 - u - scale * (Math.cos((Math.PI * u) / 2) ** 2 - 1 + u);

/** The share of a density's draws below a value. */
function densityBelow(value: number, { density, mean, std, mode_scale }: z.infer<typeof steps>): number {
  if (density === "uniform") return value;
  if (density === "logit_normal") return normalShare((Math.log(value / (1 - value)) - mean) / std);
  // modeOf falls from 1 to 0.
  let [low, high] = [0, 1];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (modeOf(middle, mode_scale) > value) low = middle;
    else high = middle;
  }
  return 1 - low;
}

/** musubi's default: a thousand steps, drawn by a density. */
const sigmaSteps: TimeSamplingRow<typeof steps> = {
  help: "σ = 1 − i/1000 with a whole number i, drawn by a density (musubi's default, `sigma`)",
  settings: steps,
  sampler: (own) => ({
    draw: (rng) => 1 - drawDensity(rng, own),
    settle: (sigma) => 1 - Math.floor(1000 * (1 - sigma) + 1e-4) / 1000,
    shareBelow: (sigma) => 1 - densityBelow(1 - sigma, own),
  }),
};

export const timeSamplings: ChoiceTable<TimeSamplingRow> = {
  uniform,
  sigmoid,
  shift: shifted,
  logit_normal: logitNormal,
  logsnr,
  flux_shift: sized("flux"),
  flux2_shift: sized("flux2"),
  qwen_shift: sized("qwen"),
  krea2_shift: sized("krea2"),
  qinglong_flux: qinglongFlux,
  qinglong_qwen: qinglongQwen,
  sigma: sigmaSteps,
};
