// Convolutions over a video that comes in chunks: each layer keeps the last frames it saw as the history of the next.
// Channels last throughout: x [1, T, H, W, C]. With the batch at 1, a run of frames is contiguous memory.
import type { DType } from "../../../base/dtype.ts";
import type { ConvolutionOptions } from "../../../device/kernels.ts";
import type { WeightProvider } from "../../../nn/weights.ts";
import { add, cast, concat, conv3d, reshape, rmsNorm, slice } from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import { isRecorded } from "../../../tensor/tape.ts";
import { empty, ownedEmpty, type Tensor } from "../../../tensor/tensor.ts";

/** What a half of the autoencoder is a chain of. */
export interface Layer {
  /** [1, T, H, W, C] → [1, T', H', W', C'], of one chunk. */
  forward(x: Tensor, cache: FeatureCache): Tensor;
}

/** The frames each layer carries from chunk to chunk. Owns them. */
export class FeatureCache implements Disposable {
  readonly #frames = new Map<Layer, Tensor>();
  #first = true;

  /** True until the first chunk is through: its first frame is the clip's. */
  get first(): boolean {
    return this.#first;
  }

  get(layer: Layer): Tensor | undefined {
    return this.#frames.get(layer);
  }

  /** Keeps the last `count` frames of x (all where it has fewer) for the layer's next chunk. */
  keep(layer: Layer, x: Tensor, count: number): void {
    const [, frames, ...rest] = x.shape;
    const kept = Math.min(count, frames!);
    const tail = slice(x, 1, frames! - kept, kept);
    let held: Tensor;
    if (tail.requiresGrad) held = tail.retain();
    else {
      // A copy: a view would keep the whole chunk alive.
      held = ownedEmpty(x.device, [1, kept, ...rest], x.dtype, "activations");
      x.device.copy(tail.block, tail.offset, held.block, held.offset, tail.byteLength);
    }
    this.#frames.get(layer)?.[Symbol.dispose]();
    this.#frames.set(layer, held);
  }

  advance(): void {
    this.#first = false;
  }

  [Symbol.dispose](): void {
    for (const frames of this.#frames.values()) frames[Symbol.dispose]();
    this.#frames.clear();
  }
}

/** Runs layers in a row; what lies between them is freed as soon as it has been used. `x` stays the caller's. */
export function runLayers(layers: readonly Layer[], x: Tensor, cache: FeatureCache): Tensor {
  let current = x;
  for (const layer of layers) {
    const next = layer.forward(current, cache);
    if (current !== x) current[Symbol.dispose]();
    current = next;
  }
  return current;
}

/** target + x; into target's own memory where no tape needs the sum apart. */
export function addTo(target: Tensor, x: Tensor): Tensor {
  if (isRecorded(target.device, [target, x])) return add(target, x);
  target.device.kernels.binary("add", target, x, target);
  return target;
}

/**
 * x / max(‖x‖, 1e-12) · √C · γ over the channels.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L39-L54
 */
export class ChannelNorm {
  readonly #channels: number;
  readonly #gamma: Tensor;
  readonly #silu: boolean;

  /** `planar`: the file has γ as [C, 1, 1], not [C, 1, 1, 1]. */
  constructor(weights: WeightProvider, name: string, channels: number, options: { silu: boolean; planar?: boolean }) {
    this.#channels = channels;
    this.#gamma = weights.tensor(`${name}.gamma`, options.planar ? [channels, 1, 1] : [channels, 1, 1, 1], "f32");
    this.#silu = options.silu;
  }

  get gamma(): Tensor {
    return reshape(this.#gamma, [this.#channels]);
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.gamma, this.#options);
  }

  /** The same straight into a piece of another tensor. Not recorded. */
  writeTo(target: Tensor, x: Tensor): void {
    x.device.kernels.rmsNorm(x, this.gamma, target, this.#options);
  }

  get #options() {
    return { kind: "l2", eps: 1e-12, silu: this.#silu } as const;
  }
}

export interface ConvolutionShape {
  inputs: number;
  outputs: number;
  kernel: readonly [t: number, h: number, w: number];
}

/** A convolution as the file has it: 2D where it covers one frame and the file says so. */
export class Convolution {
  readonly shape: ConvolutionShape;
  readonly #weight: Tensor;
  readonly #bias: Tensor;

  constructor(
    weights: WeightProvider,
    name: string,
    shape: ConvolutionShape,
    options: { dtype: DType; planar?: boolean },
  ) {
    const { inputs, outputs, kernel } = shape;
    const stored = options.planar ? kernel.slice(1) : kernel;
    this.shape = shape;
    this.#weight = weights.tensor(`${name}.weight`, [outputs, inputs, ...stored], options.dtype);
    this.#bias = weights.tensor(`${name}.bias`, [outputs], "f32");
  }

  /** [1, T, H, W, inputs] → [1, T', H', W', outputs] */
  forward(x: Tensor, options: ConvolutionOptions): Tensor {
    const { inputs, outputs, kernel } = this.shape;
    const weight = reshape(cast(this.#weight, x.dtype), [outputs, inputs, ...kernel]);
    return conv3d(x, weight, this.#bias, options);
  }
}

/**
 * A convolution that sees no later frame: kernel − 1 earlier ones stand in front, cached ones or else zeros. A norm
 * before it writes straight behind the cached frames.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L17-L36
 */
export class CausalConvolution implements Layer {
  readonly #convolution: Convolution;
  readonly #norm: ChannelNorm | undefined;

  /** `norm`: the name of an RMS norm with SiLU that comes before. */
  constructor(
    weights: WeightProvider,
    name: string,
    shape: ConvolutionShape,
    options: { dtype: DType; norm?: string },
  ) {
    this.#convolution = new Convolution(weights, name, shape, options);
    this.#norm = options.norm ? new ChannelNorm(weights, options.norm, shape.inputs, { silu: true }) : undefined;
  }

  /** `last`: x is not used again and may be freed early. */
  forward(x: Tensor, cache: FeatureCache, last = false): Tensor {
    return scoped(x.device, () => {
      const [time, height, width] = this.#convolution.shape.kernel;
      const history = cache.get(this);
      const frames = this.#behind(history, x);
      if (last && frames !== x) x[Symbol.dispose]();
      const missing = time - 1 - (history?.shape[1] ?? 0);
      cache.keep(this, frames, time - 1);
      const rows = (height - 1) / 2;
      const columns = (width - 1) / 2;
      return this.#convolution.forward(frames, {
        stride: [1, 1, 1],
        padding: [
          [missing, 0],
          [rows, rows],
          [columns, columns],
        ],
      });
    });
  }

  /** The cached frames, then the (normed) frames of x. */
  #behind(history: Tensor | undefined, x: Tensor): Tensor {
    const norm = this.#norm;
    if (!history) return norm ? norm.forward(x) : x;
    if (!norm || isRecorded(x.device, [history, x, norm.gamma])) {
      return concat([history, norm ? norm.forward(x) : x], 1);
    }
    const [, frames, ...rest] = x.shape;
    const joined = empty(x.device, [1, history.shape[1]! + frames!, ...rest], x.dtype);
    x.device.copy(history.block, history.offset, joined.block, joined.offset, history.byteLength);
    norm.writeTo(joined.alias(x.shape, history.size), x);
    return joined;
  }
}
