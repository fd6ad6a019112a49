// The Wan video autoencoders, 2.1 and 2.2: pixels to latents and back, causal in time, chunk by chunk.
import { KinoraError } from "../../../base/errors.ts";
import { rowMajorStrides } from "../../../base/shape.ts";
import type { Device } from "../../../device/device.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import { concat, slice } from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { empty, type Tensor } from "../../../tensor/tensor.ts";
import type { LayerOptions } from "./blocks.ts";
import type { Layer } from "./causal.ts";
import { CHUNK_FRAMES, latentFrames, type VaeConfig, vaeStride } from "./config.ts";
import {
  type ClipDecoder,
  type ClipStream,
  DecodeStream,
  EncodeStream,
  LatentNormalization,
  type StreamModel,
} from "./streams.ts";
import { planTiles, runTiles, TiledStream, type TilePlan, type Tiling } from "./tiling.ts";
import { decoder21, encoder21 } from "./vae21.ts";
import { decoder22, encoder22 } from "./vae22.ts";

export interface VaeOptions {
  /** What the layers compute in; upstream float32. bf16 halves the memory, at about 3e-2 relative error. */
  dtype: "f32" | "bf16";
  /** Build only one half, where only one is needed. */
  half?: "encoder" | "decoder";
}

export interface EncodeOptions {
  /** Latents as the diffusion models see them, (latent − mean)/std. Default true. */
  normalized?: boolean;
  tiling?: Tiling | undefined;
}

export interface DecodeOptions extends EncodeOptions {
  /** Limit pixels to −1…1. Default true; has no gradient. */
  clamped?: boolean;
}

type Builder = (options: LayerOptions, config: VaeConfig) => Layer[];

const builders: Record<VaeConfig["kind"], { encoder: Builder; decoder: Builder }> = {
  vae21: { encoder: encoder21, decoder: decoder21 },
  vae22: { encoder: encoder22, decoder: decoder22 },
};

/**
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L483-L588 and
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L734-L860
 */
export class WanVae implements ClipDecoder {
  readonly config: VaeConfig;
  readonly device: Device;
  readonly dtype: VaeOptions["dtype"];
  readonly #weights: WeightProvider;
  readonly #encoder: readonly Layer[] | undefined;
  readonly #decoder: readonly Layer[] | undefined;
  readonly #normalization: LatentNormalization;

  constructor(weights: WeightProvider, config: VaeConfig, { dtype, half }: VaeOptions) {
    const { encoder, decoder } = builders[config.kind];
    this.config = config;
    this.device = weights.device;
    this.dtype = dtype;
    this.#weights = weights;
    this.#encoder = half === "decoder" ? undefined : encoder({ weights, dtype }, config);
    this.#decoder = half === "encoder" ? undefined : decoder({ weights, dtype }, config);
    this.#normalization = new LatentNormalization(weights.device, config.statistics);
  }

  /**
   * The mean of a video's latents: float32 [3, T, H, W] in −1…1 → float32 [zDim, t, h, w]. Frames beyond 4n+1 are
   * dropped.
   */
  encode(video: Tensor, options: EncodeOptions = {}): Tensor {
    const frames = video.shape[1]!;
    if (frames < 1) throw new KinoraError("vae.empty", "a video needs at least one frame");
    const count = latentFrames(this.config, frames);
    const plan = this.#encodePlan(video.shape[2]!, video.shape[3]!, options);
    if (plan) {
      const open = () => this.#openEncoder(options);
      return runTiles(this.device, plan, count, open, () => clipChunks(video, CHUNK_FRAMES));
    }
    return scoped(this.device, () => joinFrames(this.encodeChunks(clipChunks(video, CHUNK_FRAMES), options), count));
  }

  /** float32 [zDim, t, h, w] → float32 [3, T, H, W], T = 1 + 4·(t − 1). */
  decode(latents: Tensor, options: DecodeOptions = {}): Tensor {
    const count = latents.shape[1]!;
    if (count < 1) throw new KinoraError("vae.empty", "latents need at least one frame");
    const frames = 1 + (count - 1) * vaeStride(this.config)[0];
    const plan = this.#decodePlan(latents.shape[2]!, latents.shape[3]!, options);
    if (plan) {
      const open = () => this.#openDecoder(options);
      return runTiles(this.device, plan, frames, open, () => clipChunks(latents, 1));
    }
    return scoped(this.device, () => joinFrames(this.decodeChunks(latents, options), frames));
  }

