// The flags of `kinora generate`, generate.py's and Kinora's own, as a request.
import { existsSync } from "node:fs";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { listNames } from "../base/table.ts";
import type { RequestOf } from "../jobs/table.ts";
import { deviceChoices } from "../protocol/devices.ts";
import { pictureModels, runnableModels } from "../protocol/model-media.ts";
import type { LoraExpert } from "../protocol/recipe.ts";
import { isLoraReference } from "../registry/address.ts";
import { cacheRows } from "../sample/caches/index.ts";
import { guidanceRows } from "../sample/guidance/index.ts";
import { DEFAULT_NOISE, noiseForms } from "../sample/noise/index.ts";
import { DEFAULT_SAMPLER, samplers } from "../sample/schedulers/index.ts";
import { schedules } from "../sample/schedulers/schedules/index.ts";
import type { Option, Values } from "./command.ts";
import { type Named, parseChoice, parseNamed, parseNumber, parseSize, parseWholeNumber } from "./parse.ts";

type Request = RequestOf<"generate">;
type LoraChoice = Exclude<NonNullable<Request["loras"]>[number], string>;

const loraExperts: readonly LoraExpert[] = ["high", "low", "both"];

export const generateFlags = {
  task: { type: "string", value: "TASK", help: `${runnableModels.join(", ")} (default t2v-A14B)` },
  prompt: { type: "string", value: "TEXT", help: "what the video shows" },
  negative: { type: "string", value: "TEXT", help: "what to avoid (default: the official negative prompt)" },
  image: { type: "string", value: "FILE", help: `first frame, for ${pictureModels.join(", ")}` },
  size: {
    type: "string",
    value: "W*H",
    help: "width*height; with a picture, its aspect ratio at this area (default: by task)",
  },
  frame_num: { type: "string", value: "F", help: "frames, 4n + 1 (default: by task)" },
  duration: { type: "string", value: "S", help: "seconds, instead of frames" },
  fps: { type: "string", value: "R", help: "frames per second to write (default: the model's; frames are unchanged)" },
  out: { type: "string", value: "FILE.mp4", help: "video to write (default: named after task, prompt and seed)" },
  ckpt_dir: {
    type: "string",
    value: "DIR",
    help: "official or diffusers checkpoint folder; tiny-* models ship with Kinora",
  },
  dit: { type: "string", value: "FILE", help: "the transformer, for models that have one" },
  dit_high: { type: "string", value: "FILE", help: "the high-noise expert" },
  dit_low: { type: "string", value: "FILE", help: "the low-noise expert" },
  vae: { type: "string", value: "FILE", help: "the autoencoder, or a tiny one (TAEHV): faster, lower quality" },
  t5: { type: "string", value: "FILE", help: "the text encoder" },
  tokenizer: { type: "string", value: "PATH", help: "the tokenizer's file or folder" },
  lora: {
    type: "string",
    value: "FILE[:S][@E]",
    help: "LoRA file or PEFT folder, with strength S (default 1) and expert (default both); or registry:ADDRESS[@vN][:S]",
    multiple: true,
  },
  store: { type: "string", value: "STORE", help: "registry of registry: LoRAs (default: KINORA_STORE)" },
  "request-key": {
    type: "string",
    value: "KEY",
    help: "key by which a running trial of a registry: LoRA gets its share (default: the seed)",
  },
  lora_exclude: {
    type: "string",
    value: "PATTERN",
    help: "leave out modules of the LoRAs whose official names match, e.g. patch_embedding",
    multiple: true,
  },
  profile: {
    type: "string",
    value: "NAME",
    help: `official or comfy: the defaults of sampler, schedule and noise (default official)`,
  },
  sample_solver: {
    type: "string",
    value: "NAME[:K=V,…]",
    help: `${listNames(samplers)} (default ${DEFAULT_SAMPLER}); settings after a colon, e.g. dpmpp_sde:eta=0.5`,
  },
  sample_schedule: {
    type: "string",
    value: "NAME[:K=V,…]",
    help: `noise levels: ${listNames(schedules)} (default official)`,
  },
  sample_steps: { type: "string", value: "N", help: "steps (default: by task)" },
  sample_shift: { type: "string", value: "S", help: "timestep shift (default: by task)" },
  sample_guide_scale: { type: "string", value: "G|LOW,HIGH", help: "guidance scale; 1 skips the second pass" },
  guidance: {
    type: "string",
    value: "KIND[:K=V,…]",
    help: `${listNames(guidanceRows.filter(({ name }) => name !== "cfg"))}, over the guidance scale; repeat to combine`,
    multiple: true,
  },
  nag_negative: { type: "string", value: "TEXT", help: "what NAG avoids (default: the negative prompt)" },
  cache: {
    type: "string",
    value: "KIND[:K=V,…]",
    help: `reuse earlier steps: ${listNames(cacheRows)}; e.g. easycache:threshold=0.05 (default: none)`,
  },
  cache_coefficients: {
    type: "string",
    value: "FILE",
    help: "coefficients measured by --calibrate-cache, for --cache",
  },
  "calibrate-cache": { type: "boolean", help: "measure step-cache coefficients and write them next to the video" },
  seed: { type: "string", value: "N", help: "-1 picks one at random and prints it (default -1)" },
  n: { type: "string", value: "N", help: "number of videos, each with the next seed (default 1)" },
  noise: { type: "string", value: "NAME", help: `${noiseForms.join(", ")} (default ${DEFAULT_NOISE})` },
  dtype: {
    type: "string",
    value: "bf16|f32",
    help: "dtype of the large matrix products (default bf16; f32 for tiny-*)",
  },
  blocks_to_swap: {
    type: "string",
    value: "N",
    help: "transformer blocks kept out of memory until needed; the result is the same (default 0)",
  },
  vae_tiling: {
    type: "string",
    value: "HOW",
    help: "decode in tiles: auto (by free memory), off, SIZE[:OVERLAP] in pixels, comfy[:SIZE:OVERLAP:FRAMES:OVERLAP]",
  },
  device: {
    type: "string",
    value: "NAME",
    help: `${deviceChoices.join(", ")}, cuda:NUMBER (default auto; with --resume the run's own)`,
  },
  from: { type: "string", value: "FILE", help: "repeat a video from its recipe; other options override it" },
  resume: { type: "boolean", help: "resume the stopped run at --out" },
  "keep-latents": { type: "boolean", help: "keep the latents next to the video" },
  preview: { type: "boolean", help: "write a rough preview next to the video after each step" },
  preview_vae: { type: "string", value: "FILE", help: "make the previews with a tiny autoencoder (TAEHV)" },
  // generate.py's other names, and its flags that change nothing here.
  save_file: { type: "string", help: "--out", hidden: true },
  base_seed: { type: "string", help: "--seed", hidden: true },
  offload_model: { type: "string", help: "", hidden: true },
  ulysses_size: { type: "string", help: "", hidden: true },
  ring_size: { type: "string", help: "", hidden: true },
  t5_fsdp: { type: "boolean", help: "", hidden: true },
  t5_cpu: { type: "boolean", help: "", hidden: true },
  dit_fsdp: { type: "boolean", help: "", hidden: true },
  convert_model_dtype: { type: "boolean", help: "", hidden: true },
  use_prompt_extend: { type: "boolean", help: "", hidden: true },
  prompt_extend_method: { type: "string", help: "", hidden: true },
  prompt_extend_model: { type: "string", help: "", hidden: true },
  prompt_extend_target_lang: { type: "string", help: "", hidden: true },
} as const satisfies Record<string, Option>;

