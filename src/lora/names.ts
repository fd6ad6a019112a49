// Where in the Wan transformer a tensor's name belongs, whatever tool wrote it: prefixes and wrappers off, upstream's or
// diffusers' module names, with dots or with underscores. Names only; which adapter it is: adapters/.
// musubi: networks/lora.py; ComfyUI: comfy/lora.py; diffusers: loaders/lora_conversion_utils.py; DiffSynth-Studio:
// diffsynth/diffusion/training_module.py.
import type { Expert } from "../models/wan/recognize.ts";
import { ditNames } from "../models/wan/weight-names.ts";
import type { LoraFormat } from "./key-formats.ts";

/** Official names of what an adapter can stand on, within a block and outside of one. */
const blockModules = [
  ...["q", "k", "v", "o", "norm_q", "norm_k"].flatMap((part) => [`self_attn.${part}`, `cross_attn.${part}`]),
  ...["k_img", "v_img", "norm_k_img"].map((part) => `cross_attn.${part}`),
  ...["ffn.0", "ffn.2", "norm3", "modulation"],
];
const outerModules = [
  ...["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"],
  ...["img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4", "img_emb.emb_pos"],
  ...["patch_embedding", "head.head", "head.modulation", "head"],
];

/** What is a parameter itself rather than a module with a weight and a bias. */
const bareParameter = /(?:^|\.)(?:modulation|emb_pos)$/;

/** The official parameter behind a module's weight or bias; undefined for a bias that no such module has. */
export function parameterOf(module: string, part: "weight" | "bias"): string | undefined {
  if (!bareParameter.test(module)) return `${module}.${part}`;
  return part === "weight" ? module : undefined;
}

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
  const block = /^blocks[._](\d{1,4})(?:[._](.+))?$/.exec(name);
  if (!block) return outside.get(name);
  // A block itself: its modulation's change stands on it (lightx2v's diff_m).
  if (block[2] === undefined) return { official: `blocks.${block[1]}`, diffusers: false };
  const found = inBlock.get(block[2]);
  return found && { ...found, official: `blocks.${block[1]}.${found.official}` };
}

/** What stands in front of everything, in any order: pipelines, wrappers of training tools, the marks of an expert. */
const containers: readonly [pattern: RegExp, meaning: { format?: LoraFormat; expert?: Expert; second?: true }][] = [
  [/^(?:lora_unet|lora_transformer|lycoris)[._]+/, { format: "kohya" }],
  [/^(?:high|low)(?:_noise)?(?:_(?:model|expert|transformer|dit|lora))?[._]/, {}],
  [/^diffusion_model[._]/, { format: "peft" }],
  [/^transformer_2[._]/, { format: "diffusers", second: true }],
  [/^transformer[._]/, { format: "diffusers" }],
  [/^dit_?2[._]/, { format: "diffsynth", second: true }],
  [/^dit[._]/, { format: "diffsynth" }],
  [/^pipe(?:line)?[._]/, { format: "diffsynth" }],
  [/^(?:base_model|model|module|unet|net|wan|default)[._]/, {}],
];

/** What compilers and parallel wrappers leave anywhere in a name. */
const woven = /(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)[._]|(?<=\.)base_layer\./g;

export interface Place {
  /** The official name, e.g. `blocks.0.self_attn.q`. */
  module: string;
  format: LoraFormat;
  /** The module's name as the trained model had it: the file's spelling without wrappers; without all that is in front. */
  spellings: readonly [whole: string, bare: string];
  /** True where the prefix is one that ComfyUI reads for Wan. */
  comfy: boolean;
  /** What the name itself says of the expert. */
  expert?: Expert;
  /** Of two numbered networks the second, which is the low-noise expert; the first then is the other. */
  second?: true;
}

const comfyPrefix = /^(?:diffusion_model\.|lora_unet__?(?!_))blocks|^(?:diffusion_model\.|lora_unet_)[a-z]/;

/** The module that a tensor's name without its ending belongs to; undefined for another network's. */
export function placeOf(stem: string): Place | undefined {
  let rest = stem.replace(woven, "");
  const place: Omit<Place, "module" | "format" | "spellings" | "comfy"> & { format?: LoraFormat } = {};
  for (;;) {
    const container = containers.find(([pattern]) => pattern.test(rest));
    if (!container) break;
    const [pattern, { format, second }] = container;
    const [prefix] = pattern.exec(rest)!;
    if (/^(?:high|low)/.test(prefix)) place.expert = prefix.startsWith("high") ? "high" : "low";
    if (second) place.second = true;
    place.format ??= format;
    rest = rest.slice(prefix.length);
  }
  const found = spelled(rest);
  if (!found) return undefined;
  return {
    ...place,
    module: found.official,
    format: place.format ?? (found.diffusers ? "diffusers" : "diffsynth"),
    spellings: [stem.replace(woven, "").replace(/^(?:base_model\.model\.|module\.)+/, ""), rest],
    comfy:
      comfyPrefix.test(stem) &&
      !found.diffusers &&
      place.expert === undefined &&
      !(place.format === "kohya" && bareParameter.test(found.official)),
  };
}
