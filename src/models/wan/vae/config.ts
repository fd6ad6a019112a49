// The two video autoencoders as rows: the sizes their layers need and the statistics their latents are normalised by.
// Source: the classes Wan2_1_VAE and Wan2_2_VAE (42bf4cf).
import { z } from "zod";
import { KinoraError } from "../../../base/errors.ts";
import type { VaeReference } from "../params.ts";

export interface VaeConfig {
  kind: VaeReference["kind"];
  /** Width of the encoder's first layers; stage i is `dim · dimMult[i]` wide. */
  dim: number;
  /** The same for the decoder. */
  decDim: number;
  /** Latent channels. */
  zDim: number;
  dimMult: readonly number[];
  /** Residual blocks in a stage of the encoder; the decoder has one more. */
  numResBlocks: number;
  /** For each downsampling stage, whether it halves the frames too. The decoder mirrors it. */
  temporalDownsample: readonly boolean[];
  /** Pixels along a side that are folded into channels before the encoder. */
  patchSize: 1 | 2;
  statistics: LatentStatistics;
}

/** Of each latent channel: normalised = (latent − mean) / std. */
export interface LatentStatistics {
  mean: readonly number[];
  std: readonly number[];
}

const common = { dimMult: [1, 2, 4, 4], numResBlocks: 2, temporalDownsample: [false, true, true] } as const;

/** The key of a safetensors file's metadata under which an autoencoder of its own carries {@link LatentStatistics}. */
export const LATENT_STATISTICS = "latent_statistics";

const statisticsSchema = z.object({ mean: z.array(z.number()), std: z.array(z.number().positive()) });

/** Statistics from JSON, `{"mean": […], "std": […]}`. Throws `vae.statistics`, naming `where` they stand and as what. */
export function parseStatistics(
  json: string,
  channels: number,
  where: string,
  form = '{"mean": […], "std": […]}',
): LatentStatistics {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = undefined;
  }
  const { data } = statisticsSchema.safeParse(value);
  if (data && data.mean.length === channels && data.std.length === channels) return data;
  throw new KinoraError("vae.statistics", `the latent statistics in ${where} cannot be used`, {
    expected: `${form} with ${channels} numbers each, those of std above 0`,
    actual: data ? `${data.mean.length} and ${data.std.length} numbers` : json.slice(0, 60),
    hint: "get them from the autoencoder's source",
  });
}

export const vaeConfigs = {
  /** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_1.py#L591-L640 */
  vae21: {
    ...common,
    kind: "vae21",
    dim: 96,
    decDim: 96,
    zDim: 16,
    patchSize: 1,
    statistics: {
      mean: [
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
        -0.9497, 0.2503, -0.2921,
      ],
      std: [
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
        2.8251, 1.916,
      ],
    },
  },
  /** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/vae2_2.py#L865-L1018 */
  vae22: {
    ...common,
    kind: "vae22",
    dim: 160,
    decDim: 256,
    zDim: 48,
    patchSize: 2,
    statistics: {
      mean: [
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.157,
        -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
        0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052,
        0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
      ],
      std: [
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
        0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
        0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06,
        0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
      ],
    },
  },
} as const satisfies Record<VaeReference["kind"], VaeConfig>;

/** Whether an autoencoder has the sizes of a published one. */
export function isPublishedVae({ kind, dim, decDim, zDim }: VaeConfig): boolean {
  const published = vaeConfigs[kind];
  return dim === published.dim && decDim === published.decDim && zDim === published.zDim;
}

/** Frames of a chunk after the first, which is one frame: upstream's 1, 4, 4, … */
export const CHUNK_FRAMES = 4;

/** Pixels per latent pixel: [t, h, w]. */
export function vaeStride(config: VaeConfig): [t: number, h: number, w: number] {
  const frames = 2 ** config.temporalDownsample.filter(Boolean).length;
  const pixels = 2 ** (config.dimMult.length - 1) * config.patchSize;
  return [frames, pixels, pixels];
}

/** Latent frames of a clip; frames beyond 4n+1 are dropped, as upstream drops them. */
export function latentFrames(config: VaeConfig, frames: number): number {
  const [stride] = vaeStride(config);
  return 1 + Math.floor((frames - 1) / CHUNK_FRAMES) * (CHUNK_FRAMES / stride);
}

/** Arguments of the official WanVAE_, as configuration files and fixtures spell them. */
export interface OfficialVaeArguments {
  dim: number;
  /** 2.2 only: its decoder has a width of its own. */
  dec_dim?: number | undefined;
  z_dim: number;
  dim_mult: readonly number[];
  num_res_blocks: number;
  attn_scales?: readonly number[] | undefined;
  temperal_downsample: readonly boolean[];
}

/** A configuration from official arguments; `statistics` default to the published ones where there are as many channels. */
export function vaeConfigFrom(
  official: OfficialVaeArguments,
  kind: VaeReference["kind"] = official.dec_dim === undefined ? "vae21" : "vae22",
  statistics?: LatentStatistics,
): VaeConfig {
  if (official.attn_scales?.length) {
    throw new KinoraError("vae.unsupported", "autoencoders with attention outside the middle are not supported", {
      expected: "attn_scales: []",
      actual: `[${official.attn_scales}]`,
      hint: "only the autoencoders of Wan 2.1 and 2.2 are supported",
    });
  }
  if (2 ** official.temperal_downsample.filter(Boolean).length > CHUNK_FRAMES) {
    throw new KinoraError("vae.unsupported", "a chunk of frames does not make a latent frame", {
      expected: `at most ${CHUNK_FRAMES} frames to a latent frame`,
      actual: `temperal_downsample: [${official.temperal_downsample}]`,
      hint: "only the autoencoders of Wan 2.1 and 2.2 are supported",
    });
  }
  const published = vaeConfigs[kind];
  const channels = official.z_dim;
  const neutral = { mean: new Array<number>(channels).fill(0), std: new Array<number>(channels).fill(1) };
  return {
    kind,
    dim: official.dim,
    decDim: official.dec_dim ?? official.dim,
    zDim: channels,
    dimMult: official.dim_mult,
    numResBlocks: official.num_res_blocks,
    temporalDownsample: official.temperal_downsample,
    patchSize: published.patchSize,
    statistics: statistics ?? (channels === published.zDim ? published.statistics : neutral),
  };
}