  /**
   * Latents chunk by chunk, as their frames come: [3, 1, H, W], then [3, 4, H, W] each. Every result belongs to the
   * caller's scope; dispose it early. Chunks are freed once used.
   */
  *encodeChunks(chunks: Iterable<Tensor>, options: EncodeOptions = {}): Generator<Tensor, void, undefined> {
    let stream: ClipStream | undefined;
    try {
      for (const chunk of chunks) {
        stream ??= this.encoder({ height: chunk.shape[2]!, width: chunk.shape[3]! }, options);
        const latents = stream.push(chunk);
        chunk[Symbol.dispose]();
        yield latents;
      }
    } finally {
      stream?.[Symbol.dispose]();
    }
  }

  /**
   * A video chunk by chunk: one frame, then four each, [3, T, H, W], so that it can be written without being held.
   * Every result belongs to the caller's scope; dispose it early.
   */
  *decodeChunks(latents: Tensor, options: DecodeOptions = {}): Generator<Tensor, void, undefined> {
    using stream = this.decoder({ height: latents.shape[2]!, width: latents.shape[3]! }, options);
    for (const chunk of clipChunks(latents, 1)) {
      const frames = stream.push(chunk);
      chunk[Symbol.dispose]();
      yield frames;
    }
  }

  /** A stream for frames that arrive one by one. `size`: in pixels. */
  encoder(size: { height: number; width: number }, options: EncodeOptions = {}): ClipStream {
    const plan = this.#encodePlan(size.height, size.width, options);
    const open = () => this.#openEncoder(options);
    return plan ? new TiledStream(this.device, plan, open) : open();
  }

  /** A stream for latent frames that arrive one by one. `size`: in latent pixels. */
  decoder(size: { height: number; width: number }, options: DecodeOptions = {}): ClipStream {
    const plan = this.#decodePlan(size.height, size.width, options);
    const open = () => this.#openDecoder(options);
    return plan ? new TiledStream(this.device, plan, open) : open();
  }

  /** Pixels per latent pixel: [t, h, w]. */
  get stride(): readonly [t: number, h: number, w: number] {
    return vaeStride(this.config);
  }

  #openEncoder(options: EncodeOptions): ClipStream {
    return new EncodeStream(this.#model("encoder", this.#encoder, options));
  }

  #openDecoder(options: DecodeOptions): ClipStream {
    return new DecodeStream(this.#model("decoder", this.#decoder, options), { clamped: options.clamped ?? true });
  }

  #model(half: string, layers: readonly Layer[] | undefined, { normalized = true }: EncodeOptions): StreamModel {
    if (!layers) {
      throw new KinoraError("vae.half-missing", `the autoencoder was built without its ${half}`, {
        hint: "leave out the option `half` to build both",
      });
    }
    const normalization = normalized ? this.#normalization : undefined;
    return { config: this.config, dtype: this.dtype, layers, normalization };
  }

  #encodePlan(height: number, width: number, { tiling }: EncodeOptions): TilePlan | undefined {
    if (!tiling) return undefined;
    const [, stride] = vaeStride(this.config);
    if (height % stride !== 0 || width % stride !== 0) {
      throw new KinoraError("vae.size", "a video in tiles needs whole latent pixels", {
        expected: `multiples of ${stride}`,
        actual: `${width}×${height}`,
      });
    }
    return planTiles({ height: height / stride, width: width / stride }, tiling, stride, "encode");
  }

  #decodePlan(height: number, width: number, { tiling }: DecodeOptions): TilePlan | undefined {
    return tiling && planTiles({ height, width }, tiling, vaeStride(this.config)[1], "decode");
  }

  [Symbol.dispose](): void {
    this.#normalization[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
  }
}

/** The first frame of [C, T, H, W], then `size` frames at a time; an incomplete rest is dropped. */
function* clipChunks(clip: Tensor, size: number): Generator<Tensor, void, undefined> {
  const frames = clip.shape[1]!;
  yield slice(clip, 1, 0, 1);
  for (let start = 1; start + size <= frames; start += size) yield slice(clip, 1, start, size);
}

/** Chunks [C, t, H, W] of `frames` in all, one behind the other; each is freed as it comes unless a tape needs it. */
function joinFrames(chunks: Iterable<Tensor>, frames: number): Tensor {
  let joined: Tensor | undefined;
  const recorded: Tensor[] = [];
  let start = 0;
  for (const chunk of chunks) {
    if (chunk.requiresGrad) {
      recorded.push(chunk);
      continue;
    }
    const [channels, count, height, width] = chunk.shape as [number, number, number, number];
    joined ??= empty(chunk.device, [channels, frames, height, width], chunk.dtype);
    const strides = rowMajorStrides(joined.shape);
    chunk.device.kernels.stridedCopy(
      { operand: chunk, offset: 0, strides: rowMajorStrides(chunk.shape) },
      { operand: joined, offset: start * strides[1]!, strides },
      chunk.shape,
    );
    start += count;
    chunk[Symbol.dispose]();
  }
  return joined ?? concat(recorded, 1);
}
