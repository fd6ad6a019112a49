// Tells which Wan network a file holds, and its sizes, from names and shapes alone. Reads no values.
// Adapters are told apart in lora/recognize.ts.
import { KinoraError } from "../../base/errors.ts";
import { elementCount } from "../../base/shape.ts";
import { type DitConfig, type TextEncoderConfig, umt5Xxl, type WanModelName, wanModels } from "./params.ts";
import { isPublishedVae, type VaeConfig, vaeConfigFrom } from "./vae/config.ts";
import type { TinyVaeConfig } from "./vae/tiny-vae.ts";
import type { WanKind } from "./weight-names.ts";
import {
  type ClipVisionConfig,
  clipVisionShapes,
  ditShapes,
  type Shapes,
  textEncoderShapes,
  tinyVaeShapes,
  vaeShapes,
} from "./weight-shapes.ts";
import type { LogicalTensor, WeightMap } from "./weights.ts";

export type Expert = "high" | "low";

interface Common {
  /** A line for a person, e.g. `Wan 2.2 ti2v-5B`. */
  readonly label: string;
  /** Every official parameter of this network and its shape. */
  readonly expected: Shapes;
  /** What could not be told and was assumed. */
  readonly notes: readonly string[];
}

export interface RecognizedDit extends Common {
  readonly kind: "dit";
  readonly config: DitConfig;
  /** The published models of these sizes: empty for sizes of one's own, two where shapes cannot tell them apart. */
  readonly models: readonly WanModelName[];
  /** Which of two experts, where a name told it. */
  readonly expert?: Expert;
  /** The variant beyond the models that Kinora runs, by what it adds: its extra parameters come up as unexpected. */
  readonly variant?: string;
}

export type Recognized =
  | RecognizedDit
  | (Common & { readonly kind: "vae21" | "vae22"; readonly config: VaeConfig })
  | (Common & { readonly kind: "tae"; readonly config: TinyVaeConfig })
  | (Common & { readonly kind: "text-encoder"; readonly config: TextEncoderConfig })
  | (Common & { readonly kind: "clip-vision"; readonly config: ClipVisionConfig });

type Tensors = ReadonlyMap<string, LogicalTensor>;

/** One dimension of a parameter. Throws `weights.unrecognized` where the parameter or the dimension is missing. */
function size(tensors: Tensors, name: string, axis: number): number {
  const value = tensors.get(name)?.shape[axis];
  if (value === undefined || value === 0) {
    throw new KinoraError(
      "weights.unrecognized",
      `cannot tell the model's sizes: ${name} is missing or has the wrong shape`,
      {
        actual: tensors.has(name) ? `[${tensors.get(name)!.shape}]` : "no such tensor",
        hint: "kinora models inspect FILE --names lists what it holds",
      },
    );
  }
  return value;
}

/** One more than the highest number that `pattern` captures among the names. */
function countBy(tensors: Tensors, pattern: RegExp): number {
  let count = 0;
  for (const name of tensors.keys()) {
    const index = pattern.exec(name)?.[1];
    if (index !== undefined) count = Math.max(count, Number(index) + 1);
  }
  return count;
}

/** All Wan transformers have heads of this width. */
const HEAD_DIM = 128;

function ditConfig(tensors: Tensors): { config: DitConfig; notes: string[] } {
  const notes: string[] = [];
  const dim = size(tensors, "patch_embedding.weight", 0);
  const patch = tensors.get("patch_embedding.weight")!.shape;
  // Some tools keep the patch convolution as the Linear that it is; the patch is then taken to be upstream's.
  const patchSize: DitConfig["patchSize"] = patch.length === 5 ? [patch[2]!, patch[3]!, patch[4]!] : [1, 2, 2];
  const volume = elementCount(patchSize);
  const heads = dim % HEAD_DIM === 0 ? dim / HEAD_DIM : 1;
  if (dim % HEAD_DIM !== 0) notes.push(`a width of ${dim} is not a multiple of ${HEAD_DIM}; one head is assumed`);
  const config: DitConfig = {
    patchSize,
    textLength: wanModels["t2v-14B"].dit.textLength,
    inputChannels: elementCount(patch.slice(1)) / volume,
    outputChannels: size(tensors, "head.head.weight", 0) / volume,
    dim,
    ffnDim: size(tensors, "blocks.0.ffn.0.weight", 0),
    frequencyDim: size(tensors, "time_embedding.0.weight", 1),
    textDim: size(tensors, "text_embedding.0.weight", 1),
    heads,
    layers: countBy(tensors, /^blocks\.(\d{1,3})\./),
    eps: wanModels["t2v-14B"].dit.eps,
  };
  if (tensors.has("img_emb.proj.1.weight")) {
    const firstLast = tensors.has("img_emb.emb_pos");
    config.imageBranch = { featureDim: size(tensors, "img_emb.proj.1.weight", 1), firstLast };
  }
  return { config, notes };
}

