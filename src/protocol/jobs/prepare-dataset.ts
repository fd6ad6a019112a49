// The job that turns films, clips and pictures into a clean training set.
import { z } from "zod";
import { modelNameSchema } from "../model-media.ts";
import type { PrepareConfigInput } from "../prepare-config.ts";
import { contract } from "./contract.ts";

const path = z.string().min(1);

/** A source that gives nothing, or not all, and why. */
export const problemSchema = z.object({
  path: z.string(),
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
});

export const prepareDatasetContract = contract({
  name: "prepare-dataset",
  request: z.strictObject({
    /** Films, pictures and folders of them. They are only read. */
    sources: z.array(path).min(1),
    /** The set's folder; made where it is missing. */
    out: path,
    /** The model to train: it gives frame rate, size step and usual size. */
    model: modelNameSchema.optional(),
    /** A settings file, TOML or JSON. */
    config: path.optional(),
    /** Settings as the file has them; they go before the file's. */
    settings: z
      .custom<PrepareConfigInput>((value) => value !== null && typeof value === "object" && !Array.isArray(value))
      .optional(),
    /** Measure, but drop nothing for its quality. */
    keepAll: z.boolean().optional(),
    /** Sources worked on at a time. Default: half the cores, at least two. */
    concurrency: z.int().positive().optional(),
  }),
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
