// What a picture does to a model's input: channels beside the latents (I2V), or the first latent frame itself (TI2V).
// Plain arrays, for generation and training alike; how the picture is resized is sample/conditions.ts.
import { KinoraError } from "../../base/errors.ts";

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
