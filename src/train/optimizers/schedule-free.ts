// Schedule-free AdamW (Defazio et al., arXiv 2405.15682), as schedulefree computes it: an average of the course takes the
// place of a falling rate. What trains are the weights y; what is looked at and written is the average x.
import { z } from "zod";
import { overRoot } from "../../tensor/ops/over-root.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { beta, DECAY } from "./adamw.ts";
import { combined, product } from "./arithmetic.ts";
import { type OptimizerRow, ParameterwiseOptimizer, zeroState } from "./optimizer.ts";

const settings = z.strictObject({
  betas: z
    .tuple([beta.gt(0), beta])
    .default([0.9, 0.999])
    .describe("interpolation towards the average; decay rate of second moments"),
  eps: z.number().positive().default(1e-8).describe("avoids division by zero"),
  weight_decay: z.number().min(0).default(0).describe(DECAY),
  warmup_steps: z.int().min(0).max(1e7).default(0).describe("warm-up steps; [schedule] does nothing"),
  r: z.number().min(-1).max(100).default(0).describe("the weight of a step in the average is step^r"),
  weight_lr_power: z.number().min(0).max(100).default(2).describe("times the highest rate so far to this power"),
});

export const scheduleFree: OptimizerRow<typeof settings> = {
  help: "AdamW with weight averaging instead of a decaying rate",
  settings,
  knownAs: "schedulefree.adamw_schedulefree.AdamWScheduleFree",
  learningRate: { lora: 2.5e-4, full: 2.5e-5 },
  ownSchedule: "schedule-free AdamW has a warm-up of its own (optimizer.warmup_steps) and needs no fall",
  create(context, { betas: [beta1, beta2], eps, weight_decay, warmup_steps, r, weight_lr_power }) {
    const { device } = context;
    const numbers = { highest: 0, weights: 0 };
    /** Of the step under way: its part of the average, and of the rate. */
    let [share, rise] = [0, 1];
    return new ParameterwiseOptimizer<Readonly<Record<"z" | "v", Tensor>>>(context, {
      numbers,
      fresh(parameter) {
        const z = zeroState(device, parameter.shape);
        device.kernels.cast(parameter, z);
        return { z, v: zeroState(device, parameter.shape) };
      },
      begin(_moving, { step, learningRate }) {
        rise = warmup_steps > 0 ? Math.min(1, step / warmup_steps) : 1;
        numbers.highest = Math.max(numbers.highest, learningRate * rise);
        const weight = step ** r * numbers.highest ** weight_lr_power;
        numbers.weights += weight;
        share = numbers.weights > 0 ? weight / numbers.weights : 0;
        return Promise.resolve(learningRate * rise);
      },
      apply(y, gradient, { z, v }, { step, learningRate, gradientScale }) {
        using _scope = openScope(device);
        const { kernels } = device;
        const rate = learningRate * rise;
        const wide = combined(gradient, gradientScale);
        kernels.affine(v, beta2, product(wide, wide), 1 - beta2, v);
        const update = overRoot(wide, combined(v, 1 / (1 - beta2 ** step)), eps);
        if (weight_decay > 0) kernels.affine(update, 1, y, weight_decay, update);
        kernels.affine(y, 1 - share, z, share, y);
        kernels.affine(y, 1, update, rate * (beta1 * (1 - share) - 1), y);
        kernels.affine(z, 1, update, -rate, z);
      },
      shown: (y, { z }) => combined(y, 1 / beta1, z, 1 - 1 / beta1),
    });
  },
};
