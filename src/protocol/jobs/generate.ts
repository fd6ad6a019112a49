// The job that makes films: what is asked, what is told while it runs, what comes of it.
import { z } from "zod";
import { fpsSchema, loraExpertSchema, recipeSchema } from "../recipe.ts";
import { contract, noteEvent, seedSchema, sizeSchema } from "./contract.ts";

const count = z.int().positive();
const ratio = z.templateLiteral([z.number(), ":", z.number()]);
const pixels = z.templateLiteral([z.int(), "x", z.int()]);
const guidance = z.union([z.number(), z.looseObject({ kind: z.string() })]);
const path = z.string().min(1);

/**
 * A LoRA file or PEFT folder, its strength (1 is as trained), the expert it is for where its file does not tell, and
 * patterns of official module names to leave out.
 */
export const loraChoiceSchema = z.union([
  path,
  z.strictObject({
    path,
    strength: z.number().optional(),
    expert: loraExpertSchema.optional(),
    exclude: z.array(z.string().max(1000)).max(100).optional(),
  }),
]);

export const generateRequestSchema = z.strictObject({
  /** The model. Default `t2v-A14B`. */
  model: z.string().optional(),
  /** What the video shows. */
  prompt: z.string().optional(),
  /** What to lead away from. Default: the model's official text. */
  negativePrompt: z.string().optional(),
  /** How many videos, with the seeds `seed`, `seed` + 1, … Default 1. */
  n: count.max(10_000).optional(),

  /** Pixels, e.g. `"1280x720"`. Default: the model's usual size. */
  resolution: pixels.optional(),
  /** The same in numbers. */
  size: sizeSchema.optional(),
  /** `"16:9"`: the size of this shape that has the model's usual area. With a picture its own shape counts: `"adaptive"`. */
  aspectRatio: z.union([ratio, z.literal("adaptive")]).optional(),
  /** Frames, 4n + 1. Default: the model's usual number. */
  frames: count.optional(),
  /** Seconds at `fps`, instead of `frames`; rounded to 4n + 1 frames. */
  duration: z.number().positive().optional(),
  /** Frames a second of the film. Default: the model's. Another changes no frame, only how fast they follow. */
  fps: fpsSchema.optional(),

  /** The picture to begin with, for models that take one. */
  image: path.optional(),
  /** The same in the AI SDK's words. Models of today take a first frame only. */
  frameImages: z
    .array(z.strictObject({ image: path, frameType: z.enum(["first_frame", "last_frame"]) }))
    .max(2)
    .optional(),

  /** Up to 64 bits; negative or absent: one is drawn and told. */
  seed: seedSchema.optional(),
  /** Whose random numbers: `kinora` (the default) or one of PyTorch's, e.g. `torch-cpu`; `kinora generate --help` lists all. */
  noise: z.string().optional(),
  /** `unipc` (the default) or another; `kinora generate --help` lists all. */
  sampler: z.string().optional(),
  /** The sampler's own settings, where it has any. */
  samplerOptions: z.record(z.string(), z.json()).optional(),
  steps: count.optional(),
  /** One scale of CFG, or one for each expert; 1 does without the second pass. Other kinds by name, with their settings. */
  guidanceScale: z.union([guidance, z.strictObject({ low: guidance, high: guidance })]).optional(),
  /** The timestep shift. */
  flowShift: z.number().optional(),
  loras: z.array(loraChoiceSchema).optional(),

  /** The checkpoint's folder, official or of diffusers. tiny-* bring their own. */
  checkpoint: path.optional(),
  /** Single files, in any layout; they go before the folder's. */
  files: z
    .strictObject({
      /** Of a model with one transformer. */
      transformer: path.optional(),
      /** The high-noise expert. */
      high: path.optional(),
      /** The low-noise expert. */
      low: path.optional(),
      vae: path.optional(),
      textEncoder: path.optional(),
      tokenizer: path.optional(),
    })
    .optional(),
  /** Of the large products. Default `bf16`; `f32` for tiny-*. */
  dtype: z.enum(["bf16", "f32"]).optional(),
  /** Blocks of the transformer that are not in memory at once: they are read from the file when their turn comes. */
  blocksToSwap: z.int().min(0).optional(),
  /** The same as bytes that the blocks in memory may take. */
  blockMemory: z.int().positive().optional(),
  /** `auto`, `cpu` or `reference`. Default `auto`; with `resume` the run's own. */
  device: z.string().optional(),

  /** The MP4 to write; of several, the seed is put before the ending. Default: named after model, prompt and seed. */
  out: path.optional(),
  /** Repeats what a film's recipe, or saved latents', says; the other options go before it. */
  from: path.optional(),
  /** Goes on with the run that was stopped at `out`. */
  resume: z.boolean().optional(),
  /** Keeps the latents beside the film. */
  keepLatents: z.boolean().optional(),
  /** Writes a rough picture beside the film after each step. */
  preview: z.boolean().optional(),
});

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
  /** Stopped as asked; what is done lies in `latents`, absent where nothing was done yet. */
  z.object({
    type: z.literal("stopped"),
    path: z.string(),
    step: z.int(),
    steps: z.int(),
    latents: z.string().optional(),
  }),
  videoSchema.extend({ type: z.literal("finished") }),
]);

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