/** Parameters that only relatives of the Wan transformer have. */
const variants: readonly [pattern: RegExp, variant: string][] = [
  [/^vace_/, "VACE"],
  [/^(?:face_adapter|motion_encoder|face_encoder|pose_patch_embedding)\./, "Animate"],
  [/^(?:casual_audio_encoder|audio_injector|trainable_cond_mask)/, "S2V (speech)"],
  [/^control_adapter\./, "Fun camera control"],
  [/^ref_conv\./, "Fun reference control"],
  [/^audio_proj\./, "audio-driven"],
];

function sameSizes(a: DitConfig, b: DitConfig): boolean {
  const key = ({ dim, ffnDim, heads, layers, inputChannels, outputChannels, textDim, imageBranch }: DitConfig) =>
    JSON.stringify([dim, ffnDim, heads, layers, inputChannels, outputChannels, textDim, imageBranch?.firstLast]);
  return key(a) === key(b);
}

export function modelsOfSizes(config: DitConfig): WanModelName[] {
  return Object.values(wanModels)
    .filter((model) => sameSizes(model.dit, config))
    .map((model) => model.name);
}

/**
 * Which expert a path speaks of: `…/high_noise_model/…`, `wan2.2_t2v_low_noise_14B.safetensors`, `style_high.safetensors`,
 * diffusers' `transformer_2/`. Only the file's name and its folder's are looked at.
 */
export function expertOfPath(path: string): Expert | undefined {
  const [folder = "", file = ""] = `/${path}`.split(/[\\/]/).slice(-2);
  if (folder === "transformer_2") return "low";
  const withNoise = /(high|low)[^a-z0-9]?noise/i;
  const found =
    withNoise.exec(file) ??
    /(?:^|[^a-z0-9])(high|low)(?:[^a-z0-9]|$)/i.exec(file) ??
    withNoise.exec(folder) ??
    // A folder of another name may speak of something else: low_vram, high_resolution.
    /^(high|low)$/i.exec(folder);
  return found ? (found[1]!.toLowerCase() as Expert) : undefined;
}

function ditLabel(
  config: DitConfig,
  models: readonly WanModelName[],
  expert: Expert | undefined,
  variant: string | undefined,
): string {
  if (variant) return `a Wan transformer with ${variant}, which Kinora does not support`;
  const { dim, layers, inputChannels, outputChannels } = config;
  if (models.length === 0) {
    return `a Wan transformer of custom size (${layers} layers of ${dim}, ${inputChannels} → ${outputChannels} channels)`;
  }
  const describe = (name: WanModelName) => {
    const model = wanModels[name];
    const role = "boundary" in model ? `, ${expert ? `the ${expert}-noise expert` : "one of its two experts"}` : "";
    return `Wan ${model.family} ${name}${role}`;
  };
  return models.map(describe).join("; or ");
}

function recognizeDit({ tensors, component, unexpected }: WeightMap, path: string): RecognizedDit {
  const { config: inferred, notes } = ditConfig(tensors);
  const expert = expertOfPath(path);
  const sizes = modelsOfSizes(inferred);
  // What shapes do not show (the text's length) is a known model's own.
  const config = sizes[0] === undefined ? inferred : { ...inferred, textLength: wanModels[sizes[0]].dit.textLength };
  // A name that speaks of an expert settles what the shapes leave open.
  const withExperts = sizes.filter((name) => "boundary" in wanModels[name]);
  const models = expert && withExperts.length > 0 ? withExperts : sizes;
  const others = [...tensors.keys(), ...unexpected.map((name) => name.slice(component.prefix.length))];
  const variant = variants.find(([pattern]) => others.some((name) => pattern.test(name)))?.[1];
  return {
    kind: "dit",
    config,
    models,
    label: ditLabel(config, models, expert, variant),
    expected: ditShapes(config),
    notes,
    ...(expert && withExperts.length > 0 ? { expert } : {}),
    ...(variant ? { variant } : {}),
  };
}

