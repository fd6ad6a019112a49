// The tables of losses and of their weights over noise levels; a row each. What the model is asked for: flow-matching.ts.
import { z } from "zod";
import { meanSquaredError } from "../../tensor/ops/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Choice, ChoiceRow, ChoiceTable } from "../choices.ts";

export interface LossRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** How far an answer is from the target: a scalar, times `weight`. The target has no gradient. */
  loss(answer: Tensor, target: Tensor, weight: number, settings: z.infer<S>): Tensor;
}

export interface WeightingRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** What the loss of a sample at a noise level counts. */
  weight(sigma: number, settings: z.infer<S>): number;
}

const none = z.strictObject({});

const mse: LossRow<typeof none> = {
  help: "the mean of the squared differences",
  settings: none,
  loss: meanSquaredError,
};

export const losses: ChoiceTable<LossRow> = { mse };

/** musubi's weights use the nearest of a thousand levels. */
const level = (sigma: number): number => Math.min(1000, Math.max(1, Math.round(sigma * 1000))) / 1000;

const even: WeightingRow<typeof none> = { help: "1", settings: none, weight: () => 1 };

/** https://github.com/huggingface/diffusers/blob/v0.36.0/src/diffusers/training_utils.py (compute_loss_weighting_for_sd3) */
const cosmap: WeightingRow<typeof none> = {
  help: "2/(π·(1 − 2σ + 2σ²)): the middle levels count twice as much as the ends",
  settings: none,
  weight: (sigma) => 2 / (Math.PI * (1 - 2 * level(sigma) + 2 * level(sigma) ** 2)),
};

const inverse: WeightingRow<typeof none> = {
  help: "σ⁻², up to a million at σ = 0.001",
  settings: none,
  weight: (sigma) => level(sigma) ** -2,
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
): Tensor => losses[kind]!.loss(answer, target, weight, settings);

export const weightOf = ({ weighting: { kind, settings } }: Objective, sigma: number): number =>
  weightings[kind]!.weight(sigma, settings);
