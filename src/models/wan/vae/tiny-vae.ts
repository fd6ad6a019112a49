// The tiny autoencoder (TAEHV: taew2.1 and taew2.2): the same latents as Wan's own, decoded in a fraction of the time and
// more roughly. Causal in time, chunk by chunk. https://github.com/madebyollin/taehv/blob/1f14a56/taehv.py
import { KinoraError } from "../../../base/errors.ts";
import { checkShape } from "../../../base/shape.ts";
import type { Device } from "../../../device/device.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import {
  add,
  cast,
  clamp,
  concat,
  conv3d,
  permute,
  repeat,
  reshape,
  scale,
  slice,
  softmax,
  subtract,
} from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { type Tensor, zeros } from "../../../tensor/tensor.ts";
import { FeatureCache, type Layer, runLayers } from "./causal.ts";
import type { ClipDecoder, ClipStream } from "./streams.ts";

/** Sizes of a tiny autoencoder; how its layers lie is fixed. */
export interface TinyVaeConfig {
  readonly kind: "tae";
  /** Channels of the latents. */
  readonly zDim: number;
  /** Pixels along a side that are folded into channels. */
  readonly patchSize: number;
  readonly encoderWidth: number;
  /** Of its four stages, before each upsampling. */
  readonly decoderWidths: readonly number[];
  /** Frames that become one at each of the encoder's stages, and that one becomes at each of the decoder's. */
  readonly encoderFrames: readonly number[];
  readonly decoderFrames: readonly number[];
}

/** Pixels per latent pixel: [t, h, w]. */
export function tinyStride({ decoderFrames, patchSize }: TinyVaeConfig): [t: number, h: number, w: number] {
  const pixels = 8 * patchSize;
  return [product(decoderFrames), pixels, pixels];
}

const product = (numbers: readonly number[]): number => numbers.reduce((all, number) => all * number, 1);

const relu = (x: Tensor): Tensor => clamp(x, 0, Number.POSITIVE_INFINITY);

/** A convolution within frames, [1, T, H, W, C] channels last. */
class Convolution implements Layer {
  readonly #weight: Tensor;
  readonly #bias: Tensor | undefined;
  readonly #kernel: 1 | 3;
  readonly #stride: 1 | 2;
  readonly #relu: boolean;

  constructor(
    weights: WeightProvider,
    name: string,
    [inputs, outputs, kernel]: readonly [number, number, 1 | 3],
    options: { bias?: boolean; stride?: 1 | 2; relu?: boolean } = {},
  ) {
    const { bias = true, stride = 1, relu = false } = options;
    this.#weight = weights.tensor(`${name}.weight`, [outputs, inputs, kernel, kernel], "f32");
    this.#bias = bias ? weights.tensor(`${name}.bias`, [outputs], "f32") : undefined;
    this.#kernel = kernel;
    this.#stride = stride;
    this.#relu = relu;
  }

