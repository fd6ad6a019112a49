// How a picture conditions a video: channels beside the latents (I2V), or the first latent frame itself (TI2V).
import { KinoraError } from "../base/errors.ts";
import { coverGeometry, stretchGeometry } from "./image-geometry.ts";
import { type RgbImage, resizeBicubic, resizeLanczos, toPlanes } from "./image-resize.ts";

/** [channels, frames, height, width] of a latent video. */
export type LatentShape = readonly [channels: number, frames: number, height: number, width: number];

/** Latent frames of a video of `frames` = 4n + 1 frames. */
export function latentFrames(frames: number, temporalStride = 4): number {
  if (frames < 1 || (frames - 1) % temporalStride !== 0) {
    throw new KinoraError("sample.frames", "a video has 4n + 1 frames", {
      expected: `${Math.max(1, frames - ((frames - 1) % temporalStride))} or another 4n + 1`,
      actual: `${frames}`,
    });
  }
  return (frames - 1) / temporalStride + 1;
}

/** A picture made ready for a model: float32 planes [3, height, width] in [−1, 1] at the video's size. */
export interface PreparedImage {
  planes: Float32Array;
  width: number;
  height: number;
}

/** I2V: to [−1, 1] first, then a bicubic stretch without clamp. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/image2video.py#L258-L275 */
export function stretchImage(image: RgbImage, maxArea: number): PreparedImage {
  const { latentWidth, latentHeight } = stretchGeometry(image.width, image.height, maxArea);
  const size = { width: latentWidth * 8, height: latentHeight * 8 };
  return { planes: resizeBicubic(toPlanes(image), 3, image, size), ...size };
}

/** TI2V: Lanczos on 8-bit pixels, centre crop, then to [−1, 1]. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/textimage2video.py#L461-L477 */
export function coverImage(image: RgbImage, maxArea: number): PreparedImage {
  const { width, height, resizedWidth, resizedHeight, cropX, cropY } = coverGeometry(
    image.width,
    image.height,
    maxArea,
  );
  const resized = resizeLanczos(image, resizedWidth, resizedHeight);
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((y + cropY) * resizedWidth + cropX) * 3;
    pixels.set(resized.pixels.subarray(start, start + width * 3), y * width * 3);
  }
  return { planes: toPlanes({ width, height, pixels }), width, height };
}

/** What the autoencoder encodes for I2V: the picture, then zero (mid-grey) frames. float32 [3, frames, height, width]. */
export function imageThenGrey(image: PreparedImage, frames: number): Float32Array {
  const plane = image.width * image.height;
  const video = new Float32Array(3 * frames * plane);
  for (let c = 0; c < 3; c++) video.set(image.planes.subarray(c * plane, (c + 1) * plane), c * frames * plane);
  return video;
}

/**
 * The I2V condition [4 + 16, f, h, w]: four mask channels, 1 on the latent frames that are given, then the latents.
 * `encoded` [16, f, h, w] are normalised latents of `imageThenGrey`.
 */
export function channelCondition(encoded: Float32Array, [channels, frames, height, width]: LatentShape): Float32Array {
  const plane = height * width;
  const volume = frames * plane;
  const result = new Float32Array((4 + channels) * volume);
  for (let c = 0; c < 4; c++) result.fill(1, c * volume, c * volume + plane);
  result.set(encoded, 4 * volume);
  return result;
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

/** Per-token timesteps with the first latent frame clean: 0 on its tokens, `timestep` on the others. */
export function firstFrameTimesteps(timestep: number, [, frames, height, width]: LatentShape, patch = 2): Float32Array {
  const perFrame = (height / patch) * (width / patch);
  const result = new Float32Array(frames * perFrame).fill(timestep);
  result.fill(0, 0, perFrame);
  return result;
}
