// Checkpoints of the tiny models with random weights, in the layouts that users have: what generation is tested on.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../../src/base/dtype.ts";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { type TextEncoderConfig, wanModels } from "../../src/models/wan/params.ts";
import { LATENT_STATISTICS, type VaeConfig, vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { ditShapes, type Shapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { draws } from "./drawn-weights.ts";
import { huggingfaceTokenizer, type PieceRow, sentencepieceModel } from "./tokenizer-files.ts";
import {
  inDiffusers,
  type NamedTensor,
  textEncoderInTransformers,
  withPrefix,
  writeFile,
  writePth,
  writeSharded,
} from "./wan-files.ts";

export type TinyTask = "tiny-t2v" | "tiny-ti2v";

const stages = { dim_mult: [1, 2, 4, 4], num_res_blocks: 2, temperal_downsample: [false, true, true] };
/** Metadata with which an autoencoder of its own sizes says how its latents are normalised. */
const statisticsOf = (task: TinyTask): Record<string, string> => ({
  [LATENT_STATISTICS]: JSON.stringify(vaes[task].statistics),
});

const vaes: Record<TinyTask, VaeConfig> = {
  "tiny-t2v": vaeConfigFrom({ dim: 8, z_dim: 16, ...stages }, "vae21"),
  "tiny-ti2v": vaeConfigFrom({ dim: 8, dec_dim: 4, z_dim: 48, ...stages }, "vae22"),
};

const textEncoder: TextEncoderConfig = {
  vocabulary: 300,
  dim: wanModels["tiny-t2v"].dit.textDim,
  attentionDim: 64,
  ffnDim: 96,
  heads: 4,
  layers: 2,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};

/** Letters and a few words are pieces, so that any English prompt has tokens of its own. */
const pieces: readonly PieceRow[] = [
  ["<pad>", 0, "control"],
  ["</s>", 0, "control"],
  ["<s>", 0, "control"],
  ["<unk>", 0, "unknown"],
  ...["▁a", "▁red", "▁blue", "▁circle", "▁square", "▁moves"].map((word): PieceRow => [word, -2]),
  ...[..."▁abcdefghijklmnopqrstuvwxyz0123456789"].map((letter): PieceRow => [letter, -6]),
];

/** Values that keep activations near 1, every parameter random; `spread` scales the weights. */
export function randomWeights(shapes: Shapes, seed: number, dtype: DType = "bf16", spread = 1): NamedTensor[] {
  const next = draws(seed);
  return [...shapes].map(([name, shape]) => {
    const gain = /gamma$|norm[^.]*\.weight$/.test(name) ? 1 : 0;
    const fanIn = Math.max(1, elementCount(shape.slice(1)));
    const width = gain || /bias$/.test(name) ? 0.2 : spread * Math.sqrt(3 / fanIn);
    const values = Float32Array.from({ length: elementCount(shape) }, () => gain + width * next());
    return { name, dtype, shape, bytes: fromFloat32(values, dtype) };
  });
}

export interface TinyParts {
  task: TinyTask;
  /** Two experts, or the one transformer under `low`. */
  dits: { high?: NamedTensor[]; low: NamedTensor[] };
  vae: NamedTensor[];
  textEncoder: NamedTensor[];
}

export function tinyParts(task: TinyTask): TinyParts {
  const shapes = ditShapes(wanModels[task].dit);
  const low = randomWeights(shapes, 11);
  return {
    task,
    dits: task === "tiny-t2v" ? { high: randomWeights(shapes, 12), low } : { low },
    vae: randomWeights(vaeShapes(vaes[task]), 13),
    textEncoder: randomWeights(textEncoderShapes(textEncoder), 14),
  };
}

/** As in the package's own models/ folder. */
export async function writeKinoraFolder(
  folder: string,
  { task, dits, vae, textEncoder: encoder }: TinyParts,
): Promise<string> {
  mkdirSync(folder, { recursive: true });
  if (dits.high) {
    await writeFile(join(folder, "high_noise_model.safetensors"), dits.high);
    await writeFile(join(folder, "low_noise_model.safetensors"), dits.low);
  } else await writeFile(join(folder, "model.safetensors"), dits.low);
  await writeFile(join(folder, "vae.safetensors"), vae, statisticsOf(task));
  await writeFile(join(folder, "text_encoder.safetensors"), encoder);
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(huggingfaceTokenizer(pieces)));
  return folder;
}

/** Shards with an index, .pth files and google/umt5-xxl, as Wan-AI's repositories have them. */
export async function writeOfficialFolder(folder: string, parts: TinyParts): Promise<string> {
  const index = "diffusion_pytorch_model.safetensors.index.json";
  mkdirSync(join(folder, "google/umt5-xxl"), { recursive: true });
  for (const [role, tensors] of Object.entries(parts.dits)) {
    const place = parts.dits.high ? join(folder, `${role}_noise_model`) : folder;
    mkdirSync(place, { recursive: true });
    await writeSharded(join(place, index), tensors);
  }
  writePth(join(folder, parts.task === "tiny-t2v" ? "Wan2.1_VAE.pth" : "Wan2.2_VAE.pth"), parts.vae);
  writePth(join(folder, "models_t5_umt5-xxl-enc-bf16.pth"), parts.textEncoder);
  writeFileSync(join(folder, "google/umt5-xxl/tokenizer.json"), JSON.stringify(huggingfaceTokenizer(pieces)));
  return folder;
}

/** Diffusers' folders and names. */
export async function writeDiffusersFolder(folder: string, parts: TinyParts, boundary?: number): Promise<string> {
  const part = async (name: string, file: string, tensors: readonly NamedTensor[]) => {
    mkdirSync(join(folder, name), { recursive: true });
    await writeFile(join(folder, name, file), tensors);
  };
  const kind = parts.task === "tiny-t2v" ? "vae21" : "vae22";
  // The recorded list has two blocks: the names of further ones follow from the first's.
  const dit = (tensors: readonly NamedTensor[]) =>
    tensors.map((tensor) => {
      const block = /^blocks\.\d+\./.exec(tensor.name)?.[0] ?? "";
      const [renamed] = inDiffusers("dit", [{ ...tensor, name: tensor.name.replace(block, block && "blocks.0.") }]);
      return { ...tensor, name: renamed!.name.replace(/^blocks\.0\./, block) };
    });
  await part("transformer", "diffusion_pytorch_model.safetensors", dit(parts.dits.high ?? parts.dits.low));
  if (parts.dits.high) await part("transformer_2", "diffusion_pytorch_model.safetensors", dit(parts.dits.low));
  await part("vae", "diffusion_pytorch_model.safetensors", inDiffusers(kind, parts.vae));
  await part("text_encoder", "model.safetensors", textEncoderInTransformers(parts.textEncoder));
  mkdirSync(join(folder, "tokenizer"));
  writeFileSync(join(folder, "tokenizer/tokenizer.json"), JSON.stringify(huggingfaceTokenizer(pieces)));
  writeFileSync(join(folder, "model_index.json"), JSON.stringify({ boundary_ratio: boundary ?? null }));
  return folder;
}

/** Single files as ComfyUI takes them: prefixed names, transformers' text encoder with its tokenizer inside. */
export async function writeComfyFiles(
  folder: string,
  parts: TinyParts,
): Promise<{ high?: string; low: string; vae: string; t5: string }> {
  mkdirSync(folder, { recursive: true });
  const dit = (role: string, tensors: readonly NamedTensor[]) =>
    writeFile(join(folder, `wan2.2_${role}_noise_fp16.safetensors`), withPrefix(tensors, "model.diffusion_model."));
  const spiece = Uint8Array.from(sentencepieceModel({ pieces }));
  const tokenizer: NamedTensor = { name: "spiece_model", dtype: "u8", shape: [spiece.length], bytes: spiece };
  return {
    ...(parts.dits.high ? { high: await dit("high", parts.dits.high) } : {}),
    low: await dit("low", parts.dits.low),
    vae: await writeFile(join(folder, "wan_vae.safetensors"), parts.vae, statisticsOf(parts.task)),
    t5: await writeFile(join(folder, "umt5.safetensors"), [...textEncoderInTransformers(parts.textEncoder), tokenizer]),
  };
}
