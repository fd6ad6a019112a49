// The Wan 2.2 autoencoder: 48 latent channels, 4×16×16 pixels to a latent pixel. Each stage has a shortcut without
// weights that averages neighbours into channels on the way down and spreads channels over neighbours on the way up.
import { mean, pad, permute, repeat, reshape, slice } from "../../../tensor/ops/index.ts";
import { scoped } from "../../../tensor/scope.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import {
  causalConvolution,
  Downsample,
  type LayerOptions,
  middle,
  PointConvolution,
  residualBlocks,
  Upsample,
} from "./blocks.ts";
import { addTo, type FeatureCache, type Layer, runLayers } from "./causal.ts";
import type { VaeConfig } from "./config.ts";

/** By how much a stage shrinks or grows. */
interface Factors {
  time: 1 | 2;
  space: 1 | 2;
}

/**
 * Folds time×space×space neighbours into channels and averages groups of them down to `channels`. A clip's lone first
 * frame gets a zero frame in front. [1, T, H, W, C] → [1, T/time, H/space, W/space, channels]
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L316-L367
 */
export function averageDown(x: Tensor, channels: number, { time, space }: Factors): Tensor {
  const missing = (time - (x.shape[1]! % time)) % time;
  const whole = pad(x, [
    [0, 0],
    [missing, 0],
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
  const [, frames, height, width, inputs] = whole.shape as [number, number, number, number, number];
  const [t, h, w] = [frames / time, height / space, width / space];
  const group = (inputs * time * space * space) / channels;
  const blocks = reshape(whole, [t, time, h, space, w, space, inputs]);
  const folded = reshape(permute(blocks, [0, 2, 4, 6, 1, 3, 5]), [1, t, h, w, channels, group]);
  return reshape(group === 1 ? folded : mean(folded, [5]), [1, t, h, w, channels]);
}

/**
 * Repeats channels until they fill time×space×space neighbours of `channels` each. A clip's first frame gives one frame.
 * [1, T, H, W, C] → [1, T·time, H·space, W·space, channels]
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L370-L412
 */
export function duplicateUp(x: Tensor, channels: number, { time, space }: Factors, first: boolean): Tensor {
  const [, frames, height, width, inputs] = x.shape as [number, number, number, number, number];
  const repeated = repeat(x, 4, (channels * time * space * space) / inputs);
  const spread = permute(
    reshape(repeated, [frames, height, width, channels, time, space, space]),
    [0, 4, 1, 5, 2, 6, 3],
  );
  const large = reshape(spread, [1, frames * time, height * space, width * space, channels]);
  return first ? slice(large, 1, time - 1, frames * time - (time - 1)) : large;
}

/**
 * A stage: layers in a row, with a shortcut beside them all.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L415-L497
 */
class Stage implements Layer {
  readonly #layers: readonly Layer[];
  readonly #shortcut: (x: Tensor, cache: FeatureCache) => Tensor;

  constructor(layers: readonly Layer[], shortcut: (x: Tensor, cache: FeatureCache) => Tensor) {
    this.#layers = layers;
    this.#shortcut = shortcut;
  }

  forward(x: Tensor, cache: FeatureCache): Tensor {
    return scoped(x.device, () => {
      const main = runLayers(this.#layers, x, cache);
      return addTo(
        main,
        scoped(x.device, () => this.#shortcut(x, cache)),
      );
    });
  }
}

/**
 * Folded pixels [1, T, H/2, W/2, 12] → mean and log-variance [1, t, h, w, 2·zDim].
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L500-L613
 */
export function encoder22(options: LayerOptions, config: VaeConfig): Layer[] {
  const { dim, zDim, dimMult, numResBlocks, temporalDownsample, patchSize } = config;
  const widths = dimMult.map((factor) => dim * factor);
  const deepest = widths.at(-1)!;
  const stages = widths.map((channels, i): Layer => {
    const name = `encoder.downsamples.${i}.downsamples`;
    const layers = residualBlocks(options, name, 0, numResBlocks, widths[i - 1] ?? dim, channels);
    const time = temporalDownsample[i] ?? false;
    const last = i === widths.length - 1;
    if (!last) layers.push(new Downsample(options, `${name}.${numResBlocks}`, channels, { time }));
    const factors: Factors = { time: time ? 2 : 1, space: last ? 1 : 2 };
    return new Stage(layers, (x) => averageDown(x, channels, factors));
  });
  return [
    causalConvolution(options, "encoder.conv1", 3 * patchSize ** 2, dim),
    ...stages,
    ...middle(options, "encoder.middle", deepest),
    causalConvolution(options, "encoder.head.2", deepest, zDim * 2, "encoder.head.0"),
    new PointConvolution(options, "conv1", zDim * 2, zDim * 2),
  ];
}

/**
 * [1, t, h, w, zDim] → folded pixels [1, T, H/2, W/2, 12].
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L616-L723
 */
export function decoder22(options: LayerOptions, config: VaeConfig): Layer[] {
  const { decDim, zDim, dimMult, numResBlocks, temporalDownsample, patchSize } = config;
  const widths = dimMult.toReversed().map((factor) => decDim * factor);
  const temporalUpsample = temporalDownsample.toReversed();
  const deepest = widths[0]!;
  const stages = widths.flatMap((channels, i): Layer[] => {
    const name = `decoder.upsamples.${i}.upsamples`;
    const layers = residualBlocks(options, name, 0, numResBlocks + 1, widths[i - 1] ?? deepest, channels);
    if (i === widths.length - 1) return layers;
    const time = temporalUpsample[i] ?? false;
    layers.push(new Upsample(options, `${name}.${numResBlocks + 1}`, channels, channels, { time }));
    const factors: Factors = { time: time ? 2 : 1, space: 2 };
    return [new Stage(layers, (x, cache) => duplicateUp(x, channels, factors, cache.first))];
  });
  return [
    new PointConvolution(options, "conv2", zDim, zDim),
    causalConvolution(options, "decoder.conv1", zDim, deepest),
    ...middle(options, "decoder.middle", deepest),
    ...stages,
    causalConvolution(options, "decoder.head.2", widths.at(-1)!, 3 * patchSize ** 2, "decoder.head.0"),
  ];
}
