// Lion (Chen et al., arXiv 2302.06675), as lion-pytorch computes it: steps of one size, by the sign of a moving mean.
import { z } from "zod";
import { openScope } from "../../tensor/scope.ts";
import { beta, DECAY } from "./adamw.ts";
import { combined, sign } from "./arithmetic.ts";
import { type OptimizerRow, ParameterwiseOptimizer, zeroState } from "./optimizer.ts";

const settings = z.strictObject({
  betas: z
    .tuple([beta, beta])
    .default([0.9, 0.99])
    .describe("decay rates of the momentum: for the update, and for the state"),
  weight_decay: z.number().min(0).default(0.01).describe(DECAY),
});

export const lion: OptimizerRow<typeof settings> = {
  help: "sign of a momentum average; needs a third to a tenth of AdamW's rate",
  settings,
  knownAs: "lion_pytorch.lion_pytorch.Lion",
  learningRate: { lora: 2e-5, full: 2e-6 },
  create(context, { betas: [beta1, beta2], weight_decay }) {
    const { device } = context;
    return new ParameterwiseOptimizer(context, {
      fresh: ({ shape }) => ({ m: zeroState(device, shape) }),
      apply(parameter, gradient, { m }, { learningRate, gradientScale }) {
        using _scope = openScope(device);
        const direction = sign(combined(m, beta1, gradient, (1 - beta1) * gradientScale));
        device.kernels.affine(parameter, 1 - learningRate * weight_decay, direction, -learningRate, parameter);
        device.kernels.affine(m, beta2, gradient, (1 - beta2) * gradientScale, m);
      },
    });
  },
};
