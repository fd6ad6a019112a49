// The names under which tools keep a LoRA's tensors: kohya/musubi, ComfyUI (PEFT), diffusers, DiffSynth; reading any,
// writing each. Names only, no values; what an adapter means is attach.ts.
// musubi: networks/lora.py; ComfyUI: comfy/lora.py and comfy/weight_adapter/; diffusers: loaders/lora_conversion_utils.py;
// DiffSynth-Studio: diffsynth/diffusion/training_module.py.
import { KinoraError } from "../base/errors.ts";
import { ditNames } from "../models/wan/weight-names.ts";
import type { LoraKeys } from "../protocol/train-config.ts";

/**
 * `kohya`: `lora_unet_blocks_0_ffn_0.lora_down.weight` and `.alpha`; `peft`: `diffusion_model.blocks.0.ffn.0.lora_A.weight`,
 * what ComfyUI reads; `diffusers`: `transformer.blocks.0.ffn.net.0.proj.lora_A.weight`; `diffsynth`:
 * `blocks.0.ffn.0.lora_A.default.weight`.
 */
export type LoraFormat = "kohya" | "peft" | "diffusers" | "diffsynth";

/** The names that users choose by, and what they are here. */
export const keyFormats: Readonly<Record<LoraKeys, LoraFormat>> = {
  musubi: "kohya",
  comfy: "peft",
  diffusers: "diffusers",
  diffsynth: "diffsynth",
};

export interface LoraModule {
  /** The Linear's official name, e.g. `blocks.0.self_attn.q`. */
  module: string;
  /** The tensor [rank, inputs]. */
  down: string;
  /** The tensor [outputs, rank]. */
  up: string;
  /** The tensor with the scalar α; where absent the scale is 1. */
  alpha?: string;
}

/** What a file may hold beside or instead of plain LoRA matrices. */
export type OtherAdapter = "DoRA" | "LoHa" | "LoKr" | "OFT" | "GLoRA" | "LoCon (mid)" | "bias" | "diff";

export interface ParsedLora {
  /** Usually one; more where a file mixes them. */
  formats: LoraFormat[];
  modules: LoraModule[];
  /** Tensors of adapter kinds other than LoRA, on a module of the transformer. */
  others: { name: string; kind: OtherAdapter; module: string }[];
  /** Tensors that belong to no module of the transformer, or to an incomplete pair, and why. */
  unmatched: { name: string; why: string }[];
  /** The expert that the names themselves speak of: diffusers keeps the low-noise one under `transformer_2.`. */
  expert?: "low";
}

/** Official names of what an adapter can stand on, within a block and outside of one. */
const blockModules = [
  ...["q", "k", "v", "o", "norm_q", "norm_k"].flatMap((part) => [`self_attn.${part}`, `cross_attn.${part}`]),
  ...["k_img", "v_img", "norm_k_img"].map((part) => `cross_attn.${part}`),
  ...["ffn.0", "ffn.2", "norm3", "modulation"],
];
const outerModules = [
  ...["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"],
  ...["img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4"],
  ...["patch_embedding", "head.head", "head.modulation", "head"],
];

interface Spelling {
  official: string;
  /** Diffusers' own module name rather than upstream's. */
  diffusers: boolean;
}

/** Every way to write a module's name: upstream's and diffusers' names, with dots or with underscores for them. */
function spellings(modules: readonly string[], outer: string): Map<string, Spelling> {
  const result = new Map<string, Spelling>();
  for (const official of modules) {
    const theirs = ditNames.fromOfficial(outer + official)?.slice(outer.length);
    for (const [name, diffusers] of [
      [official, false],
      [theirs ?? official, theirs !== undefined && theirs !== official],
    ] as const) {
      for (const spelled of [name, name.replaceAll(".", "_")]) {
        if (!result.has(spelled)) result.set(spelled, { official, diffusers });
      }
    }
  }
  return result;
}

const inBlock = spellings(blockModules, "blocks.0.");
const outside = spellings(outerModules, "");

