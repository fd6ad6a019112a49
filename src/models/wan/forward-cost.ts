// What a forward pass of a Wan model costs, told by the null device before anything is loaded.
import { KinoraError } from "../../base/errors.ts";
import type { MemoryCategory } from "../../device/device.ts";
import { createNullDevice, type NullDevice } from "../../device/null/null-device.ts";
import { RandomWeights } from "../../nn/random-weights.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty } from "../../tensor/tensor.ts";
import { WanDit } from "./dit/dit.ts";
import type { DitConfig, WanModel } from "./params.ts";

/** Elements of the parameters, not bytes. */
export function countParameters(config: DitConfig): number {
  const device = createNullDevice();
  using _model = new WanDit(new RandomWeights(device), config, { dtype: "f32" });
  return device.memory().live / 4;
}

export interface VideoSize {
  width: number;
  height: number;
  /** 4n + 1 */
  frames: number;
}

export interface LatentSize {
  /** [channels, frames, height, width] of the model's own latents. */
  shape: [channels: number, frames: number, height: number, width: number];
  tokens: number;
}

/** Latents and tokens of a video. Throws where the size does not divide. */
export function latentSize(model: WanModel, { width, height, frames }: VideoSize): LatentSize {
  const [strideT, strideH, strideW] = model.vae.stride;
  const [, patchH, patchW] = model.dit.patchSize;
  const stepW = strideW * patchW;
  const stepH = strideH * patchH;
  const whole = [width, height, frames].every((value) => Number.isInteger(value) && value > 0);
  if (!whole || width % stepW !== 0 || height % stepH !== 0) {
    throw new KinoraError("size.not-divisible", `${model.name} cannot make ${width}×${height}`, {
      expected: `multiples of ${stepW}×${stepH}`,
      hint: `the nearest is ${Math.max(1, Math.round(width / stepW)) * stepW}*${Math.max(1, Math.round(height / stepH)) * stepH}`,
    });
  }
  if ((frames - 1) % strideT !== 0) {
    throw new KinoraError("size.frames", `${frames} frames are not ${strideT}n + 1`, {
      hint: `use ${frames - ((frames - 1) % strideT)} or ${frames - ((frames - 1) % strideT) + strideT}`,
    });
  }
  const shape: LatentSize["shape"] = [
    model.vae.channels,
    (frames - 1) / strideT + 1,
    height / strideH,
    width / strideW,
  ];
  return { shape, tokens: shape[1] * (shape[2] / patchH) * (shape[3] / patchW) };
}

export interface ForwardPlan {
  /** Of the transformer that runs (one expert, where there are two). */
  parameters: number;
  experts: 1 | 2;
  tokens: number;
  flops: { forward: number };
  /** `weights` of one transformer in `dtype`; `activations` and `workspace` at their most during the pass. */
  bytes: { peak: number } & Record<MemoryCategory, number>;
  kernelCalls: number;
}

export interface PlanOptions {
  dtype: "f32" | "bf16";
  /** Text tokens of the prompt; the model pads to its own length. */
  textTokens?: number;
}

/** One DiT forward (batch 1) of a video. */
export function planForward(model: WanModel, size: VideoSize, options: PlanOptions): ForwardPlan {
  const { dit } = model;
  const { shape, tokens } = latentSize(model, size);
  const device = createNullDevice();
  using transformer = new WanDit(new RandomWeights(device), dit, { dtype: options.dtype });
  device.counters.reset();
  device.resetPeak();
  {
    using _scope = openScope(device);
    transformer.forward({
      latents: empty(device, [1, dit.inputChannels, ...shape.slice(1)], "f32"),
      timesteps: [model.image === "first-frame" ? firstFrameClean(tokens, shape[1]) : 500],
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
    kernelCalls: device.counters.total.calls,
  };
}

/** CLIP features of one picture, or of the first and the last. */
export function clipShape({ firstLast, featureDim }: NonNullable<DitConfig["imageBranch"]>): [number, number] {
  return [firstLast ? 514 : 257, featureDim];
}

export function peakBytes(device: NullDevice): ForwardPlan["bytes"] {
  const { peak, byCategory } = device.memory();
  const categories = Object.entries(byCategory).map(([name, count]) => [name, count.peak]);
  return { peak, ...(Object.fromEntries(categories) as Record<MemoryCategory, number>) };
}

/** TI2V's per-token timesteps: two distinct rows. */
function firstFrameClean(tokens: number, frames: number): Float32Array {
  return new Float32Array(tokens).fill(500).fill(0, 0, tokens / frames);
}
