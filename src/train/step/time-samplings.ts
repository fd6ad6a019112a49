// The table of distributions that noise levels are drawn from (σ = 1 is noise); a row each.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/trainer_base.py#L575-L619
import { z } from "zod";
import { normalShare } from "../../base/normal-distribution.ts";
import type { PhiloxRng } from "../../base/rng/philox-rng.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { ChoiceRow, ChoiceTable } from "../choices.ts";

export interface TimeSampler {
  /** A noise level; takes as many numbers as it needs. */
  draw(rng: PhiloxRng): number;
  /** The share of draws below a level within (0, 1). */
  shareBelow(sigma: number): number;
}

export interface TimeSamplingRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** Defaults that are the model's own. */
  defaults?(model: WanModel): Partial<z.infer<S>>;
  sampler(settings: z.infer<S>): TimeSampler;
}

/** σ = s·x/(1 + (s − 1)·x) with x = sigmoid(mean + std·N). */
function shiftedLogitNormal(mean: number, std: number, shift: number): TimeSampler {
  return {
    draw(rng) {
      const x = 1 / (1 + Math.exp(-(mean + std * rng.normal())));
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

export const timeSamplings: ChoiceTable<TimeSamplingRow> = {
  uniform,
  sigmoid,
  shift: shifted,
  logit_normal: logitNormal,
};