function spelled(name: string): Spelling | undefined {
  const block = /^blocks[._](\d{1,4})[._](.+)$/.exec(name);
  if (!block) return outside.get(name);
  const found = inBlock.get(block[2]!);
  return found && { ...found, official: `blocks.${block[1]}.${found.official}` };
}

type Role = "down" | "up" | "alpha" | OtherAdapter;

/** Endings of tensor names. Where PEFT puts an adapter's name between, any single word is allowed. */
const endings: readonly [ending: RegExp, role: Role][] = [
  [/\.(?:lora_B(?:\.\w+)?|lora_up)\.bias$/, "bias"],
  [
    /(?:\.lora_down\.weight|\.lora_A(?:\.\w+)??(?:\.weight)?|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight)$/,
    "down",
  ],
  [
    /(?:\.lora_up\.weight|\.lora_B(?:\.\w+)??(?:\.weight)?|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight)$/,
    "up",
  ],
  [/\.alpha$/, "alpha"],
  [/\.(?:dora_scale|lora_magnitude_vector(?:\.\w+)*)$/, "DoRA"],
  [/\.hada_\w+$/, "LoHa"],
  [/\.lokr_\w+$/, "LoKr"],
  [/\.oft_\w+$/, "OFT"],
  [/\.[ab][12]\.weight$/, "GLoRA"],
  [/\.lora_mid\.weight$/, "LoCon (mid)"],
  [/\.(?:diff|diff_b|diff_m|set_weight|w_norm|b_norm|reshape_weight)$/, "diff"],
];

const prefixes: readonly [prefix: string, format: LoraFormat][] = [
  ["lora_unet__", "kohya"],
  ["lora_unet_", "kohya"],
  ["lora_transformer_", "kohya"],
  ["lycoris_", "kohya"],
  ["model.diffusion_model.", "peft"],
  ["diffusion_model.", "peft"],
  ["transformer_2.", "diffusers"],
  ["transformer.", "diffusers"],
  ["pipe.dit.", "diffsynth"],
];

/** Wrappers that training tools leave in front of everything. */
const wrappers = /^(?:base_model\.model\.|module\.|unet\.)+/;

interface Place {
  module: string;
  format: LoraFormat;
  prefix: string;
}

function placeOf(stem: string): Place | undefined {
  const bare = stem.replace(wrappers, "");
  const [prefix, format] = prefixes.find(([start]) => bare.startsWith(start)) ?? ["", undefined];
  const found = spelled(bare.slice(prefix.length).replace(wrappers, ""));
  if (!found) return undefined;
  return { module: found.official, format: format ?? (found.diffusers ? "diffusers" : "diffsynth"), prefix };
}

/** No tool writes longer names; hostile ones must not keep the patterns busy. */
const MAX_NAME = 500;

function roleOf(name: string): { role: Role; stem: string } | undefined {
  if (name.length > MAX_NAME) return undefined;
  for (const [ending, role] of endings) {
    const match = ending.exec(name);
    if (!match) continue;
    const stem = name.slice(0, match.index);
    // The change of a block's modulation, which is a parameter of the block itself (lightx2v).
    return { role, stem: name.endsWith(".diff_m") ? `${stem}.modulation` : stem };
  }
  return undefined;
}

/** True where the name is that of an adapter's tensor, of whatever model. */
export function isAdapterName(name: string): boolean {
  return roleOf(name) !== undefined;
}