/** The request's options that have another name here. */
export const flagsOfOptions = {
  model: "task",
  negativePrompt: "negative",
  frames: "frame_num",
  sampler: "sample_solver",
  steps: "sample_steps",
  flowShift: "sample_shift",
  guidanceScale: "sample_guide_scale",
  cacheCoefficients: "cache_coefficients",
  blocksToSwap: "blocks_to_swap",
  vaeTiling: "vae_tiling",
  loras: "lora",
  exclude: "lora_exclude",
  requestKey: "request-key",
  checkpoint: "ckpt_dir",
  "files.transformer": "dit",
  "files.high": "dit_high",
  "files.low": "dit_low",
  "files.vae": "vae",
  "files.textEncoder": "t5",
  "files.tokenizer": "tokenizer",
} as const satisfies Record<string, keyof typeof generateFlags>;

export type GivenFlags = Values<typeof generateFlags>;

/** Flags of generate.py that change nothing here. */
export const withoutEffect = [
  "offload_model",
  "ulysses_size",
  "ring_size",
  "t5_fsdp",
  "t5_cpu",
  "dit_fsdp",
  "convert_model_dtype",
  "prompt_extend_method",
  "prompt_extend_model",
  "prompt_extend_target_lang",
] as const satisfies readonly (keyof typeof generateFlags)[];

