// Sizes: what a video's pixels and frames come to in latents and tokens, and which sizes a model can make. No tensors.
import { KinoraError } from "../../base/errors.ts";
import { formatCount } from "../../base/units.ts";
import type { DitConfig, WanModel } from "./params.ts";

/** A video's sides in pixels, and its frames. */
export interface VideoSize {
  width: number;
  height: number;
  /** 4n + 1 */
  frames: number;
}

/** What a video comes to inside the model. */
export interface LatentSize {
  /** [channels, frames, height, width] of the model's own latents. */
  shape: [channels: number, frames: number, height: number, width: number];
  tokens: number;
}

/** Positions that the model tells apart along each axis: rows of the official rotary tables. */
const POSITIONS = 1024;

/** Latents and tokens of a video. Throws `size.not-divisible`, `size.frames`, `size.too-large`. */
export function latentSize(model: WanModel, size: VideoSize): LatentSize {
  const latents = unboundedLatentSize(model, size);
  const { width, height, frames } = size;
  const [strideT, strideH, strideW] = model.vae.stride;
  const [, patchH, patchW] = model.dit.patchSize;
  const [, latentFrames, latentHeight, latentWidth] = latents.shape;
  const grid = [latentFrames, latentHeight / patchH, latentWidth / patchW];
  if (grid.every((length) => length <= POSITIONS)) return latents;
  const sides = [POSITIONS * strideW * patchW, POSITIONS * strideH * patchH];
  throw new KinoraError("size.too-large", `${model.name} cannot make ${width}×${height} with ${frames} frames`, {
    expected: `at most ${sides.join("×")} and ${(POSITIONS - 1) * strideT + 1} frames: the model has ${POSITIONS} positions along each axis`,
    actual: `${grid.join("×")}, ${formatCount(latents.tokens)} tokens`,
    hint: `its usual size is ${model.defaults.width}*${model.defaults.height} with ${model.defaults.frames} frames`,
  });
}

/** The same for sizes that no model makes too, to say what they would take. Throws `size.not-divisible`, `size.frames`. */
export function unboundedLatentSize(model: WanModel, { width, height, frames }: VideoSize): LatentSize {
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

/** CLIP features of one picture, or of the first and the last. */
export function clipShape({ firstLast, featureDim }: NonNullable<DitConfig["imageBranch"]>): [number, number] {
  return [firstLast ? 514 : 257, featureDim];
}
