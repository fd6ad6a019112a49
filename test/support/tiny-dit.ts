// A transformer small enough for thousands of steps in a test, with the real architecture.
import type { Device } from "../../src/device/device.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import type { DitConfig } from "../../src/models/wan/params.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";

export const tinyDitConfig: DitConfig = {
  patchSize: [1, 2, 2],
  textLength: 6,
  inputChannels: 4,
  outputChannels: 4,
  dim: 32,
  ffnDim: 48,
  frequencyDim: 16,
  textDim: 12,
  heads: 2,
  layers: 2,
  eps: 1e-6,
};

export function tinyDit(
  device: Device,
  options: { trainable?: boolean; dtype?: "f32" | "bf16" } = {},
): { model: WanDit; weights: RandomWeights } {
  const weights = new RandomWeights(device, { seed: 7n, trainable: options.trainable ?? false });
  return { model: new WanDit(weights, tinyDitConfig, { dtype: options.dtype ?? "f32" }), weights };
}

/** A deterministic sample [4, 2, 4, 4] with a text of three rows. */
export function tinySample(seed: number): {
  clean: Float32Array;
  noise: Float32Array;
  shape: readonly [4, 2, 4, 4];
  text: Float32Array;
} {
  const values = (count: number, phase: number) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 1.7 + seed * 3.1 + phase));
  return { clean: values(128, 0), noise: values(128, 50), shape: [4, 2, 4, 4], text: values(36, 90) };
}
