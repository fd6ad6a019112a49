// The sizes of kinora-tiny's autoencoders and text encoder; its transformers are rows of src/models/wan/params.ts.
import { type TextEncoderConfig, wanModels } from "../../src/models/wan/params.ts";
import { type VaeConfig, vaeConfigs } from "../../src/models/wan/vae/config.ts";
import { tinyVocabulary } from "./tokenizer.ts";

export const tinyVaes: Readonly<Record<"vae21" | "vae22", VaeConfig>> = {
  vae21: { ...vaeConfigs.vae21, dim: 8, decDim: 8 },
  vae22: { ...vaeConfigs.vae22, dim: 8, decDim: 8 },
};

export const tinyTextEncoder: TextEncoderConfig = {
  vocabulary: tinyVocabulary().length,
  dim: wanModels["tiny-t2v"].dit.textDim,
  attentionDim: 128,
  ffnDim: 256,
  heads: 4,
  layers: 2,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};
