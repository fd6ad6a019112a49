// Tiny random Wan networks, and the ways in which tools write them to files. Names of other layouts come from the lists
// that those tools gave themselves (test/models/layouts/), not from Kinora's own tables.
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { bytesOf, type DType } from "../../src/base/dtype.ts";
import { fromFloat32, toFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { encodeHeader, placeTensors } from "../../src/io/safetensors-header.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { loraNames } from "../../src/lora/adapters/lora.ts";
import type { LoraFormat } from "../../src/lora/key-formats.ts";
import type { DitConfig, TextEncoderConfig } from "../../src/models/wan/params.ts";
import { type VaeConfig, vaeConfigFrom } from "../../src/models/wan/vae/config.ts";
import { type ClipVisionConfig, ditShapes, type Shapes } from "../../src/models/wan/weight-shapes.ts";
import { type TorchZipOptions, torchZip } from "./torch-zip-writer.ts";

export interface NamedTensor {
  name: string;
  dtype: DType;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** The sizes with which the name lists were made; the DiT's with the picture branch. */
export const tinyDit: DitConfig = {
  patchSize: [1, 2, 2],
  textLength: 512,
  inputChannels: 16,
  outputChannels: 16,
  dim: 128,
  ffnDim: 192,
  frequencyDim: 32,
  textDim: 64,
  heads: 1,
  layers: 2,
  eps: 1e-6,
};
export const tinyDitWithImage: DitConfig = {
  ...tinyDit,
  inputChannels: 36,
  imageBranch: { featureDim: 40, firstLast: true },
};
const vaeParts = { dim_mult: [1, 2, 4, 4], num_res_blocks: 2, temperal_downsample: [false, true, true] };
export const tinyVae21: VaeConfig = vaeConfigFrom({ dim: 8, z_dim: 16, ...vaeParts }, "vae21");
export const tinyVae22: VaeConfig = vaeConfigFrom({ dim: 8, dec_dim: 4, z_dim: 48, ...vaeParts }, "vae22");
export const tinyTextEncoder: TextEncoderConfig = {
  vocabulary: 300,
  dim: 64,
  attentionDim: 128,
  ffnDim: 96,
  heads: 4,
  layers: 2,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};
export const tinyClip: ClipVisionConfig = {
  imageSize: 28,
  patchSize: 14,
  dim: 64,
  mlpDim: 128,
  heads: 1,
  layers: 2,
  projectionDim: 32,
};

/** Values that repeat nowhere soon, so that a tensor in another's place shows. */
export function randomTensors(shapes: Shapes, dtype: DType, seed = 1): NamedTensor[] {
  let state = seed;
  return [...shapes].map(([name, shape]) => {
    const values = new Float32Array(elementCount(shape));
    for (let i = 0; i < values.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      values[i] = state / 2 ** 31 - 1;
    }
    return { name, dtype, shape, bytes: fromFloat32(values, dtype) };
  });
}

export const withPrefix = (tensors: readonly NamedTensor[], prefix: string): NamedTensor[] =>
  tensors.map((tensor) => ({ ...tensor, name: prefix + tensor.name }));

function layoutList(file: string): Record<string, Record<string, never>> {
  return JSON.parse(readFileSync(new URL(`../models/layouts/${file}.json`, import.meta.url), "utf8"));
}

/** Official tensors under diffusers' names. */
export function inDiffusers(kind: "dit" | "vae21" | "vae22", tensors: readonly NamedTensor[]): NamedTensor[] {
  const names: Record<string, string> = layoutList("diffusers")[kind]!;
  return tensors.map((tensor) => ({ ...tensor, name: names[tensor.name]! }));
}

/** The names and shapes that transformers gives its own tiny models. */
export const transformersShapes = (model: "umt5" | "clip"): Record<string, number[]> =>
  layoutList("transformers")[model]!;

/** The official text encoder's tensors under transformers' names, written out by hand. */
export function textEncoderInTransformers(tensors: readonly NamedTensor[]): NamedTensor[] {
  return tensors.map((tensor) => {
    const block = /^blocks\.(\d+)\.(.*)\.weight$/.exec(tensor.name);
    const outer: Record<string, string> = {
      "token_embedding.weight": "shared.weight",
      "norm.weight": "encoder.final_layer_norm.weight",
    };
    if (!block) return { ...tensor, name: outer[tensor.name]! };
    const inner: Record<string, string> = {
      norm1: "layer.0.layer_norm",
      norm2: "layer.1.layer_norm",
      "attn.q": "layer.0.SelfAttention.q",
      "attn.k": "layer.0.SelfAttention.k",
      "attn.v": "layer.0.SelfAttention.v",
      "attn.o": "layer.0.SelfAttention.o",
      "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
      "ffn.fc1": "layer.1.DenseReluDense.wi_1",
      "ffn.fc2": "layer.1.DenseReluDense.wo",
      "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    };
    return { ...tensor, name: `encoder.block.${block[1]}.${inner[block[2]!]}.weight` };
  });
}

/** The official CLIP tower under transformers' names: q, k and v apart, the projection turned. */
export function clipInTransformers(tensors: readonly NamedTensor[]): NamedTensor[] {
  const outer: Record<string, string> = {
    "visual.cls_embedding": "vision_model.embeddings.class_embedding",
    "visual.pos_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.patch_embedding.weight": "vision_model.embeddings.patch_embedding.weight",
  };
  const inner: Record<string, string> = {
    norm1: "layer_norm1",
    norm2: "layer_norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
    "attn.proj": "self_attn.out_proj",
  };
  return tensors.flatMap((tensor): NamedTensor[] => {
    const { name, shape, bytes, dtype } = tensor;
    const squeezed = shape.filter((size, i) => size !== 1 || i === shape.length - 1);
    if (outer[name]) return [{ ...tensor, name: outer[name], shape: name.includes("patch") ? shape : squeezed }];
    if (name === "visual.head")
      return [{ dtype, name: "visual_projection.weight", shape: [...shape].reverse(), bytes: transpose(tensor) }];
    const norm = /^visual\.(pre|post)_norm\.(\w+)$/.exec(name);
    if (norm)
      return [{ ...tensor, name: `vision_model.${norm[1] === "pre" ? "pre_layrnorm" : "post_layernorm"}.${norm[2]}` }];
    const [, block, part, word] = /^visual\.transformer\.(\d+)\.(.+)\.(weight|bias)$/.exec(name)!;
    const stem = `vision_model.encoder.layers.${block}`;
    if (part !== "attn.to_qkv") return [{ ...tensor, name: `${stem}.${inner[part!]}.${word}` }];
    const third = bytes.length / 3;
    return ["q", "k", "v"].map((letter, i) => ({
      dtype,
      name: `${stem}.self_attn.${letter}_proj.${word}`,
      shape: [shape[0]! / 3, ...shape.slice(1)],
      bytes: bytes.slice(i * third, (i + 1) * third),
    }));
  });
}

function transpose({ shape, bytes, dtype }: NamedTensor): Uint8Array {
  const [rows, columns] = shape as [number, number];
  const width = bytesOf(dtype);
  const result = new Uint8Array(bytes.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++)
      result.set(bytes.subarray((i * columns + j) * width, (i * columns + j + 1) * width), (j * rows + i) * width);
  }
  return result;
}

export type Fp8Style = "scale_weight" | "weight_scale" | "musubi blocks" | "per row";

const isBlockLinear = ({ name, shape }: NamedTensor): boolean =>
  shape.length === 2 && name.endsWith(".weight") && /blocks?\./.test(name);

/** The Linears of all blocks in fp8 (e4m3) with scales, as the named tools keep them. */
export function quantized(tensors: readonly NamedTensor[], style: Fp8Style): NamedTensor[] {
  const result: NamedTensor[] = [];
  for (const tensor of tensors) {
    if (!isBlockLinear(tensor)) {
      result.push(tensor);
      continue;
    }
    const [rows, columns] = tensor.shape as [number, number];
    const values = toFloat32(tensor.bytes, tensor.dtype);
    const group =
      style === "musubi blocks" && columns % 64 === 0
        ? 64
        : style === "per row" || style === "musubi blocks"
          ? columns
          : values.length;
    const scales = new Float32Array(values.length / group);
    for (let i = 0; i < values.length; i++) {
      const at = Math.floor(i / group);
      scales[at] = Math.max(scales[at]!, Math.abs(values[i]!) / 448, 1e-8);
    }
    const divided = values.map((value, i) => value / scales[Math.floor(i / group)]!);
    const scaleShape = group === 64 ? [rows, columns / 64, 1] : group === columns ? [rows, 1] : [];
    const stem = tensor.name.slice(0, -".weight".length);
    const float = (name: string, shape: readonly number[], numbers: Float32Array): NamedTensor => ({
      name,
      dtype: "f32",
      shape,
      bytes: fromFloat32(numbers, "f32"),
    });
    result.push({ ...tensor, dtype: "f8e4m3", bytes: fromFloat32(divided, "f8e4m3") });
    if (style === "weight_scale") {
      const mark = Buffer.from(JSON.stringify({ format: "float8_e4m3fn" }));
      result.push(
        float(`${stem}.weight_scale`, scaleShape, scales),
        float(`${stem}.input_scale`, [], Float32Array.of(1)),
      );
      result.push({ name: `${stem}.comfy_quant`, dtype: "u8", shape: [mark.length], bytes: mark });
    } else {
      result.push(float(`${stem}.scale_weight`, scaleShape, scales));
      if (style === "scale_weight") result.push(float(`${stem}.scale_input`, [], Float32Array.of(1)));
    }
  }
  if (style === "scale_weight")
    result.push({ name: "scaled_fp8", dtype: "f8e4m3", shape: [2], bytes: new Uint8Array(2) });
  return result;
}

export async function writeFile(
  path: string,
  tensors: readonly NamedTensor[],
  metadata: Record<string, string> = {},
): Promise<string> {
  await writeSafetensors(path, tensors, metadata);
  return path;
}

/** Two shards and their index. */
export async function writeSharded(index: string, tensors: readonly NamedTensor[]): Promise<string> {
  const half = Math.ceil(tensors.length / 2);
  const stem = basename(index, ".safetensors.index.json");
  const weight_map: Record<string, string> = {};
  for (const part of [1, 2]) {
    const file = `${stem}-0000${part}-of-00002.safetensors`;
    const mine = tensors.slice((part - 1) * half, part * half);
    for (const { name } of mine) weight_map[name] = file;
    await writeSafetensors(join(dirname(index), file), mine);
  }
  writeFileSync(index, JSON.stringify({ metadata: { total_size: 0 }, weight_map }));
  return index;
}

export function writePth(path: string, tensors: readonly NamedTensor[], options: TorchZipOptions = {}): string {
  writeFileSync(path, torchZip(tensors, options));
  return path;
}

/**
 * A safetensors file of any size whose data is a hole of zeros, but for the tensors in `values`: what full-size models
 * look like by name and shape, without their gigabytes.
 */
export function writeSparse(
  path: string,
  shapes: Shapes,
  dtype: DType,
  options: { metadata?: Record<string, string>; values?: Record<string, { dtype: DType; bytes: Uint8Array }> } = {},
): string {
  const { metadata = {}, values = {} } = options;
  const placed = placeTensors(
    [...shapes].map(([name, shape]) => ({ name, shape, dtype: values[name]?.dtype ?? dtype })),
  );
  const header = encodeHeader(placed, metadata);
  const file = openSync(path, "w");
  try {
    writeSync(file, header, 0, header.length, 0);
    ftruncateSync(file, header.length + (placed.at(-1)?.end ?? 0));
    for (const { name, start } of placed) {
      const value = values[name];
      if (value) writeSync(file, value.bytes, 0, value.bytes.length, header.length + start);
    }
  } finally {
    closeSync(file);
  }
  return path;
}

/** The tensors of a LoRA on these modules of a model, by name and shape, in a format. */
export function loraShapes(format: LoraFormat, model: DitConfig, modules: RegExp, rank: number): Shapes {
  const shapes: Shapes = new Map();
  for (const [name, shape] of ditShapes(model)) {
    const module = name.slice(0, -".weight".length);
    if (!name.endsWith(".weight") || shape.length < 2 || !modules.test(module)) continue;
    const names = loraNames(format, module);
    shapes.set(names.down, [rank, shape[1]!]).set(names.up, [shape[0]!, rank]);
    if (names.alpha !== undefined) shapes.set(names.alpha, []);
  }
  return shapes;
}
