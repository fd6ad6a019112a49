// The blocks both autoencoders are built of: residual, attention, downsampling, upsampling.
import type { DType } from "../../../base/dtype.ts";
import { rowMajorStrides } from "../../../base/shape.ts";
import { Linear } from "../../../nn/linear.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import { attention, concat, permute, reshape, slice } from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { record } from "../../../tensor/tape.ts";
import { empty, type Tensor } from "../../../tensor/tensor.ts";
import { addTo, CausalConvolution, ChannelNorm, Convolution, type FeatureCache, type Layer } from "./causal.ts";

/** What the layers of one autoencoder share. */
export interface LayerOptions {
  weights: WeightProvider;
  dtype: DType;
}

const cube = [3, 3, 3] as const;

/** A causal 3×3×3 convolution, alone or behind its RMS norm and SiLU. */
export function causalConvolution(
  { weights, dtype }: LayerOptions,
  name: string,
  inputs: number,
  outputs: number,
  norm?: string,
): CausalConvolution {
  return new CausalConvolution(weights, name, { inputs, outputs, kernel: cube }, { dtype, ...(norm ? { norm } : {}) });
}

/** A 1×1×1 convolution: on channels-last memory, a Linear. */
export class PointConvolution implements Layer {
  readonly #linear: Linear;

  constructor({ weights, dtype }: LayerOptions, name: string, inputs: number, outputs: number) {
    const storedShape = [outputs, inputs, 1, 1, 1];
    this.#linear = new Linear(weights, name, inputs, outputs, { dtype, storedShape });
  }

  forward(x: Tensor): Tensor {
    return this.#linear.forward(x);
  }

  /** convolution(x) + residual */
  addTo(residual: Tensor, x: Tensor): Tensor {
    return this.#linear.forward(x, { residual });
  }
}

/**
 * Two convolutions, each behind an RMS norm and SiLU, beside a shortcut.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L186-L220
 */
export class ResidualBlock implements Layer {
  readonly #first: CausalConvolution;
  readonly #second: CausalConvolution;
  readonly #shortcut: PointConvolution | undefined;

  constructor(options: LayerOptions, name: string, inputs: number, outputs: number) {
    const part = (index: number) => `${name}.residual.${index}`;
    this.#first = causalConvolution(options, part(2), inputs, outputs, part(0));
    this.#second = causalConvolution(options, part(6), outputs, outputs, part(3));
    this.#shortcut =
      inputs === outputs ? undefined : new PointConvolution(options, `${name}.shortcut`, inputs, outputs);
  }

  forward(x: Tensor, cache: FeatureCache): Tensor {
    return scoped(x.device, () => {
      const hidden = this.#second.forward(this.#first.forward(x, cache), cache, true);
      return this.#shortcut ? this.#shortcut.addTo(hidden, x) : addTo(hidden, x);
    });
  }
}

/** `count` residual blocks called `name.first`, `name.first+1`, …; the first one changes the width. */
export function residualBlocks(
  options: LayerOptions,
  name: string,
  first: number,
  count: number,
  inputs: number,
  outputs: number,
): Layer[] {
  return Array.from(
    { length: count },
    (_, i) => new ResidualBlock(options, `${name}.${first + i}`, i === 0 ? inputs : outputs, outputs),
  );
}

/**
 * Single-head self-attention among the pixels of each frame.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L223-L262
 */
export class AttentionBlock implements Layer {
  readonly #channels: number;
  readonly #norm: ChannelNorm;
  readonly #toQkv: Linear;
  readonly #projection: Linear;

  constructor({ weights, dtype }: LayerOptions, name: string, channels: number) {
    const linear = (part: string, outputs: number) =>
      new Linear(weights, `${name}.${part}`, channels, outputs, { dtype, storedShape: [outputs, channels, 1, 1] });
    this.#channels = channels;
    this.#norm = new ChannelNorm(weights, `${name}.norm`, channels, { silu: false, planar: true });
    this.#toQkv = linear("to_qkv", channels * 3);
    this.#projection = linear("proj", channels);
  }

  forward(x: Tensor): Tensor {
    const channels = this.#channels;
    const [, frames, height, width] = x.shape as [number, number, number, number];
    return scoped(x.device, () => {
      const qkv = this.#toQkv.forward(this.#norm.forward(x));
      const [q, k, v] = [0, 1, 2].map((i) =>
        reshape(slice(qkv, 4, i * channels, channels), [frames, height * width, 1, channels]),
      );
      return this.#projection.forward(reshape(attention(q!, k!, v!), x.shape), { residual: x });
    });
  }
}

