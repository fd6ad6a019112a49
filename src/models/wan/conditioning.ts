// What a video is made under beside noise and text: channels joined behind its latents (I2V), a first latent frame that
// is given (TI2V), CLIP features of a picture (2.1). The one owner of how a picture becomes such a condition and of how
// conditions enter the transformer's input, for caching, training and sampling alike. How a picture is brought to the
// video's size is sample/picture.ts and the arithmetic of it image-geometry.ts.
import { KinoraError } from "../../base/errors.ts";
import { rowMajorStrides } from "../../base/shape.ts";
import type { Device } from "../../device/device.ts";
import type { HostTensor } from "../../tensor/host-tensor.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, filled, fromValues, type Tensor } from "../../tensor/tensor.ts";
import type { DitInput } from "./dit/dit.ts";
import type { ImageInput } from "./params.ts";
import { encodeClip } from "./vae/encode-clip.ts";
import type { WanVae } from "./vae/vae.ts";

/** [channels, frames, height, width] of a latent video. */
export type LatentShape = readonly [channels: number, frames: number, height: number, width: number];

/** A condition on the model's device; whatever is absent does not condition. */
export interface Condition {
  /** float32 [C', F, h, w], joined behind the latents. */
  channels?: Tensor;
  /** float32 [C, 1 or more, h, w]: its frame 0 is latent frame 0, given as it is at timestep 0. */
  firstFrame?: Tensor;
  /** [tokens, featureDim] */
  clip?: Tensor;
}

/** A condition on the host, as it is made and handed on: what a picture comes to, and how the model takes it. */
export interface HostCondition {
  image: ImageInput;
  latents: HostTensor;
  /** 2.1: CLIP features of the picture. */
  clip?: HostTensor;
}

/** Onto a device; the caller's to dispose of. */
export function loadCondition(device: Device, { image, latents, clip }: HostCondition): Condition & Disposable {
  using scope = openScope(device);
  const uploaded = ({ values, shape }: HostTensor) => fromValues(device, values, shape);
  const condition = { ...pictureCondition(image, uploaded(latents)), ...(clip ? { clip: uploaded(clip) } : {}) };
  for (const part of Object.values(condition)) scope.release(part);
  return {
    ...condition,
    [Symbol.dispose]() {
      for (const part of Object.values(condition)) part[Symbol.dispose]();
    },
  };
}

/** A picture at the video's size: float32 planes [3, height, width] in −1…1. */
export interface PreparedImage {
  planes: Float32Array;
  width: number;
  height: number;
}

/** How models take a picture. */
interface PictureWay {
  /** Its latents are apart from those of a clip that begins with it. */
  own: boolean;
  /** What the autoencoder encodes for a video of `frames` frames: one frame, then four each. */
  chunks(picture: PreparedImage, frames: number): Iterable<Float32Array>;
  /** What the latents are to the model. */
  condition(latents: Tensor): Condition;
}

/** The picture is latent frame 0. */
const asFirstFrame: PictureWay = {
  own: false,
  chunks: ({ planes }) => [planes],
  condition: (latents) => ({ firstFrame: latents }),
};

/** The picture and grey frames behind it, with a mask, stand beside the latents. */
const asChannels: PictureWay = {
  own: true,
  chunks: pictureThenGrey,
  condition: (latents) => ({ channels: maskedChannels(latents) }),
};

const ways: Readonly<Partial<Record<ImageInput, PictureWay>>> = {
  "first-frame": asFirstFrame,
  channels: asChannels,
  "channels+clip": asChannels,
};

function wayOf(image: ImageInput): PictureWay {
  const way = ways[image];
  if (way) return way;
  throw new KinoraError("conditioning.unsupported", "this model's picture input is not supported yet", {
    actual: image,
    hint: "choose a model that takes text alone or a first frame",
  });
}

/** True where the picture has latents of its own; a first frame's are those of the clip that begins with it. */
export const hasPictureLatents = (image: ImageInput): boolean => ways[image]?.own === true;

/**
 * Latents of a picture as a model takes it, normalised, [C, 1 or F, h, w]. Throws `conditioning.unsupported`, and what
 * `signal` says.
 */
export async function pictureLatents(
  vae: WanVae,
  image: ImageInput,
  picture: PreparedImage,
  frames: number,
  signal?: AbortSignal,
): Promise<HostTensor> {
  return encodeClip(vae, wayOf(image).chunks(picture, frames), picture, signal);
}

/** What latents of a picture are to a model, in the current scope. Throws `conditioning.unsupported`. */
export function pictureCondition(image: ImageInput, latents: Tensor): Condition {
  return wayOf(image).condition(latents);
}

