// What a generation is asked for: every choice, defaults filled in from the model's row, checked before anything loads.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { drawSeed, seedWords } from "../base/rng/seed.ts";
import { plural } from "../base/units.ts";
import { type CheckpointFiles, type FileChoices, findCheckpointFiles } from "../models/wan/checkpoint-files.ts";
import { type WanModel, type WanModelName, wanModels } from "../models/wan/params.ts";
import { defaultNegative } from "../models/wan/prompt.ts";
import { type BlockMemory, checkBlockMemory } from "../nn/residency.ts";
import { pictureModels, runnableModels } from "../protocol/model-media.ts";
import { fpsSchema, type LoraExpert } from "../protocol/recipe.ts";
import type { CacheSubject } from "./caches/coefficients.ts";
import { parseVaeTiling, type VaeTiling } from "./decoding.ts";
import { checkSize } from "./memory-check.ts";
import { type Sampling, type SamplingOptions, settleSampling } from "./sampling.ts";

export interface LoraChoice {
  path: string;
  /** 1 is as trained; 0 leaves the model as it is. */
  strength: number;
  /** Absent: told from the file's metadata or name, both where these do not tell. */
  expert?: LoraExpert | undefined;
  /** Patterns of official module names (regular expressions) that are left out. */
  exclude?: readonly string[] | undefined;
  /** The version of a registry that the file is of: `styles/acme/neon@v2`. */
  registry?: string | undefined;
}

/** As asked; whatever is absent comes from the model. */
export interface GenerateOptions extends SamplingOptions {
  task?: string | undefined;
  prompt?: string | undefined;
  negative?: string | undefined;
  /** Path of the picture for the tasks that take one. */
  image?: string | undefined;
  size?: { width: number; height: number } | undefined;
  frames?: number | undefined;
  /** Seconds, instead of `frames`. */
  duration?: number | undefined;
  /** Frames a second of the film; another than the model's own changes no frame, only how fast they follow. */
  fps?: number | undefined;
  /** What NAG leads away from; the negative text where absent. */
  nagNegative?: string | undefined;
  /** Negative or absent: one is drawn. */
  seed?: bigint | undefined;
  /** Where the experts change; absent: as the checkpoint or the model says. */
  boundary?: number | undefined;
  dtype?: "f32" | "bf16" | undefined;
  loras?: readonly LoraChoice[] | undefined;
  files?: FileChoices | undefined;
  /** How much of the transformer's blocks is in memory at once; changes no bit of the film. Default: all. */
  blocks?: BlockMemory | undefined;
  /** How latents are decoded: see {@link parseVaeTiling}. Default: as memory allows. */
  vaeTiling?: string | undefined;
  /** The MP4 to write. */
  out: string;
  /** Keep the latents beside the MP4. */
  keepLatents?: boolean | undefined;
}

export interface GenerateRequest extends Sampling {
  model: WanModel;
  prompt: string;
  negative: string;
  image?: string;
  /** Of the video; with a picture, only the area counts and the picture's aspect is kept. */
  size: { width: number; height: number };
  frames: number;
  /** Of the film. */
  fps: number;
  nagNegative?: string;
  boundary?: number;
  seed: bigint;
  dtype: "f32" | "bf16";
  loras: readonly LoraChoice[];
  files: CheckpointFiles;
  blocks?: BlockMemory;
  vaeTiling: VaeTiling;
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
      `${task} is not supported yet${model ? `: it needs ${model.lacking}` : ""}`,
      {
        expected: runnableModels.join(", "),
        hint: model ? "use the model i2v-A14B to make a video from a picture" : "choose one of the others",
      },
    );
  }
  const near = nearestName(task, runnableModels);
  throw new KinoraError("generate.unknown-task", `unknown task ${task}`, {
    expected: runnableModels.join(", "),
    hint: near ? `did you mean ${near}?` : "kinora generate --help lists the tasks",
  });
}

/**
 * Fills in and checks everything that needs no file to be opened; finds the files. `notes` say what was changed.
 * Throws `generate.*`, `checkpoint.*`, `memory.block-budget`, `size.*`, `noise.*`, `rng.seed`, `scheduler.*`.
 */
