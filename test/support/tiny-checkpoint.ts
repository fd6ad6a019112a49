// A whole checkpoint of a tiny model with random weights, as files in an official folder: for training and planning.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../../src/base/dtype.ts";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import type { TextEncoderConfig, WanModel } from "../../src/models/wan/params.ts";
import { LATENT_STATISTICS, vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { ditShapes, type Shapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { draws } from "./drawn-weights.ts";
import { sentencepieceModel } from "./tokenizer-files.ts";

/** Values that keep activations in range: 1/√fan-in for matrices, ones for gains, zeros for biases. */
export async function writeRandomNetwork(
  path: string,
  shapes: Shapes,
  seed: number,
  dtype: DType = "f32",
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const tensors = [...shapes].map(([name, shape], i) => {
    const next = draws(seed * 1000 + i);
    const spread = Math.sqrt(3 / Math.max(1, elementCount(shape.slice(1))));
    const gain = /gamma$|norm[^.]*\.weight$/.test(name);
    const value = () => (/\.bias$/.test(name) ? 0 : gain ? 1 : spread * next());
    return {
      name,
      dtype,
      shape,
      bytes: fromFloat32(Float32Array.from({ length: elementCount(shape) }, value), dtype),
    };
  });
  await writeSafetensors(path, tensors, metadata);
}

const vaeParts = { dim_mult: [1, 2, 4, 4], num_res_blocks: 1, temperal_downsample: [false, true, true] };

/** Every letter is a piece; each word of a caption is then a row of its own. */
export function letterTokenizer(): Uint8Array {
  const letters = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,"];
  return sentencepieceModel({
    pieces: [
      ["<pad>", 0, "control"],
      ["</s>", 0, "control"],
      ["<unk>", 0, "unknown"],
      ["▁", -1],
      ...letters.map((letter) => [letter, -2] as const),
    ],
  });
}

/** Writes `folder` as the official layout has it, and returns it. */
export async function writeTinyCheckpoint(
  folder: string,
  model: WanModel,
  options: { dtype?: DType; seed?: number } = {},
): Promise<string> {
  const { dtype = "f32", seed = 1 } = options;
  const shapes = ditShapes(model.dit);
  const name = "diffusion_pytorch_model.safetensors";
  const experts = model.boundary === undefined ? [""] : ["high_noise_model", "low_noise_model"];
  for (const [i, expert] of experts.entries()) {
    mkdirSync(join(folder, expert), { recursive: true });
    await writeRandomNetwork(join(folder, expert, name), shapes, seed + i, dtype);
  }
  const vae =
    model.vae.kind === "vae21"
      ? vaeConfigFrom({ dim: 4, z_dim: 16, ...vaeParts }, "vae21")
      : vaeConfigFrom({ dim: 4, dec_dim: 4, z_dim: 48, ...vaeParts }, "vae22");
  const { mean, std } = vae.statistics;
  const statistics = { [LATENT_STATISTICS]: JSON.stringify({ mean: [...mean], std: [...std] }) };
  await writeRandomNetwork(join(folder, "vae.safetensors"), vaeShapes(vae), seed + 7, "f32", statistics);
  const encoder: TextEncoderConfig = {
    vocabulary: 80,
    dim: model.dit.textDim,
    attentionDim: 64,
    ffnDim: 96,
    heads: 2,
    layers: 1,
    buckets: 32,
    maxDistance: 128,
    eps: 1e-6,
  };
  await writeRandomNetwork(join(folder, "t5.safetensors"), textEncoderShapes(encoder), seed + 9);
  mkdirSync(join(folder, "google/umt5-xxl"), { recursive: true });
  writeFileSync(join(folder, "google/umt5-xxl/spiece.model"), letterTokenizer());
  return folder;
}
