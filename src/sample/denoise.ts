// The sampling loop: from noise to latents, with guidance and the expert switch. Not the encoders, not the decoder.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/text2video.py#L330-L376
import { setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../base/errors.ts";
import type { Device } from "../device/device.ts";
import type { WanDit } from "../models/wan/dit/dit.ts";
import { firstFrameTimesteps, imposeFirstFrame, type LatentShape } from "../models/wan/image-condition.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { openScope } from "../tensor/scope.ts";
import { fromValues, ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";

export interface DenoiseInput {
  /** The transformer for an expert; asked when the expert changes, so that the idle one need not be in memory. */
  expert(which: Expert): WanDit | Promise<WanDit>;
  /** High-noise expert while t ≥ boundary·1000; without it the one model is "low". */
  boundary?: number;
  scheduler: Scheduler;
  /** float32 noise [C, F, h, w], or the latents to go on from. Not changed. */
  latents: Float32Array;
  shape: LatentShape;
  /** Text embeddings [length, textDim] on the device. */
  text: { positive: Tensor; negative: Tensor };
  /** CFG per expert; 1 skips the pass with the negative text. */
  guidance: { low: number; high: number };
  /** I2V: [C', F, h, w], joined behind the latents. */
  channels?: Float32Array;
  /** TI2V: the picture's latent [C, 1, h, w], held as latent frame 0. */
  firstFrame?: Float32Array;
  /** 2.1 image-to-video: CLIP features [tokens, featureDim]. */
  clip?: Tensor;
  /** Steps already done (a resumed run); the scheduler carries their state. */
  startStep?: number;
}

export interface DenoiseStep {
  /** From 0. */
  step: number;
  steps: number;
  timestep: number;
  expert: Expert;
  /** After this step; the caller's to keep. */
  latents: Float32Array;
  /** The model's two answers; without guidance only the first. */
  conditional: Float32Array;
  unconditional?: Float32Array;
  seconds: number;
}

/** Embeddings [tokens, textDim] on the host. */
export interface HostText {
  values: Float32Array;
  shape: readonly number[];
}

/** Embeddings as `denoise` takes them; the caller's to dispose of. */
export function uploadText(device: Device, { values, shape }: HostText): Tensor {
  const tensor = ownedEmpty(device, shape, "f32", "activations");
  tensor.write(values);
  return tensor;
}

/** The expert that runs at a timestep; without a boundary the one model is "low". */
export function expertAt(timestep: number, boundary: number | undefined): Expert {
  return boundary !== undefined && timestep >= boundary * 1000 ? "high" : "low";
}

/** Yields after every step; the last `latents` are the result. */
export async function* denoise(input: DenoiseInput): AsyncGenerator<DenoiseStep, Float32Array> {
  const { scheduler, shape, text, boundary, channels, firstFrame, clip } = input;
  const { timesteps } = scheduler;
  let latents: Float32Array = input.latents.slice();
  if (firstFrame) imposeFirstFrame(latents, firstFrame, shape);
  let model: WanDit | undefined;
  let current: Expert | undefined;
  for (let step = input.startStep ?? 0; step < timesteps.length; step++) {
    const started = performance.now();
    const timestep = timesteps[step]!;
    const expert = expertAt(timestep, boundary);
    if (!model || expert !== current) {
      model = await input.expert(expert);
      current = expert;
    }
    const velocityOf = (embeddings: Tensor) =>
      predict(
        model!,
        latents,
        shape,
        firstFrame ? firstFrameTimesteps(timestep, shape) : timestep,
        embeddings,
        channels,
        clip,
      );
    const conditional = await velocityOf(text.positive);
    // Signals and timers wait for a turn of the event loop, and a pass of a large model takes minutes.
    await nextTurn();
    const scale = input.guidance[expert];
    const unconditional = scale === 1 ? undefined : await velocityOf(text.negative);
    const velocity = unconditional ? guide(conditional, unconditional, scale) : conditional;
    if (velocity.some((value) => !Number.isFinite(value))) {
      throw new KinoraError(
        "sample.not-finite",
        `the ${expert}-noise model answered with NaN or infinity at step ${step + 1}`,
        {
          hint: "check the weights (kinora models inspect) and LoRA strengths",
        },
      );
    }
    latents = scheduler.step(velocity, latents);
    if (firstFrame) imposeFirstFrame(latents, firstFrame, shape);
    yield {
      step,
      steps: timesteps.length,
      timestep,
      expert,
      latents,
      conditional,
      ...(unconditional ? { unconditional } : {}),
      seconds: (performance.now() - started) / 1000,
    };
  }
  return latents;
}

/** uncond + scale·(cond − uncond) (Ho & Salimans, arXiv 2207.12598). */
export function guide(conditional: Float32Array, unconditional: Float32Array, scale: number): Float32Array {
  const result = new Float32Array(conditional.length);
  for (let i = 0; i < result.length; i++) {
    const base = unconditional[i]!;
    result[i] = base + scale * (conditional[i]! - base);
  }
  return result;
}

async function predict(
  model: WanDit,
  latents: Float32Array,
  shape: LatentShape,
  timestep: number | Float32Array,
  text: Tensor,
  channels: Float32Array | undefined,
  clip: Tensor | undefined,
): Promise<Float32Array> {
  using _scope = openScope(model.device);
  const [count, ...volume] = shape;
  const joined = channels ? joinChannels(latents, channels) : latents;
  const total = count + (channels ? (channels.length / latents.length) * count : 0);
  const output = model.forward({
    latents: fromValues(model.device, joined, [1, total, ...volume]),
    timesteps: [timestep],
    texts: [text],
    ...(clip ? { images: [clip] } : {}),
  });
  return output.read();
}

function joinChannels(latents: Float32Array, channels: Float32Array): Float32Array {
  const joined = new Float32Array(latents.length + channels.length);
  joined.set(latents);
  joined.set(channels, latents.length);
  return joined;
}
