// What the model is given in a step: noisy latents, given first frames, conditions behind them. Computed on the device.

import { rowMajorStrides } from "../../base/shape.ts";
import type { LatentShape } from "../../models/wan/image-condition.ts";
import { empty, filled, type Tensor } from "../../tensor/tensor.ts";
import { mixNoise } from "./flow-matching.ts";

/** One clip as the model sees it in a step; its tensors live on the model's device and belong to the caller's scope. */
export interface TrainingSample {
  /** Latents x₀ and noise, float32 [C, F, h, w]. */
  clean: Tensor;
  noise: Tensor;
  /** In [0, 1]; 1 is noise. */
  sigma: number;
  /** [length, textDim] */
  text: Tensor;
  /** I2V: the condition, float32 [C', F, h, w], which is joined behind the noisy latents. */
  channels?: Tensor;
  /** TI2V: latent frame 0 is given as it is, at timestep 0, and takes no part in the loss. Needs two latent frames. */
  firstFrameGiven?: boolean;
  /** 2.1 image-to-video: CLIP features [257 or 514, featureDim]. */
  clip?: Tensor;
}

/** Noisy latents with the conditions joined behind, [B, C + C', F, h, w]. */
export function modelInput(samples: readonly TrainingSample[]): Tensor {
  const { clean, channels } = samples[0]!;
  const [count, ...volume] = clean.shape as [number, number, number, number];
  const joined = count + (channels?.shape[0] ?? 0);
  const latents = empty(clean.device, [samples.length, joined, ...volume], "f32");
  const each = latents.size / samples.length;
  for (const [i, sample] of samples.entries()) {
    const noisy = latents.alias(sample.clean.shape, i * each);
    mixNoise(sample.clean, sample.noise, sample.sigma, noisy);
    if (sample.firstFrameGiven) copyFirstFrame(sample.clean, noisy);
    if (sample.channels) {
      const behind = latents.alias(sample.channels.shape, i * each + noisy.size);
      clean.device.copy(sample.channels.block, sample.channels.offset, behind.block, behind.offset, behind.byteLength);
    }
  }
  return latents;
}

/** Latent frame 0 of every channel. */
function copyFirstFrame(from: Tensor, to: Tensor): void {
  const [channels, , height, width] = from.shape as LatentShape;
  const strides = rowMajorStrides(from.shape);
  from.device.kernels.stridedCopy({ operand: from, offset: 0, strides }, { operand: to, offset: 0, strides }, [
    channels,
    1,
    height,
    width,
  ]);
}

/** Channels of the mask in front of a condition's latents. */
const MASK_CHANNELS = 4;

/** What i2v-A14B is given beside the noise: mask channels, 1 on the first latent frame, then the encoded condition. */
export function channelCondition(encoded: Tensor): Tensor {
  const { device } = encoded;
  const [channels, frames, height, width] = encoded.shape as LatentShape;
  const result = empty(device, [MASK_CHANNELS + channels, frames, height, width], "f32");
  const strides = rowMajorStrides(result.shape);
  device.kernels.fill(result.rows(0, MASK_CHANNELS), 0);
  device.kernels.stridedCopy(
    { operand: filled(device, [1], 1), offset: 0, strides: [0, 0, 0] },
    { operand: result, offset: 0, strides: [strides[0]!, strides[2]!, strides[3]!] },
    [MASK_CHANNELS, height, width],
  );
  const behind = result.rows(MASK_CHANNELS, channels);
  device.copy(encoded.block, encoded.offset, behind.block, behind.offset, encoded.byteLength);
  return result;
}
