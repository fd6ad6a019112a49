// The tables of losses and of their weights over noise levels; a row each. What the model is asked for: flow-matching.ts.
import { z } from "zod";
import { fromFloat32, toFloat32 } from "../../base/float-formats.ts";
import { meanOf, meanSquaredError } from "../../tensor/ops/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Choice, ChoiceRow, ChoiceTable } from "../choices.ts";

export interface LossRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /**
   * How far an answer is from the target: a scalar, times `weight`. The target has no gradient. `mask`, float32 that
   * broadcasts to the answer, multiplies each element's loss; what it hides stays in the mean.
   */
  loss(answer: Tensor, target: Tensor, weight: number, settings: z.infer<S>, mask?: Tensor): Tensor;
}

export interface WeightingRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** What the loss of a sample at a noise level counts. */
  weight(sigma: number, settings: z.infer<S>): number;
}

const none = z.strictObject({});

const mse: LossRow<typeof none> = {
  help: "the mean of the squared differences",
  settings: none,
  loss: (answer, target, weight, _settings, mask) =>
    mask ? meanOf(answer, target, weight, { kind: "square" }, mask) : meanSquaredError(answer, target, weight),
};

const mae: LossRow<typeof none> = {
  help: "mean absolute error",
  settings: none,
  loss: (answer, target, weight, _settings, mask) => meanOf(answer, target, weight, { kind: "l1" }, mask),
};

const edge = z.number().positive().max(1000).default(1);

const huberSettings = z.strictObject({
  delta: edge.describe("where the loss becomes linear"),
});
const huber: LossRow<typeof huberSettings> = {
  help: "d²/2 below `delta`, delta·(|d| − delta/2) above: less weight for outliers (half of mse near 0)",
  settings: huberSettings,
  loss: (answer, target, weight, { delta }, mask) =>
    meanOf(answer, target, weight, { kind: "huber", delta, scale: 1 }, mask),
};

const smoothSettings = z.strictObject({
  beta: edge.describe("where the loss becomes linear"),
});
const smooth: LossRow<typeof smoothSettings> = {
  help: "d²/(2·beta) below `beta`, |d| − beta/2 above",
  settings: smoothSettings,
  loss: (answer, target, weight, { beta }, mask) =>
    meanOf(answer, target, weight, { kind: "huber", delta: beta, scale: 1 / beta }, mask),
};

const pseudoSettings = z.strictObject({
  c: z.number().positive().max(1000).default(0.01).describe("where the loss becomes linear"),
});
const pseudoHuber: LossRow<typeof pseudoSettings> = {
  help: "√(d² + c²) − c: smooth everywhere",
  settings: pseudoSettings,
  loss: (answer, target, weight, { c }, mask) => meanOf(answer, target, weight, { kind: "pseudo-huber", c }, mask),
};

export const losses: ChoiceTable<LossRow> = { mse, mae, huber, smooth_l1: smooth, pseudo_huber: pseudoHuber };

const levelSettings = z.strictObject({
  bf16_weights: z.boolean().default(false).describe("compute weights in bf16, as musubi does with a bf16 transformer"),
});
type LevelSettings = z.infer<typeof levelSettings>;

const bf16 = (value: number): number => toFloat32(fromFloat32(Float32Array.of(value), "bf16"), "bf16")[0]!;

/** What each result is rounded to. */
const rounding = ({ bf16_weights }: LevelSettings): ((value: number) => number) =>
  bf16_weights ? bf16 : (value) => value;

/** musubi's weights use the nearest of a thousand levels. */
const level = (sigma: number): number => Math.min(1000, Math.max(1, Math.round(sigma * 1000))) / 1000;

const even: WeightingRow<typeof none> = { help: "1", settings: none, weight: () => 1 };

/** https://github.com/huggingface/diffusers/blob/v0.36.0/src/diffusers/training_utils.py (compute_loss_weighting_for_sd3) */
const cosmap: WeightingRow<typeof levelSettings> = {
  help: "2/(π·(1 − 2σ + 2σ²)): the middle levels count twice as much as the ends",
  settings: levelSettings,
  weight(sigma, own) {
    const r = rounding(own);
    const at = r(level(sigma));
    const below = r(r(1 - r(2 * at)) + r(2 * r(at ** 2)));
    return r(2 / r(Math.PI * below));
  },
};

const inverse: WeightingRow<typeof levelSettings> = {
  help: "σ⁻², up to a million at σ = 0.001",
  settings: levelSettings,
  weight(sigma, own) {
    const r = rounding(own);
    return r(1 / r(r(level(sigma)) ** 2));
  },
};

export const weightings: ChoiceTable<WeightingRow> = { none: even, cosmap, sigma_sqrt: inverse };

/** What a run minimises: plain data. */
export interface Objective {
  loss: Choice;
  weighting: Choice;
}

/** Mean squared error at every level alike, as Wan was trained. */
export const plainObjective: Objective = {
  loss: { kind: "mse", settings: {} },
  weighting: { kind: "none", settings: {} },
};

export const lossOf = (
  { loss: { kind, settings } }: Objective,
  answer: Tensor,
  target: Tensor,
  weight: number,
  mask?: Tensor,
): Tensor => losses[kind]!.loss(answer, target, weight, settings, mask);

export const weightOf = ({ weighting: { kind, settings } }: Objective, sigma: number): number =>
  weightings[kind]!.weight(sigma, settings);
