// The job that makes films: its request, its events and its result.
import { z } from "zod";
import { requestPath as path, seedSchema } from "../config-values.ts";
import { fpsSchema, loraExpertSchema, recipeSchema } from "../recipe.ts";
import { contract, noteEvent, requestOf, sizeSchema } from "./contract.ts";

const count = z.int().positive();
const ratio = z.templateLiteral([z.number(), ":", z.number()]);
const pixels = z.templateLiteral([z.int(), "x", z.int()], { error: 'must be WIDTHxHEIGHT, e.g. "1280x720"' });
const choice = z.looseObject({ kind: z.string() });
const guidance = z.union([z.number(), choice]);

/** A LoRA of a generation. */
export interface LoraChoice {
  /** Its file, a PEFT folder, or `registry:styles/acme/neon[@v2|@current|@trial][:strength]`. */
  path: string;
  /** 1, the default, is as it was trained. Of a registry's LoRA the default is what its version recommends. */
  strength?: number | undefined;
  /** The expert it is for, where its file does not say. */
  expert?: "high" | "low" | "both" | undefined;
  /** Patterns of official module names that are left out. */
  exclude?: string[] | undefined;
}

/** A scale of classifier-free guidance, or another kind by its name, with its settings. */
export type GuidanceChoice = number | { kind: string; [setting: string]: unknown };

/** Single files of a checkpoint, in any layout. */
export interface CheckpointFileChoices {
  /** Of a model with one transformer. */
  transformer?: string | undefined;
  /** The high-noise expert. */
  high?: string | undefined;
  /** The low-noise expert. */
  low?: string | undefined;
  vae?: string | undefined;
  textEncoder?: string | undefined;
  tokenizer?: string | undefined;
}

/**
 * What a generation is asked for. The names of the AI SDK's video model (`prompt`, `n`, `aspectRatio`, `resolution`,
 * `duration`, `fps`, `seed`, `frameImages`) work as well as Wan's own; two that mean the same must not contradict each other.
 */
export interface GenerateRequest {
  /** The model, e.g. `ti2v-5B`. Default `t2v-A14B`. */
  model?: string | undefined;
  /** What the video shows. */
  prompt?: string | undefined;
  /** What to avoid. Default: the model's official text. */
  negativePrompt?: string | undefined;
  /** How many videos, with the seeds `seed`, `seed` + 1, …; each has its seed in its name. Default 1. */
  n?: number | undefined;

  /** Pixels, e.g. `"1280x720"`. With a picture its area counts. Default: the model's usual size. */
  resolution?: `${number}x${number}` | undefined;
  /** The same in numbers. */
  size?: { width: number; height: number } | undefined;
  /**
   * `"16:9"`: the size of this shape that has the model's usual area; with a `resolution` it must match its shape.
   * `"adaptive"`: a picture's own shape, which it has anyway.
   */
  aspectRatio?: `${number}:${number}` | "adaptive" | undefined;
  /** Frames, 4n + 1. Default: the model's usual number. */
  frames?: number | undefined;
  /** Seconds at `fps`, instead of `frames`; rounded to 4n + 1 frames. */
  duration?: number | undefined;
  /** Frames per second of the video. Default: the model's. Another value changes no frame, only the speed. */
  fps?: number | undefined;

  /** The picture to begin with, for models that take one: a path. */
  image?: string | undefined;
  /** The same in the AI SDK's words. Models of today take a first frame only. */
  frameImages?: { image: string; frameType: "first_frame" | "last_frame" }[] | undefined;