/** The widths and kinds of an encoder's stages, read off its layers. */
function vaeStages(
  tensors: Tensors,
  kind: "vae21" | "vae22",
): { outputs: number[]; resnets: number; temporal: boolean[] } {
  const layers: { outputs: number; resampling: boolean; temporal: boolean }[][] = [];
  const layer = (name: string) => {
    const resampling = tensors.has(`${name}.resample.1.weight`);
    const weight = tensors.get(resampling ? `${name}.resample.1.weight` : `${name}.residual.2.weight`);
    return weight && { outputs: weight.shape[0] ?? 0, resampling, temporal: tensors.has(`${name}.time_conv.weight`) };
  };
  if (kind === "vae21") {
    let stage: (typeof layers)[number] = [];
    for (let i = 0; i < countBy(tensors, /^encoder\.downsamples\.(\d{1,3})\./); i++) {
      const found = layer(`encoder.downsamples.${i}`);
      if (!found) continue;
      stage.push(found);
      if (!found.resampling) continue;
      layers.push(stage);
      stage = [];
    }
    layers.push(stage);
  } else {
    for (let i = 0; i < countBy(tensors, /^encoder\.downsamples\.(\d{1,3})\./); i++) {
      const count = countBy(tensors, new RegExp(`^encoder\\.downsamples\\.${i}\\.downsamples\\.(\\d{1,3})\\.`));
      const found = Array.from({ length: count }, (_, j) => layer(`encoder.downsamples.${i}.downsamples.${j}`));
      layers.push(found.filter((row) => row !== undefined));
    }
  }
  const stages = layers.filter((stage) => stage.length > 0);
  return {
    outputs: stages.map((stage) => stage[0]!.outputs),
    resnets: Math.max(0, ...stages.map((stage) => stage.filter((row) => !row.resampling).length)),
    temporal: stages.slice(0, -1).map((stage) => stage.some((row) => row.temporal)),
  };
}

function recognizeVae({ tensors }: WeightMap, kind: "vae21" | "vae22"): Recognized {
  const dim = size(tensors, "encoder.conv1.weight", 0);
  const { outputs, resnets, temporal } = vaeStages(tensors, kind);
  const factors = outputs.map((width) => width / dim);
  if (factors.length === 0 || resnets === 0 || factors.some((factor) => !Number.isInteger(factor))) {
    throw new KinoraError("weights.unrecognized", "cannot tell the autoencoder's stages", {
      actual: `widths ${outputs}`,
      hint: "kinora models inspect FILE --names lists what it holds",
    });
  }
  const config = vaeConfigFrom(
    {
      dim,
      dec_dim: kind === "vae22" ? size(tensors, "decoder.head.2.weight", 1) / factors[0]! : undefined,
      z_dim: size(tensors, "conv2.weight", 0),
      dim_mult: factors,
      num_res_blocks: resnets,
      temperal_downsample: temporal,
    },
    kind,
  );
  const name =
    kind === "vae21" ? "Wan 2.1 video autoencoder (all models but ti2v-5B)" : "Wan 2.2 video autoencoder (ti2v-5B)";
  const own = `a ${kind === "vae21" ? "Wan 2.1" : "Wan 2.2"} autoencoder of custom size (width ${dim}, ${config.zDim} latent channels)`;
  return { kind, config, label: isPublishedVae(config) ? name : own, expected: vaeShapes(config), notes: [] };
}

/** Which autoencoder's latents a tiny one takes, by their channels. */
const tinyNames: Readonly<Record<number, string>> = {
  16: "tiny autoencoder for Wan 2.1 latents (TAEHV, taew2.1: all models but ti2v-5B)",
  48: "tiny autoencoder for Wan 2.2 latents (TAEHV, taew2.2: ti2v-5B)",
};

function recognizeTiny({ tensors }: WeightMap): Recognized {
  const wide = (name: string, axis: number) => size(tensors, `${name}.weight`, axis);
  const frames = (names: readonly string[], axis: 0 | 1) =>
    names.map((name) => wide(`${name}.conv`, axis) / wide(`${name}.conv`, 1 - axis));
  const zDim = wide("decoder.1", 1);
  const config: TinyVaeConfig = {
    kind: "tae",
    zDim,
    patchSize: Math.round(Math.sqrt(wide("decoder.22", 0) / 3)),
    encoderWidth: wide("encoder.0", 0),
    decoderWidths: ["decoder.1", "decoder.8", "decoder.14", "decoder.20"].map((name) => wide(name, 0)),
    encoderFrames: frames(["encoder.2", "encoder.7", "encoder.12"], 1),
    decoderFrames: frames(["decoder.7", "decoder.13", "decoder.19"], 0),
  };
  const counts = [...config.encoderFrames, ...config.decoderFrames];
  if (counts.some((count) => !Number.isInteger(count) || count < 1 || count > 8)) {
    throw new KinoraError("weights.unrecognized", "cannot tell how the tiny autoencoder's frames become latents", {
      actual: counts.join(", "),
      hint: "kinora models inspect FILE --names lists what it holds",
    });
  }
  const label = tinyNames[zDim] ?? `a tiny autoencoder (TAEHV) of ${zDim} latent channels`;
  return { kind: "tae", config, label, expected: tinyVaeShapes(config), notes: [] };
}

