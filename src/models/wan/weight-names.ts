// The names that other tools give the Wan networks' parameters, as tables from official name to theirs.
// Pure text: no shapes, no files. Sources: diffusers scripts/convert_wan_to_diffusers.py, transformers' UMT5EncoderModel
// and CLIPVisionModel, ComfyUI comfy/text_encoders/t5.py and comfy/clip_model.py (which use transformers' names), and
// llama.cpp's gguf-py/gguf/constants.py for text encoders in GGUF files.
import { KinoraError } from "../../base/errors.ts";

export type WanKind = "dit" | "vae21" | "vae22" | "tae" | "text-encoder" | "clip-vision";

/** `official`: the Wan repositories, ComfyUI's repackaged diffusion models and VAEs, and GGUF files of these. */
export type WeightLayout = "official" | "diffusers" | "transformers" | "llama.cpp";

/** Where a parameter of a file belongs. */
export interface OfficialPlace {
  /** The official parameter name. */
  name: string;
  /** Its place among several parameters that are one, stacked along the first axis, upstream. */
  part?: { index: number; count: number };
  /** The file has the matrix the other way round. */
  transposed?: true;
}

/**
 * `{}` stands for a number. A row names a module, whose parameters keep their own last word, or a whole parameter.
 * A third column marks rows that differ in more than the name.
 */
type Row = readonly [official: string, other: string, how?: "transposed" | readonly [index: number, count: number]];

const attentionRows = (official: string, other: string): Row[] => [
  [`blocks.{}.${official}.q`, `blocks.{}.${other}.to_q`],
  [`blocks.{}.${official}.k`, `blocks.{}.${other}.to_k`],
  [`blocks.{}.${official}.v`, `blocks.{}.${other}.to_v`],
  [`blocks.{}.${official}.o`, `blocks.{}.${other}.to_out.0`],
  [`blocks.{}.${official}.norm_q`, `blocks.{}.${other}.norm_q`],
  [`blocks.{}.${official}.norm_k`, `blocks.{}.${other}.norm_k`],
];

const ditRows: readonly Row[] = [
  ["patch_embedding", "patch_embedding"],
  ["text_embedding.0", "condition_embedder.text_embedder.linear_1"],
  ["text_embedding.2", "condition_embedder.text_embedder.linear_2"],
  ["time_embedding.0", "condition_embedder.time_embedder.linear_1"],
  ["time_embedding.2", "condition_embedder.time_embedder.linear_2"],
  ["time_projection.1", "condition_embedder.time_proj"],
  ["img_emb.proj.0", "condition_embedder.image_embedder.norm1"],
  ["img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"],
  ["img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"],
  ["img_emb.proj.4", "condition_embedder.image_embedder.norm2"],
  ["img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"],
  ...attentionRows("self_attn", "attn1"),
  ...attentionRows("cross_attn", "attn2"),
  ["blocks.{}.cross_attn.k_img", "blocks.{}.attn2.add_k_proj"],
  ["blocks.{}.cross_attn.v_img", "blocks.{}.attn2.add_v_proj"],
  ["blocks.{}.cross_attn.norm_k_img", "blocks.{}.attn2.norm_added_k"],
  // Diffusers numbers the norms in the order they run; upstream's second to run is norm3.
  ["blocks.{}.norm3", "blocks.{}.norm2"],
  ["blocks.{}.ffn.0", "blocks.{}.ffn.net.0.proj"],
  ["blocks.{}.ffn.2", "blocks.{}.ffn.net.2"],
  ["blocks.{}.modulation", "blocks.{}.scale_shift_table"],
  ["head.head", "proj_out"],
  ["head.modulation", "scale_shift_table"],
];

const residualRows = (official: string, other: string): Row[] => [
  [`${official}.residual.0`, `${other}.norm1`],
  [`${official}.residual.2`, `${other}.conv1`],
  [`${official}.residual.3`, `${other}.norm2`],
  [`${official}.residual.6`, `${other}.conv2`],
  [`${official}.shortcut`, `${other}.conv_shortcut`],
];

const resampleRows = (official: string, other: string): Row[] => [
  [`${official}.resample.1`, `${other}.resample.1`],
  [`${official}.time_conv`, `${other}.time_conv`],
];