  /** Up to 64 bits, beyond 2^53 as a decimal string; negative or absent: one is drawn, and reported. */
  seed?: number | string | undefined;
  /** Whose random numbers: `kinora`, the default, or one of PyTorch's, e.g. `torch-cpu`. */
  noise?: string | undefined;
  /** `unipc`, the default, `dpm++`, `euler` or another of the table. */
  sampler?: string | undefined;
  /** The sampler's own settings, where it has any. */
  samplerOptions?: Record<string, z.core.util.JSONType> | undefined;
  /** Default: the model's. */
  steps?: number | undefined;
  /** One for the complete run, or one for each expert; 1 does without the second pass. Default: the model's. */
  guidanceScale?: GuidanceChoice | { low: GuidanceChoice; high: GuidanceChoice } | undefined;
  /** Kinds of guidance over that scale, or in its place, one after the other, e.g. `{ kind: "slg", blocks: [9] }`. */
  guidance?: { kind: string; [setting: string]: unknown }[] | undefined;
  /** What NAG leads away from. Default: the negative prompt. */
  nagNegativePrompt?: string | undefined;
  /** Answers some passes from what earlier steps computed, e.g. `{ kind: "easycache", threshold: 0.05 }`. Default: none. */
  cache?: { kind: string; [setting: string]: unknown } | undefined;
  /** A file of `calibrateCache`: what the cache goes by for this model. */
  cacheCoefficients?: string | undefined;
  /** Measures what step caches go by, computing every pass, and writes it next to the video. */
  calibrateCache?: boolean | undefined;
  /** `official`, the default, or `comfy`: what sampler, schedule and noise are unless given. */
  profile?: string | undefined;
  /** Of noise levels: `official`, `simple`, `beta`, `distilled` or another of the table. Default: the profile's. */
  schedule?: string | undefined;
  /** The schedule's own settings, where it has any. */
  scheduleOptions?: Record<string, z.core.util.JSONType> | undefined;
  /** The timestep shift. Default: the model's. */
  flowShift?: number | undefined;
  loras?: (string | LoraChoice)[] | undefined;
  /** The registry of `registry:` LoRAs: a folder, or `s3://BUCKET/PREFIX`. Default: `KINORA_STORE`. */
  store?: string | undefined;
  /** Decides whether a running trial of a `registry:` LoRA gets this request. Default: the seed. */
  requestKey?: string | undefined;

  /** The checkpoint's folder, official or of diffusers. tiny-* bring their own. */
  checkpoint?: string | undefined;
  /** Single files; they go before the folder's. */
  files?: CheckpointFileChoices | undefined;
  /** Of the large products. Default `bf16`; `f32` for tiny-*. */
  dtype?: "bf16" | "f32" | undefined;
  /** Blocks of the transformer that are not in memory at once: they are read from the file when their turn comes. */
  blocksToSwap?: number | undefined;
  /** The same as bytes that the blocks in memory may take. */
  blockMemory?: number | undefined;
  /**
   * How latents are decoded: `auto` (tiles where memory asks for them), `off`, tiles of `SIZE` or `SIZE:OVERLAP` pixels, or
   * `comfy[:SIZE:OVERLAP:FRAMES:OVERLAP]`, which is ComfyUI's tiled decoding. Default `auto`.
   */
  vaeTiling?: string | undefined;
  /** `auto`, `cpu` or `reference`. Default `auto`; with `resume` the run's own. */
  device?: string | undefined;

  /** The MP4 to write; of several, the seed is put before the ending. Default: named after model, prompt and seed. */
  out?: string | undefined;
  /** Repeats what a film's recipe, or saved latents', says; the other options go before it. */
  from?: string | undefined;
  /** Resumes the run that was stopped at `out`. */
  resume?: boolean | undefined;
  /** Keeps the latents next to the video. */
  keepLatents?: boolean | undefined;
  /** Writes a rough picture next to the video after each step. */
  preview?: boolean | undefined;
  /** A tiny autoencoder's file (TAEHV) that makes these pictures. */
  previewVae?: string | undefined;
}

const loraChoice = z.strictObject({
  path,
  strength: z.number().optional(),
  expert: loraExpertSchema.optional(),
  exclude: z.array(z.string().max(1000)).max(100).optional(),
});

const files = z.strictObject({
  transformer: path.optional(),
  high: path.optional(),
  low: path.optional(),
  vae: path.optional(),
  textEncoder: path.optional(),
  tokenizer: path.optional(),
});