function recognizeTextEncoder({ tensors }: WeightMap): Recognized {
  const layers = countBy(tensors, /^blocks\.(\d{1,3})\./);
  const bias = "pos_embedding.embedding.weight";
  const biases = [...tensors.keys()].filter((name) => name.endsWith(`.${bias}`)).length;
  const config: TextEncoderConfig = {
    vocabulary: size(tensors, "token_embedding.weight", 0),
    dim: size(tensors, "token_embedding.weight", 1),
    attentionDim: size(tensors, "blocks.0.attn.q.weight", 0),
    ffnDim: size(tensors, "blocks.0.ffn.fc1.weight", 0),
    heads: size(tensors, `blocks.0.${bias}`, 1),
    layers,
    buckets: size(tensors, `blocks.0.${bias}`, 0),
    maxDistance: umt5Xxl.maxDistance,
    eps: umt5Xxl.eps,
  };
  const notes =
    biases === 1 && layers > 1
      ? ["only the first layer has a position bias: this is T5, not the UMT5 that Wan needs"]
      : [];
  const published = JSON.stringify(config) === JSON.stringify(umt5Xxl);
  const own = `a UMT5 encoder of custom size (${layers} layers of ${config.dim}, ${config.vocabulary} tokens)`;
  const label = notes.length > 0 ? "a T5 encoder" : published ? "UMT5-XXL text encoder (all Wan models)" : own;
  return { kind: "text-encoder", config, label, expected: textEncoderShapes(config), notes };
}

/** Heads of the published vision transformer, which shapes do not show. */
const CLIP_HEADS: ReadonlyMap<number, number> = new Map([[1280, 16]]);

function recognizeClip({ tensors }: WeightMap): Recognized {
  const dim = size(tensors, "visual.patch_embedding.weight", 0);
  const patchSize = size(tensors, "visual.patch_embedding.weight", 2);
  const positions = tensors.get("visual.pos_embedding")?.shape.at(-2) ?? 0;
  const side = Math.sqrt(positions - 1);
  if (!Number.isInteger(side)) {
    throw new KinoraError("weights.unrecognized", "cannot tell the picture's size from visual.pos_embedding", {
      expected: "one more than a square",
      actual: `${positions} positions`,
      hint: "kinora models inspect FILE --names lists what it holds",
    });
  }
  const config: ClipVisionConfig = {
    imageSize: side * patchSize,
    patchSize,
    dim,
    mlpDim: size(tensors, "visual.transformer.0.mlp.0.weight", 0),
    heads: CLIP_HEADS.get(dim) ?? Math.max(1, Math.floor(dim / 64)),
    layers: countBy(tensors, /^visual\.transformer\.(\d{1,3})\./),
    projectionDim: tensors.get("visual.head")?.shape[1] ?? 0,
  };
  const label =
    dim === 1280 && config.layers === 32
      ? "CLIP ViT-H/14 vision encoder (Wan 2.1 image-to-video)"
      : `a CLIP vision encoder of custom size (${config.layers} layers of ${dim})`;
  const notes = CLIP_HEADS.has(dim) ? [] : [`${config.heads} heads are assumed`];
  return { kind: "clip-vision", config, label, expected: clipVisionShapes(config), notes };
}

const recognizers: Record<WanKind, (map: WeightMap, path: string) => Recognized> = {
  dit: recognizeDit,
  vae21: (map) => recognizeVae(map, "vae21"),
  vae22: (map) => recognizeVae(map, "vae22"),
  tae: recognizeTiny,
  "text-encoder": recognizeTextEncoder,
  "clip-vision": recognizeClip,
};

/**
 * The network that a file's names and shapes describe. Throws `weights.unrecognized` where a parameter that shows a size
 * is missing.
 * @param path of the file or folder: a hint at the expert, nothing else
 */
export function recognize(map: WeightMap, path = ""): Recognized {
  return recognizers[map.component.kind](map, path);
}
