// AdamW (Loshchilov & Hutter, arXiv 1711.05101), as torch.optim.AdamW computes it.
import { z } from "zod";
import { stepOverRoot } from "../../tensor/ops/over-root.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { combined, keepLarger, product } from "./arithmetic.ts";
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

/** Divides by the largest second moment so far (Reddi et al., arXiv 1904.09237). */
export function createAmsgrad(context: OptimizerContext, settings: AdamWSettings): Optimizer {
  const { device } = context;
  const {
    betas: [beta1, beta2],
    eps,
    weightDecay,
  } = settings;
  const rule = adamwRule(context, settings);
  return new ParameterwiseOptimizer(context, {
    fresh: (parameter, name) => ({ ...rule.fresh(parameter, name), vMax: zeroState(device, parameter.shape) }),
    apply(parameter, gradient, { m, v, vMax }, { step, learningRate, gradientScale }) {
      using _scope = openScope(device);
      device.kernels.affine(m, beta1, gradient, (1 - beta1) * gradientScale, m);
      const wide = combined(gradient, gradientScale);
      device.kernels.affine(v, beta2, product(wide, wide), 1 - beta2, v);
      keepLarger(vMax, v);
      const mean = combined(m, 1 / (1 - beta1 ** step));
      stepOverRoot(parameter, mean, combined(vMax, 1 / (1 - beta2 ** step)), { learningRate, eps, weightDecay });
    },
  });
}

export const beta = z.number().min(0).lt(1);

export const DECAY = "decoupled weight decay, scaled by the learning rate";

export const adamwSettings = z.strictObject({
  betas: z.tuple([beta, beta]).default([0.9, 0.999]).describe("decay rates of the two moments"),
  eps: z.number().positive().default(1e-8).describe("avoids division by zero"),
  weight_decay: z.number().min(0).default(0.01).describe(DECAY),
});

const amsgradSettings = z.strictObject({
  ...adamwSettings.shape,
  amsgrad: z.boolean().optional().describe("use the largest second moment so far"),
});

export const fromConfig = ({ betas, eps, weight_decay }: z.infer<typeof adamwSettings>): AdamWSettings => ({
  betas,
  eps,
  weightDecay: weight_decay,
});

export const adamw: OptimizerRow<typeof amsgradSettings> = {
  help: "both moments in float32",
  settings: amsgradSettings,
  presets: { amsgrad: "off" },
  knownAs: "torch.optim.adamw.AdamW",
  learningRate: { lora: 1e-4, full: 1e-5 },
  create: (context, { amsgrad, ...settings }) => (amsgrad ? createAmsgrad : createAdamW)(context, fromConfig(settings)),
};
