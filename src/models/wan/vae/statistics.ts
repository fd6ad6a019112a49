// How an autoencoder's latents are normalised, as its files say: a safetensors file's own metadata, or the config.json that
// diffusers keeps beside the weights. The published statistics belong to the published autoencoders.
import { dirname, join } from "node:path";
import { z } from "zod";
import { KinoraError } from "../../../base/errors.ts";
import type { TensorSource } from "../../../io/named-tensors.ts";
import { readBackSync } from "../../../io/read-back.ts";
import {
  isPublishedVae,
  LATENT_STATISTICS,
  type LatentStatistics,
  parseStatistics,
  type VaeConfig,
  vaeConfigs,
  vaeStride,
} from "./config.ts";

const numbers = z.array(z.number()).nullish();

/** https://github.com/huggingface/diffusers/blob/v0.36.0/src/diffusers/models/autoencoders/autoencoder_kl_wan.py */
const diffusersSchema = z.looseObject({
  _class_name: z.literal("AutoencoderKLWan"),
  base_dim: z.number().nullish(),
  decoder_base_dim: z.number().nullish(),
  z_dim: z.number().nullish(),
  dim_mult: numbers,
  num_res_blocks: z.number().nullish(),
  attn_scales: numbers,
  temperal_downsample: z.array(z.boolean()).nullish(),
  latents_mean: numbers,
  latents_std: numbers,
  patch_size: z.number().nullish(),
  scale_factor_temporal: z.number().nullish(),
  scale_factor_spatial: z.number().nullish(),
});
type DiffusersConfig = z.infer<typeof diffusersSchema>;

const HINT = "use config.json and weights from the same source";

const MOST_BYTES = 2 ** 20;

/** What stands in the config.json beside a weight file that is an autoencoder's; undefined for any other. */
function valueBeside(file: string): { path: string; value: unknown } | undefined {
  const path = join(dirname(file), "config.json");
  const found = readBackSync(path, z.unknown(), MOST_BYTES);
  if (found.state === "damaged") throw new KinoraError("vae.config", `${path} ${found.why}`, { hint: HINT });
  if (found.state === "missing") return undefined;
  const { value } = found;
  return (value as { _class_name?: unknown } | null)?._class_name === "AutoencoderKLWan" ? { path, value } : undefined;
}

/** The configuration beside an autoencoder's file that decides what its latents mean. Throws `vae.config`. */
export const vaeConfigPath = (file: string): string | undefined => valueBeside(file)?.path;

/** The autoencoder's configuration beside a weight file; undefined where there is none, or another network's. */
function diffusersConfigBeside(file: string): { path: string; config: DiffusersConfig } | undefined {
  const beside = valueBeside(file);
  if (!beside) return undefined;
  const { path, value } = beside;
  const { data, error } = diffusersSchema.safeParse(value);
  if (data) return { path, config: data };
  const [issue] = error.issues;
  throw new KinoraError("vae.config", `${path} cannot be used`, {
    actual: `${issue?.path.join(".")}: ${issue?.message}`,
    hint: HINT,
  });
}

/** Throws `vae.config` where a configuration speaks of other sizes than the weights have. */
function checkSizes(told: DiffusersConfig, config: VaeConfig, path: string): void {
  const [temporal, spatial] = vaeStride(config);
  const actual: Partial<Record<keyof DiffusersConfig, unknown>> = {
    base_dim: config.dim,
    decoder_base_dim: config.decDim,
    z_dim: config.zDim,
    dim_mult: config.dimMult,
    num_res_blocks: config.numResBlocks,
    attn_scales: [],
    temperal_downsample: config.temporalDownsample,
    patch_size: config.patchSize,
    scale_factor_temporal: temporal,
    scale_factor_spatial: spatial,
  };
  for (const [key, value] of Object.entries(actual)) {
    const said = told[key];
    if (said === undefined || said === null || JSON.stringify(said) === JSON.stringify(value)) continue;
    throw new KinoraError("vae.config", `${path} does not match the autoencoder next to it`, {
      expected: `${key} ${JSON.stringify(value)}, as the weights have it`,
      actual: JSON.stringify(said),
      hint: HINT,
    });
  }
}

/**
 * The statistics of an autoencoder whose sizes are `config`, and words where they were assumed.
 * Throws `vae.statistics`, `vae.config`.
 */
export function statisticsOf(
  source: TensorSource,
  config: VaeConfig,
): { statistics: LatentStatistics; notes: readonly string[] } {
  const { path } = source;
  const beside = diffusersConfigBeside(path);
  if (beside) checkSizes(beside.config, config, beside.path);
  const own = source.metadata[LATENT_STATISTICS];
  if (own !== undefined) return { statistics: parseStatistics(own, config.zDim, `the metadata of ${path}`), notes: [] };
  const { latents_mean: mean, latents_std: std } = beside?.config ?? {};
  if (mean || std) {
    const json = JSON.stringify({ mean, std });
    return { statistics: parseStatistics(json, config.zDim, beside!.path, "latents_mean and latents_std"), notes: [] };
  }
  if (isPublishedVae(config)) return { statistics: config.statistics, notes: [] };
  const { zDim, statistics } = vaeConfigs[config.kind];
  const where = `latents_mean and latents_std in a config.json beside it, or {"mean": […], "std": […]} as ${LATENT_STATISTICS} in its metadata`;
  if (config.zDim === zDim) {
    return {
      statistics,
      notes: [
        `${path} is an autoencoder of custom size without latent statistics: the published ones are used; if the video looks wrong, provide its own (${where})`,
      ],
    };
  }
  throw new KinoraError("vae.statistics", `${path} has no latent statistics`, {
    expected: where,
    actual: `a custom autoencoder with ${config.zDim} latent channels`,
    hint: "ask whoever trained it; without them every video is wrong",
  });
}
