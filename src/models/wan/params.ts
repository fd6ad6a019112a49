// What the engine takes of the table of models, and the text encoder that all of them share.
export {
  type DitConfig,
  type ImageInput,
  type ModelName as WanModelName,
  type VaeReference,
  vae21,
  vae22,
  type WanModel,
  wanModels,
} from "../../protocol/models.ts";

export interface TextEncoderConfig {
  vocabulary: number;
  dim: number;
  attentionDim: number;
  ffnDim: number;
  heads: number;
  layers: number;
  /** Relative-position buckets and the distance beyond which all share the last. */
  buckets: number;
  maxDistance: number;
  eps: number;
}

export const umt5Xxl: TextEncoderConfig = {
  vocabulary: 256384,
  dim: 4096,
  attentionDim: 4096,
  ffnDim: 10240,
  heads: 64,
  layers: 24,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};