export function resolveRequest(options: GenerateOptions): { request: GenerateRequest; notes: string[] } {
  const notes: string[] = [];
  const model = taskModel(options.task ?? DEFAULT_TASK);
  const { defaults } = model;
  if (options.prompt === undefined || options.prompt.trim() === "") {
    throw new KinoraError("generate.no-prompt", "no prompt was given", {
      hint: 'give a `prompt`, e.g. "a cat on a surfboard"',
    });
  }
  const fps = fpsOf(options.fps ?? defaults.fps);
  const frames = framesOf(model, options, fps, notes);
  const size = options.size ?? { width: defaults.width, height: defaults.height };
  const { image } = options;
  checkImage(model, image);
  const dtype = options.dtype ?? (model.bundled ? "f32" : "bf16");
  // With a picture, the size is an area, and the sides follow from the picture.
  if (image === undefined) checkSize(model, { ...size, frames }, dtype);
  const sampling = settleSampling(options, model, cacheSubject(model, size, image));
  const { blocks, nagNegative } = options;
  if (blocks) checkBlockMemory(blocks, model.dit.layers);
  checkBoundary(options.boundary);
  const choices = options.files ?? {};
  if (model.boundary === undefined ? (choices.high ?? choices.low) !== undefined : choices.dit !== undefined) {
    const single = model.boundary === undefined;
    throw new KinoraError("generate.wrong-flag", `${model.name} has ${single ? "one transformer" : "two experts"}`, {
      hint: single ? "give it as `files.transformer`" : "give them as `files.high` and `files.low`",
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
    fps,
    ...sampling,
    ...(nagNegative === undefined ? {} : { nagNegative }),
    ...(boundary === undefined ? {} : { boundary }),
    seed: seed === undefined || seed < 0n ? drawSeed() : seed,
    dtype,
    loras: options.loras ?? [],
    files,
    ...(blocks ? { blocks } : {}),
    vaeTiling: parseVaeTiling(options.vaeTiling ?? "auto", model.vae.stride[1]),
    out: options.out,
    keepLatents: options.keepLatents ?? false,
  };
  checkLoraChoices(request);
  if (boundary !== undefined && boundary !== model.boundary) notes.push(`the checkpoint's own boundary: ${boundary}`);
  return { request, notes };
}

function fpsOf(fps: number): number {
  if (fpsSchema.safeParse(fps).success) return fps;
  throw new KinoraError("generate.bad-fps", "invalid frame rate", {
    expected: `more than 0 and at most ${fpsSchema.maxValue} fps`,
    actual: `${fps}`,
    hint: "leave it out to use the model's rate",
  });
}

/** From frames or seconds, to the nearest 4n + 1. Throws `generate.bad-frames`, `generate.bad-duration`. */
function framesOf(model: WanModel, options: GenerateOptions, fps: number, notes: string[]): number {
  const { frames, duration } = options;
  if (duration === undefined) return roundFrames(model, frames ?? model.defaults.frames, notes);
  if (!Number.isFinite(duration) || duration <= 0) {
    throw new KinoraError("generate.bad-duration", "invalid duration", {
      expected: "a number of seconds above 0",
      actual: `${duration}`,
      hint: "e.g. a `duration` of 5",
    });
  }
  const counted = roundFrames(model, Math.max(1, Math.round(duration * fps)), []);
  if (frames === undefined || frames === counted) return counted;
  throw new KinoraError("generate.contradiction", "frames and duration mean the same but have different values", {
    actual: `${plural(frames, "frame")}, and ${duration} s at ${fps} fps, which is ${counted}`,
    hint: "give one of them",
  });
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
  if (rounded !== frames) notes.push(`${frames} frames is not ${stride}n + 1: using ${rounded}`);
  return rounded;
}

function checkImage(model: WanModel, image: string | undefined): void {
  if (image !== undefined && model.image === "none") {
    throw new KinoraError("generate.image-unused", `${model.name} does not take a picture`, {
      hint: `use the model ${pictureModels.join(" or ")}, or leave out \`image\``,
    });
  }
  if (image === undefined && model.image === "channels") {
    throw new KinoraError("generate.image-missing", `${model.name} needs a first frame`, {
      hint: "give a picture as `image`",
    });
  }
}

/** What a step cache is used on. */
export const cacheSubject = (
  model: WanModel,
  { width, height }: { width: number; height: number },
  image: string | undefined,
): CacheSubject => ({ model: model.name, area: width * height, picture: image !== undefined });

function checkBoundary(boundary: number | undefined): void {
  if (boundary === undefined || (boundary >= 0 && boundary <= 1)) return;
  throw new KinoraError("generate.bad-boundary", "invalid boundary between the experts", {
    expected: "a noise level from 0 to 1",
    actual: `${boundary}`,
    hint: "leave it out to use the model's own",
  });
}

function checkLoraChoices({ model, loras }: GenerateRequest): void {
  for (const { path, strength, expert } of loras) {
    if (!Number.isFinite(strength)) {
      throw new KinoraError("lora.bad-strength", `the strength of ${path} is not a number`, {
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
