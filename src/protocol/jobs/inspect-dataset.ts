// The job that says what one epoch of a dataset trains on: every item, the batches, and what is left out and why.
import { z } from "zod";
import { requestPath as path } from "../config-values.ts";
import { contract, requestOf, sizeSchema } from "./contract.ts";

const count = z.number();
const rect = { x: z.number(), y: z.number(), width: z.number(), height: z.number() };
const bucket = { width: z.int(), height: z.int(), frames: z.int() };

/** How far a dataset's files are read. */
export const readingEvents = [
  z.object({ type: z.literal("listed"), files: z.int() }),
  z.object({ type: z.literal("probed"), done: z.int(), files: z.int(), file: z.string() }),
] as const;
export const datasetReadingSchema = z.discriminatedUnion("type", readingEvents);
export type DatasetReading = z.infer<typeof datasetReadingSchema>;

/** Counts from 1: of its configuration. */
const dataset = z.int();

/** A dataset to look at. */
export interface InspectDatasetRequest {
  /** A dataset configuration, musubi-tuner's or Kinora's, or a folder. */
  config: string;
  /** Rate and size steps are this model's. Default: the configuration's, else what a folder was prepared for. */
  model?: string | undefined;
  /** The text encoder's tokenizer, to count captions' tokens exactly; without it they are estimated. */
  tokenizer?: string | undefined;
  /** Where to write a page with everything. */
  html?: string | undefined;
}

/** A source whose sizes are asked for. */
export interface DatasetSizesRequest {
  /** Of the clips or pictures. */
  source: { width: number; height: number };
  model: string;
  /** Longer clips are left out. Default: the model's largest clip. */
  maxTokens?: number | undefined;
  /** Only these lengths, each 4n + 1. Default: all up to the model's. */
  frames?: number[] | undefined;
  /** How far the aspect may be off, as a share. Default 0.01. */
  tolerance?: number | undefined;
  /** Of the shorter side, pixels. Default 128, or the model's own where that is shorter. */
  minSide?: number | undefined;
  /** Of the LoRA that trains. Default 32. */
  rank?: number | undefined;
  /** What the frozen weights are held in. Default bf16. */
  dtype?: "bf16" | "fp8" | "f32" | undefined;
}

/** The job that lists one epoch. */
export const inspectDatasetContract = contract({
  name: "inspect-dataset",
  request: requestOf<InspectDatasetRequest>()(
    z.strictObject({
      config: path,
      model: z.string().optional(),
      tokenizer: path.optional(),
      html: path.optional(),
    }),
  ),
  event: datasetReadingSchema,
  result: z.object({
    /** The configuration's file; absent for a folder. */
    config: z.string().optional(),
    model: z.string(),
    fps: z.number(),
    sizeMultiple: z.int(),
    /** `onPaper`: if every file gave all it is asked for; absent where that depends on each clip's length. */
    totals: z.object({ files: count, onPaper: count.optional(), items: count, batches: count }),
    datasets: z.array(
      z.object({
        dataset,
        type: z.string(),
        path: z.string(),
        resolution: z.tuple([z.int(), z.int()]).readonly(),
        enableBucket: z.boolean(),
        bucketNoUpscale: z.boolean(),
        batchSize: z.int(),
        repeats: z.int(),
        /** How clips are cut, in words; absent for pictures. */
        extraction: z.string().optional(),
        files: count,
        onPaper: count.optional(),
        items: count,
        batches: count,
        frames: count,
        buckets: z.array(z.object({ ...bucket, items: count, batches: count })),
      }),
    ),
    items: z.array(
      z.object({
        /** Steady over runs: dataset, file, first frame, frames. */
        id: z.string(),
        dataset,
        name: z.string(),
        file: z.string(),
        kind: z.string(),
        firstFrame: z.int(),
        frames: z.int(),
        /** First and last frame of the file itself; they differ where frames are skipped. */
        sourceRange: z.tuple([z.number(), z.number()]).readonly(),
        skipped: z.object({ from: z.number(), to: z.number() }).optional(),
        fps: z.number().optional(),
        source: z.object({ width: z.number(), height: z.number() }),
        /** Of a set that was prepared in place: the part of the file that is `source`. Seconds, pixels. */
        cut: z.object({ in: z.number(), out: z.number(), fps: z.number(), crop: z.object(rect).optional() }).optional(),
        bucket: z.object(bucket),
        crop: z.object({ ...rect, scale: z.number(), lost: z.number() }),
        caption: z.string().optional(),
        captionFile: z.string().optional(),
        control: z.string().optional(),
        repeats: z.int(),
      }),
    ),
    /** In order; training shuffles them. */
    batches: z.array(z.object({ dataset, ...bucket, items: z.array(z.string()) })),
    /** What gave less than it was asked for. */
    drops: z.array(
      z.object({
        dataset,
        name: z.string(),
        file: z.string(),
        code: z.string(),
        reason: z.string(),
        frames: z.number().optional(),
        /** Items per epoch that are missing for it. */
        items: count,
      }),
    ),
    /** Files that give no item at all to their dataset. */
    withoutItems: z.array(z.object({ dataset, name: z.string(), file: z.string(), reasons: z.array(z.string()) })),
    /** What a training run stops at. */
    refusals: z.array(z.object({ code: z.string(), message: z.string(), hint: z.string().optional() })),
    warnings: z.array(
      z.object({
        code: z.string(),
        message: z.string(),
        hint: z.string().optional(),
        dataset: dataset.optional(),
        files: z.array(z.string()),
      }),
    ),
  }),
});

/** The job that lists the sizes near a source's shape. */
export const datasetSizesContract = contract({
  name: "dataset-sizes",
  request: requestOf<DatasetSizesRequest>()(
    z.strictObject({
      source: sizeSchema,
      model: z.string(),
      maxTokens: z.int().positive().optional(),
      frames: z.array(z.int().positive()).min(1).optional(),
      tolerance: z.number().min(0).max(1).optional(),
      minSide: z.int().positive().optional(),
      rank: z.int().positive().optional(),
      dtype: z.enum(["bf16", "fp8", "f32"]).optional(),
    }),
  ),
  event: z.object({ type: z.literal("planned"), done: z.int(), of: z.int() }),
  result: z.object({
    source: sizeSchema,
    model: z.string(),
    /** Sides are multiples of it. */
    step: z.int(),
    maxTokens: z.int(),
    rank: z.int(),
    dtype: z.string(),
    /** The model's usual clip, to which costs are relative. */
    usual: z.string(),
    sizes: z.array(
      z.object({
        width: z.int(),
        height: z.int(),
        frames: z.int(),
        tokens: z.int(),
        /** Share of the source cut away. */
        cropped: z.number(),
        /** Arithmetic of a step, times that of the model's usual clip. */
        relativeCost: z.number(),
        stepFlops: z.number(),
        peakBytes: z.number(),
        cards: z.array(z.object({ gigabytes: z.number(), fits: z.boolean(), spareBytes: z.number() })),
      }),
    ),
  }),
});
