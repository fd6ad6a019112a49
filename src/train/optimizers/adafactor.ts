// Adafactor (Shazeer & Stern, arXiv 1804.04235), as transformers computes it: the second moment of a matrix is kept as the
// means of its rows and columns, so that the state takes next to no memory.
// https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/optimization.py
import { z } from "zod";
import { overRoot } from "../../tensor/ops/over-root.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { DECAY } from "./adamw.ts";
import {
  clipRootMeanSquare,
  combined,
  factoredShapes,
  followFactored,
  overFactoredRoot,
  product,
  rootMeanSquare,
} from "./arithmetic.ts";
import { type OptimizerRow, ParameterwiseOptimizer, zeroState } from "./optimizer.ts";

const settings = z.strictObject({
  eps: z
    .tuple([z.number().positive(), z.number().positive()])
    .default([1e-30, 1e-3])
    .describe("added to squared gradients; lower bound of a parameter's RMS"),
  clip_threshold: z.number().positive().default(1).describe("largest RMS of an update"),
  decay_rate: z.number().max(0).default(-0.8).describe("the second moment decays by 1 − step^decay_rate"),
  beta1: z.number().min(0).lt(1).default(0).describe("momentum; 0: none"),
  weight_decay: z.number().min(0).default(0).describe(DECAY),
  scale_parameter: z.boolean().default(false).describe("scale the rate by each parameter's RMS"),
  relative_step: z
    .boolean()
    .default(false)
    .describe("use the rate min(0.01, 1/√step) instead of learning_rate and [schedule]"),
  warmup_init: z.boolean().default(false).describe("with relative_step: start at 1e-6·step"),
});
type Settings = z.infer<typeof settings>;

type Moment = Readonly<Record<"row" | "column", Tensor>> | Readonly<Record<"v", Tensor>>;
type State = Moment & { readonly m?: Tensor };

/** The rate that it finds by itself, before a parameter's own size. */
const relativeRate = (step: number, { warmup_init }: Settings): number =>
  Math.min(warmup_init ? 1e-6 * step : 1e-2, 1 / Math.sqrt(step));

export const adafactor: OptimizerRow<typeof settings> = {
  help: "factored second moments: hardly any memory",
  settings,
  knownAs: "transformers.optimization.Adafactor",
  learningRate: { lora: 1e-4, full: 1e-5 },
  ownSchedule: ({ relative_step }) => (relative_step ? "Adafactor's relative_step finds its own rate" : undefined),
  create(context, own) {
    const { device } = context;
    const { eps, clip_threshold, decay_rate, beta1, weight_decay, scale_parameter, relative_step } = own;
    return new ParameterwiseOptimizer<State & Readonly<Record<string, Tensor>>>(context, {
      fresh({ shape }) {
        const moment = factoredShapes(shape);
        return {
          ...(shape.length >= 2
            ? { row: zeroState(device, moment.row), column: zeroState(device, moment.column) }
            : { v: zeroState(device, shape) }),
          ...(beta1 > 0 ? { m: zeroState(device, shape) } : {}),
        };
      },
      begin: (_moving, { step }) => (relative_step ? Promise.resolve(relativeRate(step, own)) : undefined),
      apply(parameter, gradient, state, { step, learningRate, gradientScale }) {
        using _scope = openScope(device);
        const { kernels } = device;
        const rate = relative_step ? relativeRate(step, own) : learningRate;
        const beta2 = 1 - step ** decay_rate;
        const wide = combined(gradient, gradientScale);
        const squares = combined(product(wide, wide), 1, undefined, 0, eps[0]);
        let update: Tensor;
        if ("v" in state) {
          kernels.affine(state.v, beta2, squares, 1 - beta2, state.v);
          update = overRoot(wide, state.v);
        } else {
          followFactored(state, squares, beta2);
          update = overFactoredRoot(wide, state);
        }
        clipRootMeanSquare(update, clip_threshold);
        // How far a parameter goes, [1]: with scale_parameter its own size has a part in it.
        const length = rootMeanSquare(parameter);
        kernels.clamp(length, eps[1], 3e38, length);
        kernels.affine(length, scale_parameter ? rate : 0, undefined, 0, length, scale_parameter ? 0 : rate);
        const ones = parameter.shape.map(() => 1);
        kernels.binary("multiply", update, length.alias(ones), update);
        let direction = update;
        if (state.m) {
          kernels.affine(state.m, beta1, update, 1 - beta1, state.m);
          direction = state.m;
        }
        if (weight_decay > 0) {
          const kept = combined(length, -weight_decay, undefined, 0, 1);
          kernels.binary("multiply", parameter, kept.alias(ones), parameter);
        }
        kernels.affine(parameter, 1, direction, -1, parameter);
      },
    });
  },
};