export const generateRequestSchema = requestOf<GenerateRequest>()(
  z.strictObject({
    model: z.string().optional(),
    prompt: z.string().optional(),
    negativePrompt: z.string().optional(),
    n: count.max(10_000).optional(),
    resolution: pixels.optional(),
    size: sizeSchema.optional(),
    aspectRatio: z.union([ratio, z.literal("adaptive")], { error: 'must be e.g. "16:9", or "adaptive"' }).optional(),
    frames: count.optional(),
    duration: z.number().positive().optional(),
    fps: fpsSchema.optional(),
    image: path.optional(),
    frameImages: z
      .array(z.strictObject({ image: path, frameType: z.enum(["first_frame", "last_frame"]) }))
      .max(2)
      .optional(),
    seed: seedSchema.optional(),
    noise: z.string().optional(),
    sampler: z.string().optional(),
    samplerOptions: z.record(z.string(), z.json()).optional(),
    steps: count.optional(),
    guidanceScale: z.union([guidance, z.strictObject({ low: guidance, high: guidance })]).optional(),
    guidance: z.array(choice).max(8).optional(),
    nagNegativePrompt: z.string().optional(),
    cache: choice.optional(),
    cacheCoefficients: path.optional(),
    calibrateCache: z.boolean().optional(),
    profile: z.string().optional(),
    schedule: z.string().optional(),
    scheduleOptions: z.record(z.string(), z.json()).optional(),
    flowShift: z.number().optional(),
    loras: z.array(z.union([path, loraChoice])).optional(),
    store: path.optional(),
    requestKey: z.string().max(1000).optional(),
    checkpoint: path.optional(),
    files: files.optional(),
    dtype: z.enum(["bf16", "f32"]).optional(),
    blocksToSwap: z.int().min(0).optional(),
    blockMemory: z.int().positive().optional(),
    vaeTiling: z.string().optional(),
    device: z.string().optional(),
    out: path.optional(),
    from: path.optional(),
    resume: z.boolean().optional(),
    keepLatents: z.boolean().optional(),
    preview: z.boolean().optional(),
    previewVae: path.optional(),
  }),
);

export const generateStageSchema = z.enum(["check", "hash", "text", "image", "load", "sample", "decode"]);
export type GenerateStage = z.infer<typeof generateStageSchema>;

/** A stage begins; `detail` is in words. */
const stageEvent = z.object({ type: z.literal("stage"), stage: generateStageSchema, detail: z.string() });
/** How far a stage is that has no steps; what it comes to is not always known. */
const progressEvent = z.object({
  type: z.literal("progress"),
  stage: generateStageSchema,
  done: z.number(),
  total: z.number().optional(),
  unit: z.enum(["bytes", "frames"]),
});
/** Everything is checked and the work begins. */
const recipeEvent = z.object({ type: z.literal("recipe"), recipe: recipeSchema });
const stepEvent = z.object({
  type: z.literal("step"),
  /** Steps done and in all. */
  step: z.int(),
  steps: z.int(),
  expert: z.enum(["high", "low"]),
  timestep: z.number(),
  /** Evaluations of the model in this step: 2 with guidance. */
  passes: z.int(),
  /** What the step cache did with each pass, where there is one. */
  cache: z
    .array(
      z.object({
        pass: z.string(),
        /** Answered from the cache. */
        skip: z.boolean(),
        /** What was compared with the threshold; absent where nothing was. */
        value: z.number().optional(),
      }),
    )
    .optional(),
  seconds: z.number(),
  /** Seconds per step so far, and until the last step. */
  secondsPerStep: z.number(),
  etaSeconds: z.number(),
});

/** One film of a run that is done. */
export const videoSchema = z.object({
  /** The MP4. */
  path: z.string(),
  bytes: z.number(),
  frames: z.int(),
  /** Kept latents, where asked for. */
  latents: z.string().optional(),
  seconds: z.number(),
  /** Most bytes of the device at once. */
  peakBytes: z.number(),
  recipe: recipeSchema,
});
export type Video = z.infer<typeof videoSchema>;

export const generateEventSchema = z.discriminatedUnion("type", [
  /** A film begins: number `index`, from 0, of `n`. */
  z.object({ type: z.literal("video"), index: z.int(), n: z.int(), path: z.string(), seed: seedSchema }),
  stageEvent,
  noteEvent,
  progressEvent,
  recipeEvent,
  stepEvent,
  /** A rough picture of where the latents are going was written: a PNG. */
  z.object({ type: z.literal("preview"), step: z.int(), path: z.string() }),
  /** Stopped as asked; what is done is in `latents`, absent where nothing was done yet. */
  z.object({
    type: z.literal("stopped"),
    path: z.string(),
    step: z.int(),
    steps: z.int(),
    latents: z.string().optional(),
  }),
  videoSchema.extend({ type: z.literal("finished") }),
]);

/** The job that makes films. */
export const generateContract = contract({
  name: "generate",
  request: generateRequestSchema,
  event: generateEventSchema,
  result: z.object({
    /** The first of `videos`. */
    video: videoSchema,
    videos: z.array(videoSchema).min(1),
  }),
});

export type StageEvent = z.infer<typeof stageEvent>;
export type ProgressEvent = z.infer<typeof progressEvent>;
export type RecipeEvent = z.infer<typeof recipeEvent>;
export type StepEvent = z.infer<typeof stepEvent>;
export type NoteEvent = z.infer<typeof noteEvent>;