  forward(x: Tensor): Tensor {
    return scoped(x.device, () => {
      const [outputs, inputs, rows, columns] = this.#weight.shape as [number, number, number, number];
      const side = (this.#kernel - 1) / 2;
      const result = conv3d(x, reshape(this.#weight, [outputs, inputs, 1, rows, columns]), this.#bias, {
        stride: [1, this.#stride, this.#stride],
        padding: [
          [0, 0],
          [side, side],
          [side, side],
        ],
      });
      return this.#relu ? relu(result) : result;
    });
  }
}

/** Three convolutions over a frame and the one before it, beside the frame itself. */
class MemoryBlock implements Layer {
  readonly #layers: readonly Convolution[];
  readonly #skip: Convolution | undefined;

  constructor(weights: WeightProvider, name: string, width: number) {
    this.#layers = [
      new Convolution(weights, `${name}.conv.0`, [2 * width, width, 3], { relu: true }),
      new Convolution(weights, `${name}.conv.2`, [width, width, 3], { relu: true }),
      new Convolution(weights, `${name}.conv.4`, [width, width, 3]),
    ];
    this.#skip = weights.has(`${name}.skip.weight`)
      ? new Convolution(weights, `${name}.skip`, [width, width, 1], { bias: false })
      : undefined;
  }

  forward(x: Tensor, cache: FeatureCache): Tensor {
    return scoped(x.device, () => {
      const [, frames, ...rest] = x.shape;
      const earlier = cache.get(this) ?? zeros(x.device, [1, 1, ...rest]);
      const before = frames === 1 ? earlier : concat([earlier, slice(x, 1, 0, frames! - 1)], 1);
      const joined = concat([x, before], 4);
      cache.keep(this, x, 1);
      const changed = this.#layers.reduce((value, layer) => layer.forward(value), joined);
      return relu(add(changed, this.#skip ? this.#skip.forward(x) : x));
    });
  }
}

/** Some frames to one, or one to some: side by side in the channels, and a 1×1 convolution. */
class FrameChange implements Layer {
  readonly #convolution: Convolution;
  readonly #before: number;
  readonly #after: number;

  constructor(weights: WeightProvider, name: string, width: number, change: { before?: number; after?: number }) {
    this.#before = change.before ?? 1;
    this.#after = change.after ?? 1;
    const sizes = [width * this.#before, width * this.#after, 1] as const;
    this.#convolution = new Convolution(weights, `${name}.conv`, sizes, { bias: false });
  }

  forward(x: Tensor): Tensor {
    return scoped(x.device, () => regroup(this.#convolution.forward(regroup(x, this.#before, 1)), 1, this.#after));
  }
}

/** Joins `join` frames into channels, or splits channels into `split` frames. */
function regroup(x: Tensor, join: number, split: number): Tensor {
  if (join === 1 && split === 1) return x;
  const [, frames, height, width, channels] = x.shape as [number, number, number, number, number];
  if (join > 1) {
    const parts = reshape(x, [frames / join, join, height, width, channels]);
    return reshape(permute(parts, [0, 2, 3, 1, 4]), [1, frames / join, height, width, join * channels]);
  }
  const parts = reshape(x, [frames, height, width, split, channels / split]);
  return reshape(permute(parts, [0, 3, 1, 2, 4]), [1, frames * split, height, width, channels / split]);
}

const doubled: Layer = { forward: (x) => scoped(x.device, () => repeat(repeat(x, 2, 2), 3, 2)) };

/** 3·tanh(x/3); tanh y is the difference of softmax over y and −y. */
const limited: Layer = {
  forward: (x) =>
    scoped(x.device, () => {
      const column = reshape(scale(x, 1 / 3), [x.size, 1]);
      const halves = softmax(concat([column, scale(column, -1)], 1));
      return reshape(scale(subtract(slice(halves, 1, 0, 1), slice(halves, 1, 1, 1)), 3), x.shape);
    }),
};

const BLOCKS = 3;

function encoderLayers(weights: WeightProvider, config: TinyVaeConfig): Layer[] {
  const { encoderWidth: width, patchSize, zDim, encoderFrames } = config;
  const layers: Layer[] = [new Convolution(weights, "encoder.0", [3 * patchSize ** 2, width, 3], { relu: true })];
  for (const [stage, before] of encoderFrames.entries()) {
    const at = 2 + stage * 5;
    layers.push(new FrameChange(weights, `encoder.${at}`, width, { before }));
    layers.push(new Convolution(weights, `encoder.${at + 1}`, [width, width, 3], { bias: false, stride: 2 }));
    for (let i = 0; i < BLOCKS; i++) layers.push(new MemoryBlock(weights, `encoder.${at + 2 + i}`, width));
  }
  layers.push(new Convolution(weights, "encoder.17", [width, zDim, 3]));
  return layers;
}

function decoderLayers(weights: WeightProvider, config: TinyVaeConfig): Layer[] {
  const { decoderWidths: widths, patchSize, zDim, decoderFrames } = config;
  const layers: Layer[] = [limited, new Convolution(weights, "decoder.1", [zDim, widths[0]!, 3], { relu: true })];
  for (const [stage, after] of decoderFrames.entries()) {
    const at = 3 + stage * 6;
    const [width, next] = [widths[stage]!, widths[stage + 1]!];
    const last = stage === decoderFrames.length - 1;
    for (let i = 0; i < BLOCKS; i++) layers.push(new MemoryBlock(weights, `decoder.${at + i}`, width));
    layers.push(doubled, new FrameChange(weights, `decoder.${at + 4}`, width, { after }));
    layers.push(new Convolution(weights, `decoder.${at + 5}`, [width, next, 3], { bias: false, relu: last }));
  }
  layers.push(new Convolution(weights, "decoder.22", [widths.at(-1)!, 3 * patchSize ** 2, 3]));
  return layers;
}

export class TinyVae implements ClipDecoder {
  readonly config: TinyVaeConfig;
  readonly device: Device;
  readonly #weights: WeightProvider;
  readonly #encoder: readonly Layer[] | undefined;
  readonly #decoder: readonly Layer[] | undefined;

  constructor(weights: WeightProvider, config: TinyVaeConfig, { half }: { half?: "encoder" | "decoder" } = {}) {
    this.config = config;
    this.device = weights.device;
    this.#weights = weights;
    this.#encoder = half === "decoder" ? undefined : encoderLayers(weights, config);
    this.#decoder = half === "encoder" ? undefined : decoderLayers(weights, config);
  }

  /**
   * Float32 [3, T, H, W] in −1…1 to latents as the transformer has them, float32 [zDim, t, h, w]. A clip whose frames are
   * no whole groups is filled up with its last one.
   */
  encode(video: Tensor): Tensor {
    const { patchSize, zDim, encoderFrames } = this.config;
    const layers = this.#half("encoder", this.#encoder);
    checkShape("a video", video.shape, [3, undefined, undefined, undefined]);
    const [, frames, height, width] = video.shape as [number, number, number, number];
    const group = product(encoderFrames);
    const side = 8 * patchSize;
    if (frames < 1 || height % side !== 0 || width % side !== 0) {
      throw new KinoraError("vae.size", "the autoencoder does not support this video size", {
        expected: `frames, and sides that are multiples of ${side}`,
        actual: `${frames} of ${width}×${height}`,
      });
    }
    return scoped(this.device, () => {
      using cache = new FeatureCache();
      const parts: Tensor[] = [];
      for (let start = 0; start < frames; start += group) {
        const part = scoped(this.device, () => {
          const count = Math.min(group, frames - start);
          const own = slice(video, 1, start, count);
          const last = slice(video, 1, frames - 1, 1);
          const filled = count === group ? own : concat([own, repeat(last, 1, group - count)], 1);
          const pixels = foldPixels(scale(filled, 0.5, 0.5), patchSize);
          const latents = runLayers(layers, pixels, cache);
          return reshape(permute(latents, [0, 4, 1, 2, 3]), [zDim, ...latents.shape.slice(1, 4)]);
        });
        parts.push(part);
      }
      return concat(parts, 1);
    });
  }

  /** A stream for latent frames that arrive one by one; gives [3, t, H, W] in −1…1, one frame first, then four each. */
  decoder(): ClipStream {
    const layers = this.#half("decoder", this.#decoder);
    const { zDim, patchSize, decoderFrames } = this.config;
    const cache = new FeatureCache();
    return {
      push: (chunk) =>
        scoped(this.device, () => {
          checkShape("the latents of a video", chunk.shape, [zDim, undefined, undefined, undefined]);
          const rows = permute(reshape(cast(chunk, "f32"), [1, ...chunk.shape]), [0, 2, 3, 4, 1]);
          const frames = unfoldPixels(runLayers(layers, rows, cache), patchSize);
          // The first latent frame is one picture: what was grown before it is cut off.
          const early = cache.first ? product(decoderFrames) - 1 : 0;
          cache.advance();
          const shown = early > 0 ? slice(frames, 1, early, frames.shape[1]! - early) : frames;
          return scale(clamp(shown, 0, 1), 2, -1);
        }),
      [Symbol.dispose]: () => cache[Symbol.dispose](),
    };
  }

  *decodeChunks(latents: Tensor): Generator<Tensor, void, undefined> {
    using stream = this.decoder();
    for (let frame = 0; frame < latents.shape[1]!; frame++) {
      const chunk = slice(latents, 1, frame, 1);
      const frames = stream.push(chunk);
      chunk[Symbol.dispose]();
      yield frames;
    }
  }

  /** Float32 [zDim, t, h, w] → float32 [3, T, H, W] in −1…1. */
  decode(latents: Tensor): Tensor {
    return scoped(this.device, () => concat([...this.decodeChunks(latents)], 1));
  }

  #half(name: string, layers: readonly Layer[] | undefined): readonly Layer[] {
    if (layers) return layers;
    throw new KinoraError("vae.half-missing", `the autoencoder was built without its ${name}`);
  }

  [Symbol.dispose](): void {
    this.#weights[Symbol.dispose]();
  }
}

/** [3, T, H, W] → [1, T, H/p, W/p, 3·p²], the p×p pixels in the order (colour, row, column). */
function foldPixels(video: Tensor, patch: number): Tensor {
  const [colours, frames, height, width] = video.shape as [number, number, number, number];
  const split = reshape(video, [colours, frames, height / patch, patch, width / patch, patch]);
  return reshape(permute(split, [1, 2, 4, 0, 3, 5]), [1, frames, height / patch, width / patch, colours * patch ** 2]);
}

/** Back from `foldPixels`. */
function unfoldPixels(folded: Tensor, patch: number): Tensor {
  const [, frames, rows, columns, channels] = folded.shape as [number, number, number, number, number];
  const colours = channels / patch ** 2;
  const split = reshape(folded, [frames, rows, columns, colours, patch, patch]);
  return reshape(permute(split, [3, 0, 1, 4, 2, 5]), [colours, frames, rows * patch, columns * patch]);
}