/** The picture, then zero (mid-grey) frames. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/image2video.py#L302-L317 */
function* pictureThenGrey({ planes, width, height }: PreparedImage, frames: number): Generator<Float32Array> {
  yield planes;
  const grey = new Float32Array(3 * 4 * width * height);
  for (let frame = 1; frame < frames; frame += 4) yield grey;
}

/** Channels of the mask in front of a picture's latents. */
const MASK_CHANNELS = 4;

/** Mask channels, 1 on the latent frame that is given, then the picture's latents [C, F, h, w]: [4 + C, F, h, w]. */
function maskedChannels(latents: Tensor): Tensor {
  const { device } = latents;
  const [channels, frames, height, width] = latents.shape as LatentShape;
  const result = empty(device, [MASK_CHANNELS + channels, frames, height, width], "f32");
  const strides = rowMajorStrides(result.shape);
  device.kernels.fill(result.rows(0, MASK_CHANNELS), 0);
  device.kernels.stridedCopy(
    { operand: filled(device, [1], 1), offset: 0, strides: [0, 0, 0] },
    { operand: result, offset: 0, strides: [strides[0]!, strides[2]!, strides[3]!] },
    [MASK_CHANNELS, height, width],
  );
  copyInto(latents, result.rows(MASK_CHANNELS, channels));
  return result;
}

function copyInto(from: Tensor, to: Tensor): void {
  from.device.copy(from.block, from.offset, to.block, to.offset, from.byteLength);
}

/** Overwrites latent frame 0 of `latents` [C, F, h, w] with `first` [C, 1, h, w]. */
export function imposeFirstFrame(
  latents: Float32Array,
  first: Float32Array,
  [channels, frames, height, width]: LatentShape,
): void {
  const plane = height * width;
  for (let c = 0; c < channels; c++) {
    latents.set(first.subarray(c * plane, (c + 1) * plane), c * frames * plane);
  }
}

/** Puts the latents that a condition gives as they are into `latents` [C, F, h, w]. */
export function imposeGiven(latents: Float32Array, condition: HostCondition, shape: LatentShape): void {
  if (ways[condition.image] === asFirstFrame) imposeFirstFrame(latents, condition.latents.values, shape);
}

/** Per-token timesteps with the first latent frame clean: 0 on its tokens, `timestep` on the others. */
export function firstFrameTimesteps(timestep: number, [, frames, height, width]: LatentShape, patch = 2): Float32Array {
  const perFrame = (height / patch) * (width / patch);
  const result = new Float32Array(frames * perFrame).fill(timestep);
  result.fill(0, 0, perFrame);
  return result;
}

/** One video as the transformer is shown it. */
export interface ModelSample {
  shape: LatentShape;
  timestep: number;
  /** [length, textDim] */
  text: Tensor;
  condition?: Condition | undefined;
  /** Puts the noisy latents into `out`, float32 [C, F, h, w]. */
  write(out: Tensor): void;
}

/** Samples of one shape and one kind of condition to the transformer's input, in the current scope. */
export function modelInput(device: Device, samples: readonly ModelSample[], patch: number): DitInput {
  const { shape, condition } = samples[0]!;
  const [count, ...volume] = shape;
  const channels = count + (condition?.channels?.shape[0] ?? 0);
  const latents = empty(device, [samples.length, channels, ...volume], "f32");
  const each = latents.size / samples.length;
  for (const [i, sample] of samples.entries()) {
    const noisy = latents.alias(shape, i * each);
    sample.write(noisy);
    const { firstFrame, channels: behind } = sample.condition ?? {};
    if (firstFrame) copyFirstFrame(firstFrame, noisy);
    if (behind) copyInto(behind, latents.alias(behind.shape, i * each + noisy.size));
  }
  return {
    latents,
    timesteps: samples.map((sample) =>
      sample.condition?.firstFrame ? firstFrameTimesteps(sample.timestep, shape, patch) : sample.timestep,
    ),
    texts: samples.map(({ text }) => text),
    ...(condition?.clip ? { images: samples.map((sample) => sample.condition!.clip!) } : {}),
  };
}

/** Latent frame 0 of every channel. */
function copyFirstFrame(from: Tensor, to: Tensor): void {
  const [channels, , height, width] = from.shape as LatentShape;
  from.device.kernels.stridedCopy(
    { operand: from, offset: 0, strides: rowMajorStrides(from.shape) },
    { operand: to, offset: 0, strides: rowMajorStrides(to.shape) },
    [channels, 1, height, width],
  );
}
