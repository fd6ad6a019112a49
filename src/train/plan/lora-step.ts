// What a LoRA training step costs, told by the null device: bytes by what they are for, and arithmetic.
import { createNullDevice } from "../../device/null/null-device.ts";
import { freshLora } from "../../lora/attach.ts";
import { selectsLinear } from "../../lora/targets.ts";
import { WanDit } from "../../models/wan/dit/dit.ts";
import { type ForwardPlan, peakBytes } from "../../models/wan/forward-cost.ts";
import { fp8BlockScale } from "../../models/wan/fp8-blocks.ts";
import { latentSize, type VideoSize } from "../../models/wan/geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import { RandomWeights } from "../../nn/random-weights.ts";
import { WeightLoader } from "../../nn/weights.ts";
import { openScope } from "../../tensor/scope.ts";
import { createAdamW } from "../optimizers/adamw.ts";
import { gatherGradients } from "../step/gradients.ts";
import { assumedDit, plannedSample } from "./planned-inputs.ts";

export interface StepPlanOptions {
  dtype: "f32" | "bf16";
  /** The blocks' frozen matrices are held in 8 bits. */
  fp8?: boolean;
  rank: number;
  recompute: boolean;
}

export interface StepPlan {
  tokens: number;
  /** Parameters that train. */
  trained: number;
  flops: { step: number };
  bytes: ForwardPlan["bytes"];
}

/** One LoRA step (batch 1, one expert) of a video: forward, backward, AdamW. A whole run: run-plan.ts. */
export async function planLoraStep(model: WanModel, size: VideoSize, options: StepPlanOptions): Promise<StepPlan> {
  const { tokens } = latentSize(model, size);
  const device = createNullDevice();
  const weights = options.fp8
    ? new WeightLoader(device, assumedDit(model).reader, { keepQuantized: true, quantize: fp8BlockScale })
    : new RandomWeights(device);
  using transformer = new WanDit(weights, model.dit, { dtype: options.dtype });
  using lora = freshLora(
    transformer.linears(),
    { rank: options.rank, select: selectsLinear(undefined) },
    (count) => new Float32Array(count),
  );
  const parameters = lora.parameters();
  using optimizer = createAdamW({ device, parameters }, { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 });
  device.counters.reset();
  device.resetPeak();
  using _scope = openScope(device);
  await gatherGradients(transformer, plannedSample(device, model, size), { recompute: options.recompute });
  await optimizer.update(1e-4);
  return {
    tokens,
    trained: [...parameters.values()].reduce((sum, parameter) => sum + parameter.size, 0),
    flops: { step: device.counters.total.flops },
    bytes: peakBytes(device),
  };
}
