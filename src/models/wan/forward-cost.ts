// What a forward pass of a Wan model costs, told by the null device before anything is loaded.
import type { MemoryCategory } from "../../device/device.ts";
import type { MemoryModel } from "../../device/memory-model.ts";
import { createNullDevice, type NullDevice } from "../../device/null/null-device.ts";
import { RandomWeights } from "../../nn/random-weights.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty } from "../../tensor/tensor.ts";
import { firstFrameTimesteps } from "./conditioning.ts";
import { WanDit } from "./dit/dit.ts";
import { clipShape, latentSize, unboundedLatentSize, type VideoSize } from "./geometry.ts";
import type { DitConfig, WanModel } from "./params.ts";

/** Elements of the parameters, not bytes. */
export function countParameters(config: DitConfig): number {
  const device = createNullDevice();
  using _model = new WanDit(new RandomWeights(device), config, { dtype: "f32" });
  return device.memory().live / 4;
}

export interface ForwardPlan {
  /** Of the transformer that runs (one expert, where there are two). */
  parameters: number;
  experts: 1 | 2;
  tokens: number;
  flops: { forward: number };
  /** `weights` of one transformer in `dtype`; `activations` and `workspace` at their most during the pass. */
  bytes: { peak: number } & Record<MemoryCategory, number>;
  /** Bytes that the device holds at its most: `bytes.peak`, and what `memoryModel` keeps beside what is in use. */
  held: number;
  kernelCalls: number;
}

export interface PlanOptions {
  dtype: "f32" | "bf16";
  /** Text tokens of the prompt; the model pads to its own length. */
  textTokens?: number;
  /** Plan also what the model cannot make, to say what it would take. */
  unbounded?: boolean;
  /** Of the device that is planned for; absent: what every device needs. */
  memoryModel?: MemoryModel;
}

/** Tokens whose timesteps are listed one by one. */
const MOST_LISTED = 2 ** 22;

/** One DiT forward (batch 1) of a video; nothing of its size is made, however large it is. */
export function planForward(model: WanModel, size: VideoSize, options: PlanOptions): ForwardPlan {
  const { dit } = model;
  const { shape, tokens } = (options.unbounded ? unboundedLatentSize : latentSize)(model, size);
  // A second row of the time's modulation is nothing beside so many tokens.
  const firstFrame = model.image === "first-frame" && tokens <= MOST_LISTED;
  const device = createNullDevice(options.memoryModel);
  using transformer = new WanDit(new RandomWeights(device), dit, { dtype: options.dtype });
  device.counters.reset();
  device.resetPeak();
  {
    using _scope = openScope(device);
    transformer.forward({
      latents: empty(device, [1, dit.inputChannels, ...shape.slice(1)], "f32"),
      timesteps: [firstFrame ? firstFrameTimesteps(500, shape, dit.patchSize[1]) : 500],
      texts: [empty(device, [options.textTokens ?? dit.textLength, dit.textDim], "f32")],
      ...(dit.imageBranch ? { images: [empty(device, clipShape(dit.imageBranch), "f32")] } : {}),
    });
  }
  return {
    parameters: countParameters(dit),
    experts: model.boundary === undefined ? 1 : 2,
    tokens,
    flops: { forward: device.counters.total.flops },
    bytes: peakBytes(device),
    held: device.resident().peak,
    kernelCalls: device.counters.total.calls,
  };
}

export function peakBytes(device: NullDevice): ForwardPlan["bytes"] {
  const { peak, byCategory } = device.memory();
  const categories = Object.entries(byCategory).map(([name, count]) => [name, count.peak]);
  return { peak, ...(Object.fromEntries(categories) as Record<MemoryCategory, number>) };
}
