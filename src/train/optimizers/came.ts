// CAME (Luo et al., arXiv 2307.02047), as came-pytorch computes it: Adafactor's factored second moment, and a second factored
// mean of how far updates stray from their average, by which it trusts them.
import { z } from "zod";
import { overRoot } from "../../tensor/ops/over-root.ts";
import { openScope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { beta, DECAY } from "./adamw.ts";
import {
  clipRootMeanSquare,
  combined,
  factoredShapes,
  followFactored,
  overFactoredRoot,
  product,
} from "./arithmetic.ts";
import { type OptimizerRow, ParameterwiseOptimizer, zeroState } from "./optimizer.ts";

const settings = z.strictObject({
  betas: z
    .tuple([beta, beta, beta])
    .default([0.9, 0.999, 0.9999])
    .describe("decay rates of momentum, second moments and instability"),
  eps: z
    .tuple([z.number().positive(), z.number().positive()])
    .default([1e-30, 1e-16])
    .describe("added to squared gradients and to squared deviations"),
  clip_threshold: z.number().positive().default(1).describe("largest RMS of an update"),
  weight_decay: z.number().min(0).default(0).describe(DECAY),
});

type State =
  | Readonly<Record<"m" | "row" | "column" | "strayRow" | "strayColumn", Tensor>>
  | Readonly<Record<"m" | "v", Tensor>>;

export const came: OptimizerRow<typeof settings> = {
  help: "Adafactor with momentum and a confidence weight for each update",
  settings,
  knownAs: "came_pytorch.CAME.CAME",
  learningRate: { lora: 1e-4, full: 1e-5 },
  create(context, { betas: [beta1, beta2, beta3], eps, clip_threshold, weight_decay }) {
    const { device } = context;
    return new ParameterwiseOptimizer<State>(context, {
      fresh({ shape }) {
        const m = zeroState(device, shape);
        if (shape.length < 2) return { m, v: zeroState(device, shape) };
        const { row, column } = factoredShapes(shape);
        const zero = (sides: readonly number[]) => zeroState(device, sides);
        return { m, row: zero(row), column: zero(column), strayRow: zero(row), strayColumn: zero(column) };
      },
      apply(parameter, gradient, state, { learningRate, gradientScale }) {
        using _scope = openScope(device);
        const { kernels } = device;
        const { m } = state;
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
        kernels.affine(m, beta1, update, 1 - beta1, m);
        let direction = m;
        if (!("v" in state)) {
          const away = combined(update, 1, m, -1);
          const stray = { row: state.strayRow, column: state.strayColumn };
          followFactored(stray, combined(product(away, away), 1, undefined, 0, eps[1]), beta3);
          direction = overFactoredRoot(m, stray);
        }
        kernels.affine(parameter, 1 - learningRate * weight_decay, direction, -learningRate, parameter);
      },
    });
  },
};
