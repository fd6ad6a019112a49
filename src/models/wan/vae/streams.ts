// One clip on its way through the encoder or the decoder, chunk by chunk. Memory does not grow with its length.
import { KinoraError } from "../../../base/errors.ts";
import { checkShape } from "../../../base/shape.ts";
import type { Device } from "../../../device/device.ts";
import {
  cast,
  clamp,
  divide,
  multiply,
  permute,
  add as plus,
  reshape,
  slice,
  subtract,
} from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { ownedEmpty, type Tensor } from "../../../tensor/tensor.ts";
import { FeatureCache, type Layer, runLayers } from "./causal.ts";
import { CHUNK_FRAMES, type LatentStatistics, type VaeConfig, vaeStride } from "./config.ts";

/** A clip passes through in chunks. Dispose it after the last one. */
export interface ClipStream extends Disposable {
  push(chunk: Tensor): Tensor;
}

/** What turns latents into a film piece by piece, whatever network does it. */
export interface ClipDecoder extends Disposable {
  readonly device: Device;
  /** float32 [zDim, t, h, w] to [3, 1, H, W], then [3, 4, H, W] each, in −1…1. */
  decodeChunks(latents: Tensor): Generator<Tensor, void, undefined>;
}

/** What a stream needs of its model. */
export interface StreamModel {
  config: VaeConfig;
  dtype: "f32" | "bf16";
  layers: readonly Layer[];
  /** Absent: latents as the network has them. */
  normalization: LatentNormalization | undefined;
}

/** (latent − mean) · (1/std) and back, per channel of the last axis, in float32 as upstream. */
export class LatentNormalization implements Disposable {
  readonly #mean: Tensor;
  readonly #inverse: Tensor;

  constructor(device: Device, { mean, std }: LatentStatistics) {
    this.#mean = ownedEmpty(device, [mean.length], "f32", "weights");
    this.#mean.write(Float32Array.from(mean));
    this.#inverse = ownedEmpty(device, [std.length], "f32", "weights");
    this.#inverse.write(Float32Array.from(std, (value) => 1 / value));
  }

  apply(latents: Tensor): Tensor {
    return multiply(subtract(latents, this.#mean), this.#inverse);
  }

  undo(normalized: Tensor): Tensor {
    return plus(divide(normalized, this.#inverse), this.#mean);
  }

  [Symbol.dispose](): void {
    this.#mean[Symbol.dispose]();
    this.#inverse[Symbol.dispose]();
  }
}

/**
 * Pixels in, latents out.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L516-L542
 */
export class EncodeStream implements ClipStream {
  readonly #model: StreamModel;
  readonly #cache = new FeatureCache();

  constructor(model: StreamModel) {
    this.#model = model;
  }

  /**
   * The next frames, float32 [3, T, H, W] in −1…1, to their latents, float32 [zDim, t, h, w]. First one frame, then
   * four at a time; 4n+1 and then 4n give the same and take more memory. Throws `vae.chunk`.
   */
  push(chunk: Tensor): Tensor {
    const { config, dtype, layers, normalization } = this.#model;
    const { patchSize, zDim } = config;
    const { first } = this.#cache;
    checkVideo(config, chunk);
    if ((chunk.shape[1]! - (first ? 1 : 0)) % CHUNK_FRAMES !== 0) {
      throw new KinoraError("vae.chunk", "a chunk for the encoder has the wrong number of frames", {
        expected: first ? "1 (or 4n+1) at the start of a clip" : "4 (or 4n)",
        actual: `${chunk.shape[1]}`,
      });
    }
    return scoped(chunk.device, () => {
      const pixels = cast(foldPixels(chunk, patchSize), dtype);
      const meanAndLogVariance = cast(runLayers(layers, pixels, this.#cache), "f32");
      this.#cache.advance();
      const mean = slice(meanAndLogVariance, 4, 0, zDim);
      const latents = normalization ? normalization.apply(mean) : mean;
      return reshape(permute(latents, [0, 4, 1, 2, 3]), [zDim, ...latents.shape.slice(1, 4)]);
    });
  }

  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
  }
}

/**
 * Latents in, pixels out.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L544-L568
 */
export class DecodeStream implements ClipStream {
  readonly #model: StreamModel;
  readonly #clamped: boolean;
  readonly #cache = new FeatureCache();

  /** `clamped`: limit pixels to −1…1, which has no gradient. */
  constructor(model: StreamModel, options: { clamped: boolean }) {
    this.#model = model;
    this.#clamped = options.clamped;
  }

  /**
   * The next latents, float32 [zDim, t, h, w], to their frames, float32 [3, T, H, W]: a clip's first latent frame gives
   * one, every other four. One latent frame at a time takes the least memory; more give the same.
   */
  push(chunk: Tensor): Tensor {
    const { config, dtype, layers, normalization } = this.#model;
    checkShape("the latents of a video", chunk.shape, [config.zDim, undefined, undefined, undefined]);
    return scoped(chunk.device, () => {
      const rows = permute(reshape(chunk, [1, ...chunk.shape]), [0, 2, 3, 4, 1]);
      const latents = cast(normalization ? normalization.undo(rows) : rows, dtype);
      const pixels = cast(runLayers(layers, latents, this.#cache), "f32");
      this.#cache.advance();
      const frames = unfoldPixels(pixels, config.patchSize);
      return this.#clamped ? clamp(frames, -1, 1) : frames;
    });
  }

  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
  }
}

/** The 2.1 encoder takes any size, as upstream; 2.2 folds pixels and needs whole latent pixels. */
function checkVideo(config: VaeConfig, video: Tensor): void {
  checkShape("a video", video.shape, [3, undefined, undefined, undefined]);
  const [, height, width] = vaeStride(config);
  if (config.patchSize > 1 && (video.shape[2]! % height !== 0 || video.shape[3]! % width !== 0)) {
    throw new KinoraError("vae.size", "the autoencoder does not support this video size", {
      expected: `multiples of ${height}`,
      actual: `${video.shape[3]}×${video.shape[2]}`,
    });
  }
}

/**
 * [3, T, H, W] → [1, T, H/p, W/p, 3·p²], the p×p pixels in the order (colour, column, row).
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L280-L296
 */
function foldPixels(video: Tensor, patch: number): Tensor {
  const [colours, frames, height, width] = video.shape as [number, number, number, number];
  const [rows, columns] = [height / patch, width / patch];
  const split = reshape(video, [colours, frames, rows, patch, columns, patch]);
  return reshape(permute(split, [1, 2, 4, 0, 5, 3]), [1, frames, rows, columns, colours * patch * patch]);
}

/** Back from `foldPixels`. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L299-L313 */
function unfoldPixels(folded: Tensor, patch: number): Tensor {
  const [, frames, rows, columns, channels] = folded.shape as [number, number, number, number, number];
  const colours = channels / (patch * patch);
  const split = reshape(folded, [frames, rows, columns, colours, patch, patch]);
  return reshape(permute(split, [3, 0, 1, 5, 2, 4]), [colours, frames, rows * patch, columns * patch]);
}