/** Residual, attention, residual: the middle of an encoder and of a decoder. */
export function middle(options: LayerOptions, name: string, channels: number): Layer[] {
  return [
    new ResidualBlock(options, `${name}.0`, channels, channels),
    new AttentionBlock(options, `${name}.1`, channels),
    new ResidualBlock(options, `${name}.2`, channels, channels),
  ];
}

const planar = [1, 3, 3] as const;

/**
 * Halves each side; `time`: the frames too, all but the clip's first. Pads the right and the bottom only.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L90-L160
 */
export class Downsample implements Layer {
  readonly #space: Convolution;
  readonly #time: Convolution | undefined;

  constructor({ weights, dtype }: LayerOptions, name: string, channels: number, { time }: { time: boolean }) {
    const shape = { inputs: channels, outputs: channels };
    this.#space = new Convolution(weights, `${name}.resample.1`, { ...shape, kernel: planar }, { dtype, planar: true });
    this.#time = time
      ? new Convolution(weights, `${name}.time_conv`, { ...shape, kernel: [3, 1, 1] }, { dtype })
      : undefined;
  }

  forward(x: Tensor, cache: FeatureCache): Tensor {
    return scoped(x.device, () => {
      const small = this.#space.forward(x, { stride: [1, 2, 2], padding: [none, [0, 1], [0, 1]] });
      if (!this.#time) return small;
      const history = cache.get(this);
      const frames = history ? concat([history, small], 1) : small;
      cache.keep(this, small, 1);
      // The clip's first frame stands for itself; every later pair is seen with the frame before it.
      const halved =
        frames.shape[1]! < 3 ? [] : [this.#time.forward(frames, { stride: [2, 1, 1], padding: [none, none, none] })];
      return concat(cache.first ? [slice(small, 1, 0, 1), ...halved] : halved, 1);
    });
  }
}

const none = [0, 0] as const;

/**
 * Doubles each side; `time`: the frames too, all but the clip's first.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L77-L136
 */
export class Upsample implements Layer {
  readonly #space: Convolution;
  readonly #time: CausalConvolution | undefined;

  constructor(
    { weights, dtype }: LayerOptions,
    name: string,
    inputs: number,
    outputs: number,
    { time }: { time: boolean },
  ) {
    this.#space = new Convolution(
      weights,
      `${name}.resample.1`,
      { inputs, outputs, kernel: planar },
      { dtype, planar: true },
    );
    this.#time = time
      ? new CausalConvolution(
          weights,
          `${name}.time_conv`,
          { inputs, outputs: inputs * 2, kernel: [3, 1, 1] },
          { dtype },
        )
      : undefined;
  }

  forward(x: Tensor, cache: FeatureCache): Tensor {
    return scoped(x.device, () => {
      const large = scoped(x.device, () => this.#enlarge(x, cache));
      return this.#space.forward(large, { stride: [1, 1, 1], padding: [none, [1, 1], [1, 1]] });
    });
  }

  #enlarge(x: Tensor, cache: FeatureCache): Tensor {
    if (!this.#time) return spreadPixels(x, 1);
    if (!cache.first) return spreadPixels(this.#time.forward(x, cache), 2);
    // The clip's first frame is not doubled, nor does it enter the history of the frames that are.
    const later = x.shape[1]! - 1;
    const first = spreadPixels(slice(x, 1, 0, 1), 1);
    if (later === 0) return first;
    return concat([first, spreadPixels(this.#time.forward(slice(x, 1, 1, later), cache), 2)], 1);
  }
}

/**
 * Nearest-neighbour doubling of each side; `times` groups of channels become as many frames in a row.
 * [1, T, H, W, times·C] → [1, times·T, 2H, 2W, C], in one copy.
 */
function spreadPixels(x: Tensor, times: 1 | 2): Tensor {
  const [, frames, height, width, groups] = x.shape as [number, number, number, number, number];
  const channels = groups / times;
  const [, frameStride, rowStride, pixelStride] = rowMajorStrides(x.shape) as [number, number, number, number];
  const spread = [frames, times, height, 2, width, 2, channels];
  const output = empty(x.device, [1, frames * times, height * 2, width * 2, channels], x.dtype);
  x.device.kernels.stridedCopy(
    { operand: x, offset: 0, strides: [frameStride, channels, rowStride, 0, pixelStride, 0, 1] },
    { operand: output, offset: 0, strides: rowMajorStrides(spread) },
    spread,
  );
  return record("spreadPixels", output, [x], [], (dy) => {
    const summed = empty(dy.device, [frames, times, height, 1, width, 1, channels], dy.dtype);
    dy.device.kernels.sum(dy.alias(spread), [3, 5], summed);
    const grouped = permute(summed.alias([frames, times, height, width, channels]), [0, 2, 3, 1, 4]);
    return [grouped.alias(x.shape)];
  });
}