const vaeCommonRows: readonly Row[] = [
  ["conv1", "quant_conv"],
  ["conv2", "post_quant_conv"],
  ...["encoder", "decoder"].flatMap((half): Row[] => [
    [`${half}.conv1`, `${half}.conv_in`],
    ...residualRows(`${half}.middle.0`, `${half}.mid_block.resnets.0`),
    [`${half}.middle.1.norm`, `${half}.mid_block.attentions.0.norm`],
    [`${half}.middle.1.to_qkv`, `${half}.mid_block.attentions.0.to_qkv`],
    [`${half}.middle.1.proj`, `${half}.mid_block.attentions.0.proj`],
    ...residualRows(`${half}.middle.2`, `${half}.mid_block.resnets.1`),
    [`${half}.head.0`, `${half}.norm_out`],
    [`${half}.head.2`, `${half}.conv_out`],
  ]),
];

const MAX_STAGES = 8;
const stages = Array.from({ length: MAX_STAGES }, (_, stage) => stage);

/** @param resnets residual blocks in a stage of the decoder, which upstream counts through together with the resampling */
function vae21Rows(resnets: number): Row[] {
  return [
    ...vaeCommonRows,
    ...residualRows("encoder.downsamples.{}", "encoder.down_blocks.{}"),
    ...resampleRows("encoder.downsamples.{}", "encoder.down_blocks.{}"),
    ...stages.flatMap((stage) => {
      const layer = (index: number) => `decoder.upsamples.${stage * (resnets + 1) + index}`;
      const blocks = Array.from({ length: resnets }, (_, i) =>
        residualRows(layer(i), `decoder.up_blocks.${stage}.resnets.${i}`),
      );
      return [...blocks.flat(), ...resampleRows(layer(resnets), `decoder.up_blocks.${stage}.upsamplers.0`)];
    }),
  ];
}

/** @param resnets as above; the encoder has one less */
function vae22Rows(resnets: number): Row[] {
  return [
    ...vaeCommonRows,
    ...residualRows("encoder.downsamples.{}.downsamples.{}", "encoder.down_blocks.{}.resnets.{}"),
    ...resampleRows(`encoder.downsamples.{}.downsamples.${resnets - 1}`, "encoder.down_blocks.{}.downsampler"),
    ...residualRows("decoder.upsamples.{}.upsamples.{}", "decoder.up_blocks.{}.resnets.{}"),
    ...resampleRows(`decoder.upsamples.{}.upsamples.${resnets}`, "decoder.up_blocks.{}.upsampler"),
  ];
}

const textEncoderRows: readonly Row[] = [
  ["token_embedding", "shared"],
  ...["q", "k", "v", "o"].map(
    (part): Row => [`blocks.{}.attn.${part}`, `encoder.block.{}.layer.0.SelfAttention.${part}`],
  ),
  ["blocks.{}.pos_embedding.embedding", "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias"],
  ["blocks.{}.norm1", "encoder.block.{}.layer.0.layer_norm"],
  ["blocks.{}.ffn.gate.0", "encoder.block.{}.layer.1.DenseReluDense.wi_0"],
  ["blocks.{}.ffn.fc1", "encoder.block.{}.layer.1.DenseReluDense.wi_1"],
  ["blocks.{}.ffn.fc2", "encoder.block.{}.layer.1.DenseReluDense.wo"],
  ["blocks.{}.norm2", "encoder.block.{}.layer.1.layer_norm"],
  ["norm", "encoder.final_layer_norm"],
];

const llamaTextEncoderRows: readonly Row[] = [
  ["token_embedding", "token_embd"],
  ...["q", "k", "v", "o"].map((part): Row => [`blocks.{}.attn.${part}`, `enc.blk.{}.attn_${part}`]),
  ["blocks.{}.pos_embedding.embedding", "enc.blk.{}.attn_rel_b"],
  ["blocks.{}.norm1", "enc.blk.{}.attn_norm"],
  ["blocks.{}.ffn.gate.0", "enc.blk.{}.ffn_gate"],
  ["blocks.{}.ffn.fc1", "enc.blk.{}.ffn_up"],
  ["blocks.{}.ffn.fc2", "enc.blk.{}.ffn_down"],
  ["blocks.{}.norm2", "enc.blk.{}.ffn_norm"],
  ["norm", "enc.output_norm"],
];

