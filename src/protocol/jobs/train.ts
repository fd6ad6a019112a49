// The jobs around training: the run itself, and what a configuration comes to before it.
import { z } from "zod";
import { isRow } from "../../base/rows.ts";
import { requestPath } from "../config-values.ts";
import type { TrainConfig } from "../train-config.ts";
import { previewLineSchema, stepLineSchema, validationLineSchema } from "../train-log.ts";
import { contract, noEvents, noteEvent, requestOf } from "./contract.ts";
import { datasetReadingSchema } from "./inspect-dataset.ts";

const expert = z.enum(["high", "low"]);

/** A training configuration, and what goes before it. */
export interface RunRequest {
  /** The TOML file's path, or what it would hold. */
  config: string | TrainConfig;
  /** For a configuration that is not a file: the folder its paths are relative to. Default: the working folder. */
  base?: string | undefined;
  /** Settings that come before the file's, as a person types them: `optimizer.learning_rate`, `2e-4`. */
  set?: { key: string; value: string }[] | undefined;
}

export const runRequest = {
  config: z.union([requestPath, z.custom<TrainConfig>(isRow)], {
    error: "must be the path of a configuration file, or an object with what it would hold",
  }),
  base: requestPath.optional(),
  set: z.array(z.strictObject({ key: z.string(), value: z.string() })).optional(),
};
const runRequestSchema = requestOf<RunRequest>()(z.strictObject(runRequest));

const kind = z.enum(["latents", "texts"]);

/** What the caches say while they are built. */
const cachingSchema = z.discriminatedUnion("type", [
  /** An entry was looked for; hashing new files takes its time. */
  z.object({ type: z.literal("looked"), kind, done: z.int(), of: z.int() }),
  /** Texts are longer than the `length` tokens that the model reads; `warning` says so. */
  z.object({
    type: z.literal("cut"),
    warning: z.string(),
    texts: z.array(z.object({ text: z.string(), tokens: z.int() })).readonly(),
    length: z.int(),
  }),
  /** An entry was not as it was written: it is rebuilt. */
  z.object({ type: z.literal("damaged"), kind, name: z.string() }),
  /** Something that was missing was made; `reused` entries were there. */
  z.object({ type: z.literal("cached"), kind, done: z.int(), of: z.int(), reused: z.int(), name: z.string() }),
]);

/** How far the dataset's files are read. */
export const datasetEvent = z.object({ type: z.literal("dataset"), event: datasetReadingSchema });
const hashingEvent = z.object({
  type: z.literal("hashing"),
  path: z.string(),
  bytesDone: z.number(),
  bytesTotal: z.number(),
});
const cacheEvent = z.object({ type: z.literal("cache"), event: cachingSchema });

export const trainEventSchema = z.discriminatedUnion("type", [
  noteEvent,
  datasetEvent,
  hashingEvent,
  cacheEvent,
  /** The dataset is laid out and cached. */
  z.object({
    type: z.literal("ready"),
    /** Of the whole run. */
    steps: z.int(),
    /** Batches per epoch; a step takes `accumulation` of them. */
    batchesPerEpoch: z.int(),
    /** Steps done before, by the run that is resumed. */
    resumed: z.int(),
    items: z.int(),
    heldOut: z.int(),
    /** The model has two experts, which are named. */
    experts: z.boolean(),
    warnings: z.array(z.string()),
    /** Files that give less than they were asked for: how many, and the first of them. */
    lost: z.object({ files: z.int(), first: z.array(z.object({ name: z.string(), reason: z.string() })) }),
  }),
  z.object({ type: z.literal("loading"), expert }),
  z.object({ type: z.literal("loaded"), expert, parameters: z.int(), tensors: z.int() }),
  /** `left`: seconds, by the last steps. */
  z.object({ type: z.literal("step"), line: stepLineSchema, steps: z.int(), left: z.number() }),
  z.object({ type: z.literal("validating"), expert, items: z.int() }),
  z.object({ type: z.literal("validation"), line: validationLineSchema }),
  /** `done` of `of` sampling steps of all films of the round together. */
  z.object({ type: z.literal("previewing"), prompts: z.int(), done: z.int(), of: z.int() }),
  z.object({ type: z.literal("preview"), line: previewLineSchema }),
  z.object({ type: z.literal("saved"), step: z.int(), files: z.array(z.string()) }),
  z.object({ type: z.literal("state"), step: z.int() }),
  /** Stopped as asked, with its state saved after `step`. */
  z.object({ type: z.literal("stopped"), step: z.int(), steps: z.int(), output: z.string() }),
]);

/** The job that trains. */
export const trainContract = contract({
  name: "train",
  request: z.strictObject({
    ...runRequest,
    /** Resumes from the saved state after this many steps instead of the newest. */
    from: z.int().min(1).optional(),
  }),
  event: trainEventSchema,
  result: z.object({
    end: z.literal("finished"),
    step: z.int(),
    steps: z.int(),
    /** The run's folder. */
    output: z.string(),
    /** Final files, and a page about the run, within the output folder. */
    files: z.array(z.string()),
    page: z.string(),
    peakBytes: z.number(),
  }),
});

/** The job that says what the settings of a run come to. */
export const explainRunContract = contract({
  name: "explain-run",
  request: runRequestSchema,
  event: z.discriminatedUnion("type", [noteEvent, datasetEvent]),
  result: z.object({
    settings: z.array(
      z.object({
        key: z.string(),
        value: z.string(),
        /** Where it came from. */
        from: z.string(),
        note: z.string().optional(),
        /** Why it has no effect. */
        idle: z.string().optional(),
      }),
    ),
    /** What follows from them, a line each. */
    implied: z.array(z.string()),
    /** Files that give less than they were asked for, and why. */
    dropped: z.array(z.string()),
    warnings: z.array(z.string()),
  }),
});

/** A first configuration for the data of a folder. */
export const initRunContract = contract({
  name: "init-run",
  request: z.strictObject({
    /** The file to write; it must not be there. */
    file: requestPath,
  }),
  event: noEvents,
  result: z.object({
    file: z.string(),
    /** As it is written there. */
    dataset: z.string(),
    /** What lies there; absent where nothing was found, and a name stands there to be replaced. */
    kind: z.enum(["prepared", "captioned"]).optional(),
    model: z.string(),
  }),
});