/** As it is written: a seed of 64 bits has more digits than a number holds. */
function parseSeed(text: string): string {
  if (/^-?\d+$/.test(text.trim())) return text.trim();
  throw new KinoraError("cli.bad-number", "--seed is invalid", {
    expected: "a whole number",
    actual: text,
    hint: "e.g. --seed 42",
  });
}

/** `5`, or the official order of two, low noise first: `3,4`, `"3.0 4.0"`, `(3.0, 4.0)`. */
export function parseGuidance(text: string): number | { low: number; high: number } {
  const parts = text
    .replace(/^[\s([]+|[\s)\]]+$/g, "")
    .split(/[\s,]+/)
    .map((part) => parseNumber("--sample_guide_scale", part));
  const [low, high] = parts;
  if (low !== undefined && parts.length === 1) return low;
  if (low !== undefined && high !== undefined && parts.length === 2) return { low, high };
  throw new KinoraError("cli.bad-value", "--sample_guide_scale takes one scale, or two: low noise, high noise", {
    expected: "one number, or two separated by a comma",
    actual: text,
    hint: "e.g. 5 or 3,4",
  });
}

const numeric = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;
const loraForm = "FILE[:strength][@high|low|both]";

/** `FILE[:strength][@high|low|both]`, in either order; a colon or @ elsewhere belongs to the name. */
export function parseLora(text: string): LoraChoice {
  // The registry reads its own references.
  if (isLoraReference(text)) return { path: text };
  let path = text;
  let strength: number | undefined;
  let expert: LoraExpert | undefined;
  // What is there by its whole name is meant by it.
  while (!existsSync(path)) {
    const behind = /^(.+)([:@])([^/\\:@]*)$/s.exec(path);
    if (!behind) break;
    const [, before = "", mark, tail = ""] = behind;
    if (mark === ":" && strength === undefined && numeric.test(tail)) {
      strength = Number(tail);
    } else if (mark === "@" && expert === undefined && loraExperts.some((name) => name === tail)) {
      expert = tail as LoraExpert;
    } else if (/\.(?:safetensors|sft|pth|pt|bin)$/i.test(tail)) {
      break;
    } else throw badLora(text, mark!, tail);
    path = before;
  }
  return { path, strength: strength ?? 1, ...(expert === undefined ? {} : { expert }) };
}

function badLora(text: string, mark: string, tail: string): KinoraError {
  const near = nearestName(tail, loraExperts);
  const decimal = tail.replace(",", ".");
  const twice = mark === "@" ? near === tail : numeric.test(tail);
  const hint = twice
    ? "a LoRA takes one strength and one expert"
    : near
      ? `did you mean @${near}?`
      : numeric.test(decimal)
        ? `did you mean :${decimal}?`
        : "e.g. style.safetensors:0.8@high";
  return new KinoraError("cli.bad-value", `--lora: ${JSON.stringify(tail)}is not understood here`, {
    expected: loraForm,
    actual: text,
    hint,
  });
}

