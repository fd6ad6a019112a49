// The job that turns films, clips and pictures into a clean training set.
import { z } from "zod";
import { requestPath as path } from "../config-values.ts";
import { type ModelName, modelNameSchema } from "../model-media.ts";
import type { PrepareConfigInput } from "../prepare-config.ts";
import { contract, requestOf } from "./contract.ts";

/** A source that gives nothing, or not all, and why. */
export const problemSchema = z.object({
  path: z.string(),
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
});

/** A set to prepare. */
export interface PrepareDatasetRequest {
  /** Films, pictures and folders of them. They are only read. */
  sources: string[];
  /** The set's folder; made where it is missing. */
  out: string;
  /** The model to train: it gives frame rate, size step and usual size. */
  model?: ModelName | undefined;
  /** A settings file, TOML or JSON. */
  config?: string | undefined;
  /** Settings as the file has them (docs/dataset.md); they go before the file's. */
  settings?: PrepareConfigInput | undefined;
  /** Measure, but drop nothing for its quality. */
  keepAll?: boolean | undefined;
  /** Sources worked on at a time. Default: half the cores, at least two. */
  concurrency?: number | undefined;
}

/** The job that turns media into a clean set. */
export const prepareDatasetContract = contract({
  name: "prepare-dataset",
  request: requestOf<PrepareDatasetRequest>()(
    z.strictObject({
      sources: z.array(path).min(1),
      out: path,
      model: modelNameSchema.optional(),
      config: path.optional(),
      settings: z
        .custom<PrepareConfigInput>((value) => value !== null && typeof value === "object" && !Array.isArray(value))
        .optional(),
      keepAll: z.boolean().optional(),
      concurrency: z.int().positive().optional(),
    }),
  ),
  event: z.discriminatedUnion("type", [
    z.object({ type: z.literal("scanned"), films: z.int(), pictures: z.int(), others: z.int() }),
    problemSchema.extend({ type: z.literal("problem") }),
    z.object({
      type: z.literal("progress"),
      stage: z.enum(["open", "analyse", "render"]),
      /** Sources (open), seconds of film (analyse) or items (render). */
      done: z.number(),
      total: z.number(),
      current: z.string(),
      /** Seconds; absent while nothing is known. */
      eta: z.number().optional(),
    }),
  ]),
  result: z.object({
    out: z.string(),
    manifest: z.string(),
    report: z.string(),
    videos: z.int(),
    images: z.int(),
    /** Seconds of film kept. */
    seconds: z.number(),
    dropped: z.int(),
    /** Ids of dropped items by reason; one item may have several. */
    reasons: z.record(z.string(), z.array(z.string())),
    problems: z.array(problemSchema),
    /** Items without a caption. */
    uncaptioned: z.int(),
    notes: z.array(z.string()),
    /** What would make more of the set. */
    hints: z.array(z.string()),
    /** What this run had to do; all 0 where everything was there. */
    work: z.object({ analysed: z.int(), rendered: z.int(), written: z.int() }),
  }),
});