const clipVisionRows: readonly Row[] = [
  ["visual.cls_embedding", "vision_model.embeddings.class_embedding"],
  ["visual.patch_embedding", "vision_model.embeddings.patch_embedding"],
  ["visual.pos_embedding", "vision_model.embeddings.position_embedding.weight"],
  ["visual.pre_norm", "vision_model.pre_layrnorm"],
  ["visual.post_norm", "vision_model.post_layernorm"],
  ["visual.transformer.{}.norm1", "vision_model.encoder.layers.{}.layer_norm1"],
  ["visual.transformer.{}.attn.to_qkv", "vision_model.encoder.layers.{}.self_attn.q_proj", [0, 3]],
  ["visual.transformer.{}.attn.to_qkv", "vision_model.encoder.layers.{}.self_attn.k_proj", [1, 3]],
  ["visual.transformer.{}.attn.to_qkv", "vision_model.encoder.layers.{}.self_attn.v_proj", [2, 3]],
  ["visual.transformer.{}.attn.proj", "vision_model.encoder.layers.{}.self_attn.out_proj"],
  ["visual.transformer.{}.norm2", "vision_model.encoder.layers.{}.layer_norm2"],
  ["visual.transformer.{}.mlp.0", "vision_model.encoder.layers.{}.mlp.fc1"],
  ["visual.transformer.{}.mlp.2", "vision_model.encoder.layers.{}.mlp.fc2"],
  ["visual.head", "visual_projection.weight", "transposed"],
];

/** Rows by the words of one side's pattern, so that a name is looked up word by word. */
interface Node {
  row?: Row;
  readonly next: Map<string, Node>;
}

function tree(rows: readonly Row[], side: 0 | 1): Node {
  const root: Node = { next: new Map() };
  for (const row of rows) {
    let node = root;
    for (const word of row[side].split(".")) {
      const next = node.next.get(word) ?? { next: new Map() };
      node.next.set(word, next);
      node = next;
    }
    // The first of several rows for one module (q, k and v stacked) stands for them; it is only asked for its name.
    node.row ??= row;
  }
  return root;
}

const isNumber = (word: string): boolean => /^\d{1,6}$/.test(word);

/** The longest row that begins `words`, the numbers met on the way, and what follows it. */
function find(
  node: Node,
  words: readonly string[],
  at: number,
  numbers: readonly string[],
): { row: Row; numbers: readonly string[]; rest: string } | undefined {
  const word = words[at];
  if (word !== undefined) {
    const exact = node.next.get(word);
    const found = exact && find(exact, words, at + 1, numbers);
    if (found) return found;
    const wild = isNumber(word) ? node.next.get("{}") : undefined;
    const matched = wild && find(wild, words, at + 1, [...numbers, word]);
    if (matched) return matched;
  }
  return (
    node.row && {
      row: node.row,
      numbers,
      rest: words
        .slice(at)
        .map((part) => `.${part}`)
        .join(""),
    }
  );
}

function fill(pattern: string, numbers: readonly string[]): string {
  let index = 0;
  return pattern.replaceAll("{}", () => numbers[index++]!);
}

/** Translates names between a layout and the official one. */
export class NameTable {
  readonly #toOfficial: Node;
  readonly #fromOfficial: Node;

  constructor(rows: readonly Row[]) {
    this.#toOfficial = tree(rows, 1);
    this.#fromOfficial = tree(rows, 0);
  }