/** Sorts the names of a LoRA file by what they are. Skips nothing: every name is in exactly one of the lists. */
export function parseLoraNames(names: Iterable<string>): ParsedLora {
  const parsed: ParsedLora = { formats: [], modules: [], others: [], unmatched: [] };
  const pairs = new Map<string, Partial<LoraModule> & { module: string }>();
  const formats = new Set<LoraFormat>();
  for (const name of names) {
    const found = roleOf(name);
    const place = found && placeOf(found.stem);
    if (!found || !place) {
      const textEncoder = /^(?:lora_te|text_encoder|conditioner)/.test(name);
      const why = !found
        ? "no adapter's tensor"
        : textEncoder
          ? "for a text encoder; Wan's LoRAs change the transformer alone"
          : "on no module of the Wan transformer";
      parsed.unmatched.push({ name, why });
      continue;
    }
    const { module, format, prefix } = place;
    formats.add(format);
    if (prefix === "transformer_2.") parsed.expert = "low";
    if (found.role !== "down" && found.role !== "up" && found.role !== "alpha") {
      parsed.others.push({ name, kind: found.role, module });
      continue;
    }
    const pair = pairs.get(module) ?? { module };
    if (pair[found.role] !== undefined) parsed.unmatched.push({ name, why: `a second ${found.role} for ${module}` });
    else pair[found.role] = name;
    pairs.set(module, pair);
  }
  for (const { module, down, up, alpha } of pairs.values()) {
    if (down !== undefined && up !== undefined) {
      parsed.modules.push({ module, down, up, ...(alpha === undefined ? {} : { alpha }) });
      continue;
    }
    // LoHa and LoKr have an alpha too, and no pair of matrices.
    const adapted = parsed.others.find((other) => other.module === module && other.kind !== "diff");
    for (const name of [down, up, alpha]) {
      if (name === undefined) continue;
      if (adapted && name === alpha) parsed.others.push({ name, kind: adapted.kind, module });
      else parsed.unmatched.push({ name, why: `${module} lacks its ${down === undefined ? "down" : "up"} matrix` });
    }
  }
  parsed.formats = [...formats];
  return parsed;
}

/** Formats without an α tensor: whoever writes them multiplies the scale α/rank into the matrices. */
export const formatHasAlpha: Readonly<Record<LoraFormat, boolean>> = {
  kohya: true,
  peft: false,
  diffusers: false,
  diffsynth: false,
};

/**
 * The names of one module's tensors in a format.
 * @param module the Linear's official name. Throws `lora.unknown-module` where diffusers has no such module.
 * @param expert `low` puts a diffusers LoRA under the pipeline's second transformer
 */
export function loraNames(format: LoraFormat, module: string, expert?: "high" | "low"): Omit<LoraModule, "module"> {
  switch (format) {
    case "kohya": {
      const stem = `lora_unet_${module.replaceAll(".", "_")}`;
      return { down: `${stem}.lora_down.weight`, up: `${stem}.lora_up.weight`, alpha: `${stem}.alpha` };
    }
    case "peft":
      return { down: `diffusion_model.${module}.lora_A.weight`, up: `diffusion_model.${module}.lora_B.weight` };
    case "diffusers": {
      const theirs = ditNames.fromOfficial(module);
      if (theirs === undefined)
        throw new KinoraError("lora.unknown-module", `diffusers has no module for ${module}`, {
          hint: "choose other names: musubi, comfy or diffsynth",
        });
      const stem = `${expert === "low" ? "transformer_2" : "transformer"}.${theirs}`;
      return { down: `${stem}.lora_A.weight`, up: `${stem}.lora_B.weight` };
    }
    case "diffsynth":
      return { down: `${module}.lora_A.default.weight`, up: `${module}.lora_B.default.weight` };
  }
}

/**
 * α as diffusers keeps it, in the metadata `lora_adapter_metadata` and for all modules alike; undefined where the file
 * has none. With rank-stabilised LoRA the scale is α/√rank, which is given back as the α of a plain α/rank.
 */
export function alphaOfMetadata(metadata: Readonly<Record<string, string>>, rank: number): number | undefined {
  const text = metadata.lora_adapter_metadata;
  if (text === undefined) return undefined;
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("lora.bad-metadata", "the file's lora_adapter_metadata is no JSON", {
      actual: text.slice(0, 60),
      hint: "alpha is kept there: save the file again with the tool that made it",
      cause,
    });
  }
  if (typeof fields !== "object" || fields === null) return undefined;
  const field = (name: string): unknown => Object.entries(fields).find(([key]) => key.split(".").at(-1) === name)?.[1];
  const alpha = field("lora_alpha");
  if (typeof alpha !== "number") return undefined;
  return field("use_rslora") === true ? alpha * Math.sqrt(rank) : alpha;
}