/** One value under two names; throws where they disagree. */
function either(given: GivenFlags, name: "out" | "seed", official: "save_file" | "base_seed"): string | undefined {
  const [own, theirs] = [given[name], given[official]];
  if (own !== undefined && theirs !== undefined && own !== theirs) {
    throw new KinoraError("cli.bad-arguments", `--${name} and --${official} mean the same but have different values`, {
      actual: `${own} and ${theirs}`,
      hint: "give one of them",
    });
  }
  return own ?? theirs;
}

function kindOf(option: string, text: string): { kind: string; [setting: string]: unknown } {
  const { name, settings } = parseNamed(option, text);
  return { ...settings, kind: name };
}

/** A name and its settings under the names that a request has for them. */
function namedAs<N extends string, S extends string>(
  name: N,
  settings: S,
  value: Named | undefined,
): { [K in N]?: string } & { [K in S]?: Named["settings"] } {
  if (!value) return {};
  const { length } = Object.keys(value.settings);
  return { [name]: value.name, ...(length > 0 ? { [settings]: value.settings } : {}) } as never;
}

export function readRequest(given: GivenFlags, second: string | undefined): Request {
  const { sample_guide_scale: scale, lora_exclude: exclude } = given;
  const read = <T>(text: string | undefined, parse: (text: string) => T) =>
    text === undefined ? undefined : parse(text);
  return {
    model: given.task,
    prompt: given.prompt,
    negativePrompt: given.negative,
    n: read(given.n, (text) => parseWholeNumber("--n", text)),
    image: given.image,
    size: read(given.size, parseSize),
    frames: read(given.frame_num, (text) => parseWholeNumber("--frame_num", text)),
    duration: read(given.duration, (text) => parseNumber("--duration", text)),
    fps: read(given.fps, (text) => parseNumber("--fps", text)),
    ...namedAs(
      "sampler",
      "samplerOptions",
      read(given.sample_solver, (text) => parseNamed("--sample_solver", text)),
    ),
    ...namedAs(
      "schedule",
      "scheduleOptions",
      read(given.sample_schedule, (text) => parseNamed("--sample_schedule", text)),
    ),
    profile: given.profile,
    guidance: given.guidance.length > 0 ? given.guidance.map((text) => kindOf("--guidance", text)) : undefined,
    nagNegativePrompt: given.nag_negative,
    cache: read(given.cache, (text) => kindOf("--cache", text)),
    cacheCoefficients: given.cache_coefficients,
    calibrateCache: given["calibrate-cache"],
    steps: read(given.sample_steps, (text) => parseWholeNumber("--sample_steps", text)),
    flowShift: read(given.sample_shift, (text) => parseNumber("--sample_shift", text)),
    guidanceScale: read(scale, (text) => parseGuidance(second === undefined ? text : `${text} ${second}`)),
    seed: read(either(given, "seed", "base_seed"), parseSeed),
    noise: given.noise,
    dtype: read(given.dtype, (text) => parseChoice("--dtype", text, ["bf16", "f32"])),
    blocksToSwap: read(given.blocks_to_swap, (text) => parseWholeNumber("--blocks_to_swap", text, 0)),
    vaeTiling: given.vae_tiling,
    loras: given.lora.map((text) => ({ ...parseLora(text), ...(exclude.length > 0 ? { exclude } : {}) })),
    store: given.store,
    requestKey: given["request-key"],
    checkpoint: given.ckpt_dir,
    files: {
      transformer: given.dit,
      high: given.dit_high,
      low: given.dit_low,
      vae: given.vae,
      textEncoder: given.t5,
      tokenizer: given.tokenizer,
    },
    device: given.device,
    out: either(given, "out", "save_file"),
    from: given.from,
    resume: given.resume,
    keepLatents: given["keep-latents"],
    preview: given.preview,
    previewVae: given.preview_vae,
  };
}
