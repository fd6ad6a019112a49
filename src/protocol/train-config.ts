// The training configuration file (TOML) as written: shapes only. Defaults, places and what they imply: train/config/read.ts.
// Tables with a choice (optimizer, schedule, time, loss) are loose: each choice has settings of its own (train/choices.ts).
import { z } from "zod";
import { line, place, positive, seed, share, text } from "./config-values.ts";
import { sourceTable } from "./dataset-config.ts";
import { deviceChoice } from "./devices.ts";
import { samplerSchema } from "./recipe.ts";

/** Steps: of a run, and how often something happens. A month of a step each quarter of a second is as many. */
const steps = z.int().min(1).max(1e7);

/** How LoRA files name their tensors: kohya's and musubi's names, ComfyUI's (PEFT), diffusers', DiffSynth's. */
export const loraKeys = ["musubi", "comfy", "diffusers", "diffsynth"] as const;
/** One of {@link loraKeys}. */
export type LoraKeys = (typeof loraKeys)[number];

/** What the frozen weights can be held in. */
export const basePrecisions = ["f32", "bf16", "fp8"] as const;
/** One of {@link basePrecisions}. */
export type BasePrecision = (typeof basePrecisions)[number];

const floats = z.enum(["f32", "bf16"]);

/** The keys of `[dataset]` beside `path`: those of a `[[datasets]]` table with `source`, for a plain or prepared folder. */
const folderKeys = sourceTable.omit({ source: true }).shape;

/** The tables of a training configuration, each by its key. */
export const trainTables = {
  model: z.strictObject({
    /** Checked against the list of models, with the nearest name. */
    name: line,
    /** An official or diffusers folder, or one of single files. */
    checkpoint: place.optional(),
    dit: place.optional(),
    dit_high: place.optional(),
    dit_low: place.optional(),
    vae: place.optional(),
    text_encoder: place.optional(),
    tokenizer: place.optional(),
    /** What the frozen weights are held in; fp8 in blocks of 64 inputs with a scale each. */
    base: z.enum(basePrecisions).optional(),
    vae_dtype: floats.optional(),
    text_dtype: floats.optional(),
    /** Compute each block again in the backward pass instead of keeping what it computed. */
    recompute: z.boolean().optional(),
    /** Blocks of the transformer whose frozen weights are not in memory at once: they are read when their turn comes. */
    blocks_to_swap: z.int().min(0).optional(),
  }),
  dataset: z.strictObject({ path: place, ...folderKeys }),
  lora: z.looseObject({
    /** Of lora/adapters/table.ts. */
    kind: text.optional(),
    /** Patterns of official Linear names, e.g. `blocks\.\d+\.self_attn`. */
    targets: z.union([text, z.array(text).min(1)]).optional(),
  }),
  experts: z.strictObject({
    train: z.enum(["both", "high", "low"]).optional(),
    /** Steps of a cycle, in which the expert changes once: each change loads a model. */
    switch_every: steps.optional(),
    /** Share of the steps that train the high-noise expert. */
    high_share: z.number().gt(0).lt(1).optional(),
  }),
  time: z.looseObject({
    /** One of train/step/time-samplings.ts. */
    sampling: text.optional(),
    /** Noise levels that train, 0…1. */
    min: z.number().min(0).lt(1).optional(),
    max: z.number().gt(0).max(1).optional(),
    /** Levels outside are drawn again; else the whole distribution is squeezed into min…max. */
    keep_shape: z.boolean().optional(),
  }),
  loss: z.looseObject({
    /** Of train/step/losses.ts. */
    kind: text.optional(),
    weighting: text.optional(),
  }),
  conditioning: z.strictObject({
    /** Share of captions that are replaced by an empty text. */
    caption_dropout: share.optional(),
    /** TI2V: share of clips whose first frame is given. */
    first_frame: share.optional(),
  }),
  optimizer: z.looseObject({
    /** One of train/optimizers/index.ts. */
    kind: text.optional(),
    learning_rate: positive.max(1000).optional(),
    /** Largest norm of all gradients together; 0 leaves them. */
    clip: z.number().min(0).optional(),
    /** Batches whose gradients make one step. */
    accumulation: z.int().min(1).max(65_535).optional(),
  }),
  ema: z.strictObject({
    /** The share of the past after each step. */
    decay: z.number().gt(0).lt(1).optional(),
    /** A small share in the first steps. */
    rising: z.boolean().optional(),
  }),
  schedule: z.looseObject({
    /** One of train/optimizers/schedules/index.ts. */
    kind: text.optional(),
    /** Steps (a whole number), a share of all steps (below 1), or "5%". */
    warmup: z.union([z.number().min(0), z.string().regex(/^\d+(\.\d+)?\s*%$/)]).optional(),
  }),
  validation: z.strictObject({
    /** Files of the dataset that never train: a number, or a share below 1. */
    hold_out: z.number().min(0).max(1e6).optional(),
    every_steps: steps.optional(),
    /** Noise levels per expert, evenly spaced. */
    sigmas: z.int().min(1).max(1000).optional(),
  }),
  preview: z.strictObject({
    /** musubi's prompt file. */
    prompts: place,
    every_steps: steps.optional(),
    every_epochs: steps.optional(),
    at_start: z.boolean().optional(),
    /** Of prompts that name none. */
    sampler: samplerSchema.optional(),
  }),
  save: z.strictObject({
    every_steps: steps.optional(),
    every_epochs: steps.optional(),
    /** Files of steps and epochs that stay; the older ones of this run are removed. */
    keep_last: steps.optional(),
    /** How often the full state is saved, to go on from after a stop. */
    state_every_steps: steps.optional(),
    /** States that are kept, the newest included. */
    keep_states: z.int().min(1).max(1000).optional(),
    keys: z.enum(loraKeys).optional(),
    dtype: z.enum(["f32", "bf16", "f16"]).optional(),
    /** Shown by model managers. */
    title: line.optional(),
    author: line.optional(),
    description: text.optional(),
    license: line.optional(),
    tags: line.optional(),
    comment: text.optional(),
  }),
} as const;

/** A training configuration as it is written (docs/training.md). */
export const trainConfigSchema = z.strictObject({
  /** Of the files that training writes. Default: the configuration's own name. */
  name: z
    .string()
    .regex(/^[^/\\:*?"<>|\p{Cc}]+$/u, 'must be a name for files, without / \\ : * ? " < > |')
    .optional(),
  /** The run's folder. */
  output: place.optional(),
  train: z.enum(["lora", "full"]).optional(),
  steps: steps.optional(),
  epochs: z.int().min(1).max(1e6).optional(),
  seed: seed.optional(),
  /** Where latents and text embeddings are kept. */
  cache: place.optional(),
  device: deviceChoice.optional(),
  model: trainTables.model,
  /** A folder or a dataset TOML; or a table, for a folder with settings. */
  dataset: z.union([place, trainTables.dataset]),
  lora: trainTables.lora.optional(),
  experts: trainTables.experts.optional(),
  time: trainTables.time.optional(),
  loss: trainTables.loss.optional(),
  conditioning: trainTables.conditioning.optional(),
  optimizer: trainTables.optimizer.optional(),
  ema: trainTables.ema.optional(),
  schedule: trainTables.schedule.optional(),
  validation: trainTables.validation.optional(),
  preview: trainTables.preview.optional(),
  save: trainTables.save.optional(),
});
export type TrainConfig = z.infer<typeof trainConfigSchema>;
