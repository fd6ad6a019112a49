// The Wan 2.1 autoencoder: 16 latent channels, 4×8×8 pixels to a latent pixel. Layers in a row, nothing beside them.
import {
  causalConvolution,
  Downsample,
  type LayerOptions,
  middle,
  PointConvolution,
  residualBlocks,
  Upsample,
} from "./blocks.ts";
import type { Layer } from "./causal.ts";
import type { VaeConfig } from "./config.ts";

/**
 * [1, T, H, W, 3] → mean and log-variance [1, t, h, w, 2·zDim].
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L265-L366
 */
export function encoder21(options: LayerOptions, config: VaeConfig): Layer[] {
  const { dim, zDim, dimMult, numResBlocks, temporalDownsample } = config;
  const name = "encoder.downsamples";
  const layers: Layer[] = [];
  let channels = dim;
  for (const [stage, factor] of dimMult.entries()) {
    layers.push(...residualBlocks(options, name, layers.length, numResBlocks, channels, dim * factor));
    channels = dim * factor;
    if (stage === dimMult.length - 1) break;
    const time = temporalDownsample[stage] ?? false;
    layers.push(new Downsample(options, `${name}.${layers.length}`, channels, { time }));
  }
  return [
    causalConvolution(options, "encoder.conv1", 3, dim),
    ...layers,
    ...middle(options, "encoder.middle", channels),
    causalConvolution(options, "encoder.head.2", channels, zDim * 2, "encoder.head.0"),
    new PointConvolution(options, "conv1", zDim * 2, zDim * 2),
  ];
}

/**
 * [1, t, h, w, zDim] → [1, T, H, W, 3]. Each upsampling halves the channels.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L369-L472
 */
export function decoder21(options: LayerOptions, config: VaeConfig): Layer[] {
  const { decDim, zDim, dimMult, numResBlocks, temporalDownsample } = config;
  const factors = dimMult.toReversed();
  const temporalUpsample = temporalDownsample.toReversed();
  const widest = decDim * factors[0]!;
  const name = "decoder.upsamples";
  const layers: Layer[] = [];
  let channels = widest;
  for (const [stage, factor] of factors.entries()) {
    layers.push(...residualBlocks(options, name, layers.length, numResBlocks + 1, channels, decDim * factor));
    channels = decDim * factor;
    if (stage === factors.length - 1) break;
    const time = temporalUpsample[stage] ?? false;
    layers.push(new Upsample(options, `${name}.${layers.length}`, channels, channels / 2, { time }));
    channels /= 2;
  }
  return [
    new PointConvolution(options, "conv2", zDim, zDim),
    causalConvolution(options, "decoder.conv1", zDim, widest),
    ...middle(options, "decoder.middle", widest),
    ...layers,
    causalConvolution(options, "decoder.head.2", channels, 3, "decoder.head.0"),
  ];
}
