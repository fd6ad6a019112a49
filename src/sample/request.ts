// What a generation is asked for: every choice, defaults filled in from the model's row, checked before anything loads.
import { randomInt } from "node:crypto";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { seedWords } from "../base/rng/seed.ts";
import { type CheckpointFiles, type FileChoices, findCheckpointFiles } from "../models/wan/checkpoint-files.ts";
import { latentSize } from "../models/wan/geometry.ts";
import { type WanModel, type WanModelName, wanModels } from "../models/wan/params.ts";
import { defaultNegative } from "../models/wan/prompt.ts";
import { runnableModels } from "../protocol/model-media.ts";
import type { LoraExpert, SamplerName } from "../protocol/recipe.ts";
import { parseNoise } from "./noise.ts";
import { createScheduler, schedulerKinds } from "./schedulers/index.ts";

export interface LoraChoice {
  path: string;
  /** 1 is as trained; 0 leaves the model as it is. */
  strength: number;
  /** Absent: told from the file's metadata or name, both where these do not tell. */
  expert?: LoraExpert | undefined;
  /** Patterns of official module names (regular expressions) that are left out. */
  exclude?: readonly string[] | undefined;
}

/** As asked; whatever is absent comes from the model. */
export interface GenerateOptions {
  task?: string | undefined;
  prompt?: string | undefined;
  negative?: string | undefined;
  /** Path of the picture for the tasks that take one. */
  image?: string | undefined;
  size?: { width: number; height: number } | undefined;
  frames?: number | undefined;
  sampler?: string | undefined;
  steps?: number | undefined;
  shift?: number | undefined;
  /** One scale, or one per expert. */
  guidance?: number | { low: number; high: number } | undefined;
  /** Negative or absent: one is drawn. */
  seed?: bigint | undefined;
  /** Where the experts change; absent: as the checkpoint or the model says. */
  boundary?: number | undefined;
  noise?: string | undefined;
  dtype?: "f32" | "bf16" | undefined;
  loras?: readonly LoraChoice[] | undefined;
  files?: FileChoices | undefined;
  /** The MP4 to write. */
  out: string;
  /** Keep the latents beside the MP4. */
  keepLatents?: boolean | undefined;
}

export interface GenerateRequest {
  model: WanModel;
  prompt: string;
  negative: string;
  image?: string;
  /** Of the video; with a picture, only the area counts and the picture's aspect is kept. */
  size: { width: number; height: number };
  frames: number;
  sampler: SamplerName;
  steps: number;
  shift: number;
  guidance: { low: number; high: number };
  boundary?: number;
  seed: bigint;
  noise: string;
  dtype: "f32" | "bf16";
  loras: readonly LoraChoice[];
  files: CheckpointFiles;
  out: string;
  keepLatents: boolean;
}

/** The task that generate.py runs unless told otherwise. */
export const DEFAULT_TASK = "t2v-A14B";

/** Official tasks beyond Kinora's models. */
const elsewhere = ["animate-14B", "s2v-14B"];

/** Throws `generate.unknown-task` with the nearest, `generate.unsupported-task`. */
export function taskModel(task: string): WanModel {
  const model: WanModel | undefined = wanModels[task as WanModelName];
  if (model && model.lacking === undefined) return model;
  if (model || elsewhere.includes(task)) {
    throw new KinoraError(
      "generate.unsupported-task",
      `${task} cannot be run yet${model ? `: it needs ${model.lacking}` : ""}`,
      {
        expected: runnableModels.join(", "),
        hint: model ? "--task i2v-A14B makes a video from a picture" : "choose one of the others",
      },
    );
  }
  const near = nearestName(task, runnableModels);
  throw new KinoraError("generate.unknown-task", `unknown task ${task}`, {
    expected: runnableModels.join(", "),
    hint: near ? `did you mean --task ${near}?` : undefined,
  });
}

/**
 * Fills in and checks everything that needs no file to be opened; finds the files. `notes` say what was changed.
 * Throws `generate.*`, `checkpoint.*`, `size.*`, `noise.*`, `rng.seed`, `scheduler.*`.
 */
