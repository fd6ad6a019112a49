// AdamW with moments in 8 bits (Dettmers et al., arXiv 2110.02861): a code per element, a float32 scale per 256 of them.
// Small parameters keep float32 moments, as in bitsandbytes (min_8bit_size).
import type { Tensor } from "../../tensor/tensor.ts";
import {
  type AdamWSettings,
  adamw,
  adamwOptions,
  adamwRule,
  adamwSettings,
  fromConfig,
  type Moments,
} from "./adamw.ts";
import {
  type Optimizer,
  type OptimizerContext,
  type OptimizerRow,
  ParameterwiseOptimizer,
  zeroState,
} from "./optimizer.ts";

/** Elements that share a scale; see device/kernels.ts. */
const BLOCK = 256;
/** https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.45.0/bitsandbytes/optim/optimizer.py (min_8bit_size) */
export const SMALLEST_8BIT = 4096;

type Codes = Readonly<Record<"m" | "mScale" | "v" | "vScale", Tensor>>;

export function createAdamW8bit(context: OptimizerContext, settings: AdamWSettings): Optimizer {
  const { device } = context;
  const wide = adamwRule(context, settings);
  return new ParameterwiseOptimizer<Codes | Moments>(context, {
    fresh(parameter, name) {
      const { size } = parameter;
      if (size < SMALLEST_8BIT) return wide.fresh(parameter, name);
      const scales = [Math.ceil(size / BLOCK)];
      // A scale of 0 makes every code 0.
      return {
        m: zeroState(device, [size], "u8"),
        mScale: zeroState(device, scales),
        v: zeroState(device, [size], "u8"),
        vScale: zeroState(device, scales),
      };
    },
    apply(parameter, gradient, state, step) {
      if ("mScale" in state) device.kernels.adamw8bit(parameter, gradient, state, adamwOptions(settings, step));
      else wide.apply(parameter, gradient, state, step);
    },
  });
}

export const adamw8bit: OptimizerRow<typeof adamwSettings> = {
  learningRate: adamw.learningRate,
  help: "moments in 8 bits, in blocks of 256 with a scale each",
  settings: adamwSettings,
  knownAs: "bitsandbytes.optim.adamw.AdamW8bit",
  create: (context, settings) => createAdamW8bit(context, fromConfig(settings)),
};
