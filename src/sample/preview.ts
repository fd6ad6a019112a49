// A rough look at unfinished latents: each latent pixel's colour by a linear map, without an autoencoder; or the middle of
// the film by a tiny one.

import type { LatentShape } from "../models/wan/conditioning.ts";
import { type VaeConfig, vaeConfigs } from "../models/wan/vae/config.ts";
import type { ClipDecoder } from "../models/wan/vae/streams.ts";
import { openScope } from "../tensor/scope.ts";
import { fromValues } from "../tensor/tensor.ts";
import { toPictures } from "./video-output.ts";

interface LinearMap {
  /** Red, green and blue in −1…1 per latent channel. [channels][3] */
  factors: readonly (readonly [r: number, g: number, b: number])[];
  bias: readonly [r: number, g: number, b: number];
}

/**
 * Least-squares fits of pixels to normalised latents, as published with ComfyUI (classes Wan21 and Wan22):
 * https://github.com/comfyanonymous/ComfyUI/blob/040a324/comfy/latent_formats.py
 */
const maps: Readonly<Record<VaeConfig["kind"], LinearMap>> = {
  vae21: {
    factors: [
      [-0.1299, -0.1692, 0.2932],
      [0.0671, 0.0406, 0.0442],
      [0.3568, 0.2548, 0.1747],
      [0.0372, 0.2344, 0.142],
      [0.0313, 0.0189, -0.0328],
      [0.0296, -0.0956, -0.0665],
      [-0.3477, -0.4059, -0.2925],
      [0.0166, 0.1902, 0.1975],
      [-0.0412, 0.0267, -0.1364],
      [-0.1293, 0.074, 0.1636],
      [0.068, 0.3019, 0.1128],
      [0.0032, 0.0581, 0.0639],
      [-0.1251, 0.0927, 0.1699],
      [0.006, -0.0633, 0.0005],
      [0.3477, 0.2275, 0.295],
      [0.1984, 0.0913, 0.1861],
    ],
    bias: [-0.1835, -0.0868, -0.336],
  },
  vae22: {
    factors: [
      [0.0119, 0.0103, 0.0046],
      [-0.1062, -0.0504, 0.0165],
      [0.014, 0.0409, 0.0491],
      [-0.0813, -0.0677, 0.0607],
      [0.0656, 0.0851, 0.0808],
      [0.0264, 0.0463, 0.0912],
      [0.0295, 0.0326, 0.059],
      [-0.0244, -0.027, 0.0025],
      [0.0443, -0.0102, 0.0288],
      [-0.0465, -0.009, -0.0205],
      [0.0359, 0.0236, 0.0082],
      [-0.0776, 0.0854, 0.1048],
      [0.0564, 0.0264, 0.0561],
      [0.0006, 0.0594, 0.0418],
      [-0.0319, -0.0542, -0.0637],
      [-0.0268, 0.0024, 0.026],
      [0.0539, 0.0265, 0.0358],
      [-0.0359, -0.0312, -0.0287],
      [-0.0285, -0.1032, -0.1237],
      [0.1041, 0.0537, 0.0622],
      [-0.0086, -0.0374, -0.0051],
      [0.039, 0.067, 0.2863],
      [0.0069, 0.0144, 0.0082],
      [0.0006, -0.0167, 0.0079],
      [0.0313, -0.0574, -0.0232],
      [-0.1454, -0.0902, -0.0481],
      [0.0714, 0.0827, 0.0447],
      [-0.0304, -0.0574, -0.0196],
      [0.0401, 0.0384, 0.0204],
      [-0.0758, -0.0297, -0.0014],
      [0.0568, 0.1307, 0.1372],
      [-0.0055, -0.031, -0.038],
      [0.0239, -0.0305, 0.0325],
      [-0.0663, -0.0673, -0.014],
      [-0.0416, -0.0047, -0.0023],
      [0.0166, 0.0112, -0.0093],
      [-0.0211, 0.0011, 0.0331],
      [0.1833, 0.1466, 0.225],
      [-0.0368, 0.037, 0.0295],
      [-0.3441, -0.3543, -0.2008],
      [-0.0479, -0.0489, -0.042],
      [-0.066, -0.0153, 0.08],
      [-0.0101, 0.0068, 0.0156],
      [-0.069, -0.0452, -0.0927],
      [-0.0145, 0.0041, 0.0015],
      [0.0421, 0.0451, 0.0373],
      [0.0504, -0.0483, -0.0356],
      [-0.0837, 0.0168, 0.0055],
    ],
    bias: [0.0317, -0.0878, -0.1388],
  },
};

/** True where the map was fitted to this autoencoder: the published ones, not those of sizes of their own. */
export function hasPreview({ kind, dim, decDim, zDim }: VaeConfig): boolean {
  const published = vaeConfigs[kind];
  return dim === published.dim && decDim === published.decDim && zDim === published.zDim;
}

/** One picture [h, w, 3] per latent frame of `latents` [C, F, h, w]. */
export function previewFrames(
  latents: Float32Array,
  [channels, frames, height, width]: LatentShape,
  kind: VaeConfig["kind"],
): Uint8Array[] {
  const { factors, bias } = maps[kind];
  const pixels = height * width;
  return Array.from({ length: frames }, (_, frame) => {
    const picture = new Uint8ClampedArray(pixels * 3);
    for (let i = 0; i < pixels; i++) {
      for (let colour = 0; colour < 3; colour++) {
        let value = bias[colour]!;
        for (let c = 0; c < channels; c++) value += latents[(c * frames + frame) * pixels + i]! * factors[c]![colour]!;
        picture[i * 3 + colour] = ((value + 1) / 2) * 255;
      }
    }
    return new Uint8Array(picture.buffer);
  });
}

/** Latent frames before the middle one from which a decoder takes what moves. */
const BEFORE = 2;

/** The picture in the middle of a film, as a decoder shows it. */
export async function middlePicture(
  decoder: ClipDecoder,
  latents: Float32Array,
  [channels, frames, height, width]: LatentShape,
): Promise<{ width: number; height: number; frames: Uint8Array[] }> {
  const middle = Math.floor(frames / 2);
  const first = Math.max(0, middle - BEFORE);
  const count = middle - first + 1;
  const pixels = height * width;
  const part = new Float32Array(channels * count * pixels);
  for (let c = 0; c < channels; c++) {
    const start = (c * frames + first) * pixels;
    part.set(latents.subarray(start, start + count * pixels), c * count * pixels);
  }
  using _scope = openScope(decoder.device);
  const chunks = [...decoder.decodeChunks(fromValues(decoder.device, part, [channels, count, height, width]))];
  const last = chunks.at(-1)!;
  const [, shown, rows, columns] = last.shape as [number, number, number, number];
  return { width: columns, height: rows, frames: toPictures(await last.read(), shown, rows * columns).slice(-1) };
}