  /** The official place of another tool's parameter (or module) name. */
  toOfficial(name: string): OfficialPlace | undefined {
    const found = find(this.#toOfficial, name.split("."), 0, []);
    if (!found || found.rest.split(".").length > 2) return undefined;
    const [official, , how] = found.row;
    const place: OfficialPlace = { name: fill(official, found.numbers) + found.rest };
    if (how === "transposed") place.transposed = true;
    else if (how) place.part = { index: how[0], count: how[1] };
    return place;
  }

  /** The other tool's name of an official parameter (or module); of stacked ones, the first. */
  fromOfficial(name: string): string | undefined {
    const found = find(this.#fromOfficial, name.split("."), 0, []);
    if (!found || found.rest.split(".").length > 2) return undefined;
    return fill(found.row[1], found.numbers) + found.rest;
  }
}

const ditTable = new NameTable(ditRows);
const textEncoderTable = new NameTable(textEncoderRows);
const llamaTextEncoderTable = new NameTable(llamaTextEncoderRows);
const clipVisionTable = new NameTable(clipVisionRows);

/** Diffusers' names of the transformer's parameters and modules. */
export const ditNames: Pick<NameTable, "toOfficial" | "fromOfficial"> = ditTable;

/**
 * The table between a layout and the official names; undefined where the layout is the official one.
 * @param names all names of the model, without their prefix: the VAE's layers are counted in them
 */
export function nameTable(kind: WanKind, layout: WeightLayout, names: Iterable<string>): NameTable | undefined {
  if (layout === "official" || kind === "tae") return undefined;
  if (kind === "dit") return ditTable;
  if (kind === "text-encoder") return layout === "llama.cpp" ? llamaTextEncoderTable : textEncoderTable;
  if (kind === "clip-vision") return clipVisionTable;
  let resnets = 0;
  for (const name of names) {
    const index = /^decoder\.up_blocks\.0\.resnets\.(\d{1,2})\./.exec(name)?.[1];
    if (index !== undefined) resnets = Math.max(resnets, Number(index) + 1);
  }
  return new NameTable(kind === "vae21" ? vae21Rows(resnets) : vae22Rows(resnets));
}

/** The same by the residual blocks of a decoder's stage, for writing; undefined where names stay official. */
export function tableOfLayout(kind: WanKind, layout: WeightLayout, resnets: number): NameTable | undefined {
  if ((kind === "vae21" || kind === "vae22") && layout === "diffusers")
    return new NameTable(kind === "vae21" ? vae21Rows(resnets) : vae22Rows(resnets));
  return nameTable(kind, layout, []);
}

/** One network found in a file: what it is, how it is named, and the prefix of its names. */
export interface Component {
  kind: WanKind;
  layout: WeightLayout;
  /** Empty, or ending with a dot. */
  prefix: string;
}

/** Names that only this network in this layout has. */
const signatures: readonly (Omit<Component, "prefix"> & { has: readonly string[] })[] = [
  { kind: "dit", layout: "official", has: ["patch_embedding.weight", "head.modulation", "head.head.weight"] },
  { kind: "dit", layout: "diffusers", has: ["patch_embedding.weight", "scale_shift_table", "proj_out.weight"] },
  { kind: "vae21", layout: "official", has: ["decoder.upsamples.0.residual.2.weight", "encoder.conv1.weight"] },
  {
    kind: "vae22",
    layout: "official",
    has: ["decoder.upsamples.0.upsamples.0.residual.2.weight", "encoder.conv1.weight"],
  },
  {
    kind: "vae21",
    layout: "diffusers",
    has: ["encoder.down_blocks.0.conv1.weight", "encoder.conv_in.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"],
  },
  {
    kind: "vae22",
    layout: "diffusers",
    has: ["encoder.down_blocks.0.resnets.0.conv1.weight", "encoder.mid_block.attentions.0.to_qkv.weight"],
  },
  { kind: "tae", layout: "official", has: ["decoder.22.weight", "decoder.3.conv.0.weight", "decoder.7.conv.weight"] },
  { kind: "text-encoder", layout: "official", has: ["token_embedding.weight", "blocks.0.attn.q.weight"] },
  { kind: "text-encoder", layout: "transformers", has: ["encoder.block.0.layer.0.SelfAttention.q.weight"] },
  { kind: "text-encoder", layout: "llama.cpp", has: ["token_embd.weight", "enc.blk.0.attn_q.weight"] },
  { kind: "clip-vision", layout: "official", has: ["visual.cls_embedding", "visual.transformer.0.attn.to_qkv.weight"] },
  { kind: "clip-vision", layout: "transformers", has: ["vision_model.embeddings.class_embedding"] },
];

/** More networks than anyone keeps in one file. */
const MAX_COMPONENTS = 16;

/**
 * The networks whose names are in a file, whatever prefix they carry. Throws `weights.unrecognized` for a file that
 * claims to hold more of them than can be.
 */
export function findComponents(names: Iterable<string>): Component[] {
  const all = new Set(names);
  const found: Component[] = [];
  for (const { kind, layout, has } of signatures) {
    const [first, ...others] = has as [string, ...string[]];
    for (const name of all) {
      if (!name.endsWith(first)) continue;
      const prefix = name.slice(0, -first.length);
      if (prefix !== "" && !prefix.endsWith(".")) continue;
      if (!others.every((other) => all.has(prefix + other))) continue;
      found.push({ kind, layout, prefix });
      if (found.length > MAX_COMPONENTS) {
        throw new KinoraError("weights.unrecognized", `the file claims to hold more than ${MAX_COMPONENTS} networks`, {
          hint: "kinora models inspect FILE --names lists what it holds",
        });
      }
    }
  }
  return found;
}