export function resolveRequest(options: GenerateOptions): { request: GenerateRequest; notes: string[] } {
  const notes: string[] = [];
  const model = taskModel(options.task ?? DEFAULT_TASK);
  const { defaults } = model;
  if (options.prompt === undefined || options.prompt.trim() === "") {
    throw new KinoraError("generate.no-prompt", "there is no prompt", { hint: `e.g. --prompt "a cat on a surfboard"` });
  }
  const frames = roundFrames(model, options.frames ?? defaults.frames, notes);
  const size = options.size ?? { width: defaults.width, height: defaults.height };
  const { image } = options;
  checkImage(model, image);
  // With a picture, the size is an area, and the sides follow from the picture.
  if (image === undefined) latentSize(model, { ...size, frames });
  const sampler = samplerOf(options.sampler ?? "unipc");
  const steps = options.steps ?? defaults.steps;
  const shift = options.shift ?? defaults.shift;
  createScheduler(sampler, { steps, shift });
  const noise = options.noise ?? "kinora";
  parseNoise(noise);
  const choices = options.files ?? {};
  if (model.boundary === undefined ? (choices.high ?? choices.low) !== undefined : choices.dit !== undefined) {
    const single = model.boundary === undefined;
    throw new KinoraError("generate.wrong-flag", `${model.name} has ${single ? "one transformer" : "two experts"}`, {
      hint: single ? "give it as --dit" : "give them as --dit_high and --dit_low",
    });
  }
  const files = findCheckpointFiles(model, choices);
  const boundary = model.boundary === undefined ? undefined : (options.boundary ?? files.boundary ?? model.boundary);
  const { seed } = options;
  if (seed !== undefined) seedWords(seed);
  const request: GenerateRequest = {
    model,
    prompt: options.prompt,
    negative: options.negative ?? defaultNegative(model),
    ...(image === undefined ? {} : { image }),
    size,
    frames,
    sampler,
    steps,
    shift,
    guidance: guidanceOf(options.guidance ?? defaults.guidance),
    ...(boundary === undefined ? {} : { boundary }),
    seed: seed === undefined || seed < 0n ? BigInt(randomInt(2 ** 32)) : seed,
    noise,
    dtype: options.dtype ?? (model.bundled ? "f32" : "bf16"),
    loras: options.loras ?? [],
    files,
    out: options.out,
    keepLatents: options.keepLatents ?? false,
  };
  checkLoraChoices(request);
  if (boundary !== undefined && boundary !== model.boundary) notes.push(`the checkpoint's own boundary: ${boundary}`);
  return { request, notes };
}

function roundFrames(model: WanModel, frames: number, notes: string[]): number {
  const [stride] = model.vae.stride;
  if (!Number.isSafeInteger(frames) || frames < 1) {
    throw new KinoraError("generate.bad-frames", "a video has at least one frame", {
      actual: `${frames}`,
      hint: `e.g. ${model.defaults.frames}; 1 makes a still`,
    });
  }
  const rounded = Math.round((frames - 1) / stride) * stride + 1;
  if (rounded !== frames) notes.push(`${frames} frames are not ${stride}n + 1: ${rounded} are made`);
  return rounded;
}

function checkImage(model: WanModel, image: string | undefined): void {
  if (image !== undefined && model.image === "none") {
    throw new KinoraError("generate.image-unused", `${model.name} takes no picture`, {
      hint: model.name === "tiny-t2v" ? "use --task tiny-ti2v" : "use --task i2v-A14B or ti2v-5B, or leave --image out",
    });
  }
  if (image === undefined && model.image === "channels") {
    throw new KinoraError("generate.image-missing", `${model.name} begins with a picture`, {
      hint: "give it with --image FILE",
    });
  }
}

function samplerOf(name: string): SamplerName {
  const found = schedulerKinds.find((kind) => kind === name);
  if (found) return found;
  const near = nearestName(name, schedulerKinds);
  throw new KinoraError("generate.unknown-sampler", `unknown sampler ${name}`, {
    expected: schedulerKinds.join(", "),
    hint: near ? `did you mean ${near}?` : undefined,
  });
}

/** A scale for each expert, from one for both or from a pair. Throws `generate.bad-guidance`. */
export function guidanceOf(guidance: number | { low: number; high: number } | readonly [low: number, high: number]): {
  low: number;
  high: number;
} {
  const scales =
    typeof guidance === "number"
      ? { low: guidance, high: guidance }
      : "low" in guidance
        ? guidance
        : { low: guidance[0], high: guidance[1] };
  if (Number.isFinite(scales.low) && Number.isFinite(scales.high)) return scales;
  throw new KinoraError("generate.bad-guidance", "a guidance scale is no number", {
    actual: `${scales.low}, ${scales.high}`,
    hint: "e.g. 5, or 3,4 for low and high noise; 1 does without guidance",
  });
}

function checkLoraChoices({ model, loras }: GenerateRequest): void {
  for (const { path, strength, expert } of loras) {
    if (!Number.isFinite(strength)) {
      throw new KinoraError("lora.bad-strength", `the strength of ${path} is no number`, {
        actual: `${strength}`,
        hint: "1 is as trained, 0.8 is weaker",
      });
    }
    if (expert !== undefined && expert !== "both" && model.boundary === undefined) {
      throw new KinoraError("lora.no-expert", `${model.name} has one transformer, no ${expert}-noise expert`, {
        hint: `leave out @${expert}`,
      });
    }
  }
}
