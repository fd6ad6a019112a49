// AdamW (Loshchilov & Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it.
import { z } from "zod";
import type { Tensor } from "../../tensor/tensor.ts";
import {
  type Optimizer,
  type OptimizerContext,
  type OptimizerRow,
  type ParameterRule,
  type ParameterStep,
  ParameterwiseOptimizer,
  zeroState,
} from "./optimizer.ts";

export interface AdamWSettings {
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
}

/** What a kernel needs to know of a step. */
export function adamwOptions({ betas, eps, weightDecay }: AdamWSettings, step: ParameterStep) {
  return { ...step, beta1: betas[0], beta2: betas[1], eps, weightDecay };
}

/** First and second moments, float32. */
export type Moments = Readonly<Record<"m" | "v", Tensor>>;

export const adamwRule = ({ device }: OptimizerContext, settings: AdamWSettings): ParameterRule<Moments> => ({
  fresh: ({ shape }) => ({ m: zeroState(device, shape), v: zeroState(device, shape) }),
  apply: (parameter, gradient, { m, v }, step) =>
    device.kernels.adamw(parameter, gradient, m, v, adamwOptions(settings, step)),
});

export const createAdamW = (context: OptimizerContext, settings: AdamWSettings): Optimizer =>
  new ParameterwiseOptimizer(context, adamwRule(context, settings));

const beta = z.number().min(0).lt(1);

export const adamwSettings = z.strictObject({
  betas: z.tuple([beta, beta]).default([0.9, 0.999]).describe("decay rates of the two moments"),
  eps: z.number().positive().default(1e-8).describe("avoids division by zero"),
  weight_decay: z.number().min(0).default(0.01).describe("decoupled weight decay, scaled by the learning rate"),
});

export const fromConfig = ({ betas, eps, weight_decay }: z.infer<typeof adamwSettings>): AdamWSettings => ({
  betas,
  eps,
  weightDecay: weight_decay,
});

export const adamw: OptimizerRow<typeof adamwSettings> = {
  help: "both moments in float32",
  settings: adamwSettings,
  knownAs: "torch.optim.adamw.AdamW",
  learningRate: { lora: 1e-4, full: 1e-5 },
  create: (context, settings) => createAdamW(context, fromConfig(settings)),
};
