// The forms of LoRA files that Kinora writes: kohya/musubi, ComfyUI, diffusers, DiffSynth. Reading any: names.ts.
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

/** Formats without an α tensor for LoRA: whoever writes them multiplies the scale α/rank into the matrices. */
export const formatHasAlpha: Readonly<Record<LoraFormat, boolean>> = {
  kohya: true,
  peft: false,
  diffusers: false,
  diffsynth: false,
};

/**
 * What stands in front of the endings for a module of that official name. Both experts' LoRAs are called `transformer` for
 * diffusers, which is told where to put a file (load_into_transformer_2) and loads nothing from `transformer_2`.
 * Throws `lora.unknown-module` where diffusers has no such module.
 */
export function stemOf(format: LoraFormat, module: string): string {
  switch (format) {
    case "kohya":
      return `lora_unet_${module.replaceAll(".", "_")}`;
    case "peft":
      return `diffusion_model.${module}`;
    case "diffusers": {
      const theirs = ditNames.fromOfficial(module);
      if (theirs !== undefined) return `transformer.${theirs}`;
      throw new KinoraError("lora.unknown-module", `diffusers has no module for ${module}`, {
        hint: "choose another format (musubi, comfy or diffsynth), or leave the module out with `exclude`",
      });
    }
    case "diffsynth":
      return module;
  }
}

/** The stem for an adapter of LyCORIS' kinds, which the loaders of diffusers and DiffSynth do not know. Throws `lora.no-form`. */
export function lycorisStem(format: LoraFormat, module: string, kind: string): string {
  if (format === "kohya" || format === "peft") return stemOf(format, module);
  throw new KinoraError("lora.no-form", `the ${format} format has no keys for ${kind} (${module})`, {
    hint: "write it as comfy or musubi",
  });
}
