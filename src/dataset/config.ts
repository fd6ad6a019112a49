// From a dataset configuration file (musubi's TOML or JSON, or Kinora's form) to settled values for every dataset.
// Reads the file only; the folders it names are looked at in sources.ts.
import { resolve } from "node:path";
import type { ZodType } from "zod";
import { KinoraError } from "../base/errors.ts";
import { isRow, type Row } from "../base/rows.ts";
import { nearestKey, unknownKey } from "../io/config/keys.ts";
import { type ConfigKind, parseConfig, readConfigFile } from "../io/config/read.ts";
import { invalidValues } from "../io/config/values.ts";
import {
  type DatasetGoal,
  foreignDatasetKeys,
  type GeneralTable,
  generalTable,
  type ImageTable,
  imageTable,
  otherArchitectureKeys,
  type SourceTable,
  sourceTable,
  type VideoTable,
  videoTable,
} from "../protocol/dataset-config.ts";
import { type Extraction, targetFrames } from "./frames.ts";

export type SourceType = "image-directory" | "image-jsonl" | "video-directory" | "video-jsonl" | "folder";

export interface VideoSettings {
  extraction: Extraction;
  /** 4n+1 lengths, ascending. */
  lengths: number[];
  stride: number;
  sample: number;
  /** Undefined: the model's own length (Kinora's form). */
  maxFrames: number | undefined;
  /** "auto": each file's own rate. Undefined: every frame is used, whatever the rate. */
  sourceFps: number | "auto" | undefined;
}

/** One [[datasets]] table with everything settled. */
export interface DatasetSection {
  /** From 0, in the order of the file. */
  index: number;
  type: SourceType;
  /** The folder or JSONL file, as written. */
  path: string;
  /** Which kinds of file the folder is read for. */
  media: { images: boolean; videos: boolean };
  /** Undefined (Kinora's form): as the folder was prepared, else the model's usual size. */
  resolution: [number, number] | undefined;
  enableBucket: boolean;
  bucketNoUpscale: boolean;
  /** With its dot as written, e.g. ".txt". */
  captionExtension: string;
  /** Musubi leaves out images without a caption file where an extension is given. */
  captionRequired: boolean;
  batchSize: number;
  repeats: number;
  cacheDirectory: string | undefined;
  controlDirectory: string | undefined;
  trigger: string | undefined;
  video: VideoSettings;
}

/** A setting that will not do what its reader may think. */
export interface ConfigNote {
  code: string;
  message: string;
  /** Index of the dataset; undefined for the file as a whole. */
  dataset?: number;
}

/** A dataset configuration, read and checked. */
export interface DatasetConfig {
  /** The file read; undefined where the configuration was made by code. */
  file: string | undefined;
  /** The model's name as written. */
  model: string | undefined;
  goal: DatasetGoal | undefined;
  datasets: DatasetSection[];
  notes: ConfigNote[];
}

export const datasetConfig: ConfigKind = {
  code: "dataset-config",
  name: "the dataset configuration",
  hint: "kinora dataset inspect --help shows what such a file holds",
};

const fail = (message: string, detail: { hint?: string; expected?: string; actual?: string; cause?: unknown } = {}) =>
  new KinoraError("dataset-config.invalid", message, { hint: datasetConfig.hint, ...detail });

/**
 * Reads `file` (.toml or .json).
 * @throws KinoraError `dataset-config.unreadable`, `dataset-config.syntax` (with the line),
 *   `dataset-config.unknown-key` (with the nearest known key), `dataset-config.invalid`.
 */
export async function readDatasetConfig(file: string): Promise<DatasetConfig> {
  const { root, notices } = await readConfigFile(datasetConfig, file);
  const config = settleDatasetConfig(root, file);
  const notes = notices.map((message) => ({ code: "config.encoding", message }));
  return { ...config, notes: [...notes, ...config.notes] };
}

export function parseDatasetConfig(
  content: string,
  { file, format = "toml" }: { file?: string; format?: "toml" | "json" } = {},
): DatasetConfig {
  return settleDatasetConfig(parseConfig(datasetConfig, content, { where: file ?? datasetConfig.name, format }), file);
}

/** The configuration of one folder with Kinora's defaults, as `source = folder` alone would give. */
export function folderConfig(folder: string, more: Omit<SourceTable, "source"> = {}): DatasetConfig {
  return settleDatasetConfig({ datasets: [{ source: folder, ...more }] });
}

/** Checks and settles a parsed file: defaults of [general], then musubi's (or, for `source`, Kinora's) own. */
export function settleDatasetConfig(root: Row, file?: string): DatasetConfig {
  const notes: ConfigNote[] = [];
  for (const key of Object.keys(root)) {
    if (key === "general" || key === "datasets") continue;
    const inside = [...Object.keys(generalTable.shape), ...tableKeys.video, ...tableKeys.image, ...tableKeys.source];
    const near = nearestKey(key, ["general", "datasets", ...inside]);
    throw unknownKey(
      datasetConfig,
      key,
      "at the top of the file",
      inside.includes(key)
        ? `put it under ${key in generalTable.shape ? "[general] or " : ""}[[datasets]]`
        : (foreign(key) ?? (near && `did you mean ${near}?`)),
    );
  }
  const general = checkTable<GeneralTable>(generalTable, root.general ?? {}, "[general]", undefined, notes);
  if (isRow(root.datasets))
    throw fail("[datasets] must be a list of tables", { hint: "write [[datasets]], with two brackets" });
  if (!Array.isArray(root.datasets) || root.datasets.length === 0)
    throw fail("the configuration has no dataset", { hint: "add a [[datasets]] table with a folder to read" });
  const datasets = root.datasets.map((table: unknown, index) => section(table, index, general, notes));
  checkCaches(datasets, notes);
  return { file, model: general.model, goal: general.goal, datasets, notes };
}

const sourceKeys = {
  image_directory: "image-directory",
  image_jsonl_file: "image-jsonl",
  video_directory: "video-directory",
  video_jsonl_file: "video-jsonl",
  source: "folder",
} as const satisfies Record<string, SourceType>;
type SourceKey = keyof typeof sourceKeys;

const tableKeys = {
  image: Object.keys(imageTable.shape),
  video: Object.keys(videoTable.shape),
  source: Object.keys(sourceTable.shape),
};

function section(table: unknown, index: number, general: GeneralTable, notes: ConfigNote[]): DatasetSection {
  const name = `[[datasets]] number ${index + 1}`;
  if (!isRow(table)) throw fail(`${name} is not a table`);
  const given = (Object.keys(sourceKeys) as SourceKey[]).filter((key) => table[key] !== undefined);
  if (given.length > 1)
    throw fail(`${name} has ${given.join(" and ")}`, {
      hint: "a dataset reads from one place: use one table per place",
    });
  const key = given[0];
  if (key === undefined) {
    const wrong = Object.keys(table).find((known) => ![...tableKeys.image, ...tableKeys.video].includes(known));
    const near = wrong && nearestKey(wrong, Object.keys(sourceKeys));
    const hint = wrong && (foreign(wrong) ?? (near && `did you mean ${near}?`));
    if (wrong && hint) throw unknownKey(datasetConfig, wrong, `in ${name}`, hint);
    throw fail(`${name} does not say where to read from`, { expected: Object.keys(sourceKeys).join(", ") });
  }
  if (key === "image_directory" || key === "image_jsonl_file") {
    const image = checkTable<ImageTable>(imageTable, table, name, index, notes);
    return settle(index, key, image[key]!, image, general, notes);
  }
  if (key === "source") {
    const source = checkTable<SourceTable>(sourceTable, table, name, index, notes);
    return settle(index, key, source.source, source, general, notes);
  }
  const video = checkTable<VideoTable>(videoTable, table, name, index, notes);
  return settle(index, key, video[key]!, video, general, notes);
}

/** Validates one table: keys of other architectures become notes, unknown ones errors with the nearest known key. */
function checkTable<T>(
  schema: ZodType<T> & { shape: Record<string, unknown> },
  table: unknown,
  name: string,
  dataset: number | undefined,
  notes: ConfigNote[],
): T {
  if (!isRow(table)) throw fail(`${name} is not a table`);
  const known = Object.keys(schema.shape);
  const kept: Row = {};
  for (const [key, value] of Object.entries(table)) {
    if (known.includes(key)) kept[key] = value;
    else if (Object.hasOwn(otherArchitectureKeys, key)) {
      const message = `${key} in ${name} belongs to ${otherArchitectureKeys[key]} and has no effect on Wan`;
      notes.push({ code: "config.other-architecture", message, ...(dataset === undefined ? {} : { dataset }) });
    } else throw unknownKey(datasetConfig, key, `in ${name}`, placeOf(key, known, dataset === undefined));
  }
  const result = schema.safeParse(kept);
  if (result.success) return result.data;
  throw invalidValues(datasetConfig, result.error.issues, kept, { within: name });
}

/** What other programs' users write, in words for this file. */
const foreign = (key: string): string | undefined =>
  Object.hasOwn(foreignDatasetKeys, key) ? foreignDatasetKeys[key] : undefined;

/** Where an unknown key would be at home, or which known key it may be. */
function placeOf(key: string, known: readonly string[], inGeneral: boolean): string | undefined {
  if (inGeneral && (tableKeys.video.includes(key) || tableKeys.image.includes(key) || tableKeys.source.includes(key)))
    return `${key} is set in each [[datasets]] table, not in [general]`;
  if (tableKeys.video.includes(key)) return `${key} is for datasets of clips (video_directory, video_jsonl_file)`;
  if (key in generalTable.shape) return `${key} is set in [general]`;
  const near = nearestKey(key, known);
  return foreign(key) ?? (near && `did you mean ${near}?`);
}

/** Defaults where neither the table nor [general] says: musubi's own, and friendlier ones for `source`. */
const defaults = {
  resolution: [960, 544] as [number, number],
  maxFrames: 129,
  captionExtension: ".txt",
};

function settle(
  index: number,
  key: SourceKey,
  path: string,
  table: ImageTable | VideoTable | SourceTable,
  general: GeneralTable,
  notes: ConfigNote[],
): DatasetSection {
  const ours = key === "source";
  const note = (code: string, message: string) => notes.push({ code, message, dataset: index });
  const media = "media" in table ? table.media : undefined;
  const extension = table.caption_extension ?? general.caption_extension;
  const { enableBucket, bucketNoUpscale } = bucketsOf(key, table, general, note);
  return {
    index,
    type: sourceKeys[key],
    path,
    media: {
      images: key.startsWith("image") || (ours && media !== "videos"),
      videos: key.startsWith("video") || (ours && media !== "images"),
    },
    resolution: table.resolution ?? general.resolution ?? (ours ? undefined : defaults.resolution),
    enableBucket,
    bucketNoUpscale,
    captionExtension: extension ?? defaults.captionExtension,
    captionRequired: extension !== undefined && key === "image_directory",
    batchSize: table.batch_size ?? general.batch_size ?? 1,
    repeats: table.num_repeats ?? general.num_repeats ?? 1,
    cacheDirectory: table.cache_directory,
    controlDirectory: table.control_directory,
    trigger: table.trigger ?? general.trigger,
    video: videoSettings(key.startsWith("image") ? undefined : table, ours, note),
  };
}

/**
 * Whether items go to buckets and whether they may be enlarged. Musubi ignores both keys where it caches clips, which it
 * always brings to a bucket, enlarged where need be; so do we with its tables, unless told to take the keys at their word.
 * https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/image_video_dataset.py
 * (VideoDataset.retrieve_latent_cache_batches)
 */
function bucketsOf(
  key: SourceKey,
  table: ImageTable | VideoTable | SourceTable,
  general: GeneralTable,
  note: (code: string, message: string) => void,
): Pick<DatasetSection, "enableBucket" | "bucketNoUpscale"> {
  const ours = key === "source";
  const [buckets, noUpscale] = [
    table.enable_bucket ?? general.enable_bucket,
    table.bucket_no_upscale ?? general.bucket_no_upscale,
  ];
  const asked = ("clip_buckets" in table ? table.clip_buckets : undefined) ?? general.clip_buckets;
  if (key.startsWith("video") && asked !== "as_written") {
    const ignored = [
      ...(buckets === false ? ["enable_bucket = false"] : []),
      ...(noUpscale ? ["bucket_no_upscale = true"] : []),
    ];
    if (ignored.length > 0)
      note(
        "config.musubi-buckets",
        `${ignored.join(" and ")} ${ignored.length === 1 ? "is" : "are"} ignored for clips, as musubi-tuner does: each goes to the nearest bucket, enlarged where it is smaller; clip_buckets = "as_written" makes Kinora follow them literally`,
      );
    return { enableBucket: true, bucketNoUpscale: false };
  }
  const enableBucket = buckets ?? ours;
  if (noUpscale && !enableBucket)
    note("config.no-effect", "bucket_no_upscale has no effect while enable_bucket is false");
  return { enableBucket, bucketNoUpscale: enableBucket && (noUpscale ?? ours) };
}

function videoSettings(
  table: VideoTable | SourceTable | undefined,
  ours: boolean,
  note: (code: string, message: string) => void,
): VideoSettings {
  const { target_frames: asked, frame_stride: stride, frame_sample: sample, max_frames: longest } = table ?? {};
  let extraction: Extraction = table?.frame_extraction ?? (ours && asked === undefined ? "full" : "head");
  const { lengths, floored } = targetFrames(asked ?? [1]);
  for (const { from, to } of floored)
    note("config.frames-floored", `target_frames: ${from} is not 4n+1 and is rounded to ${to}`);
  if (extraction === "uniform" && (sample ?? 1) === 1) {
    extraction = "head";
    note("config.uniform-one", "frame_extraction uniform with frame_sample 1 takes the start of each clip");
  }
  const unused = (key: string, set: unknown, only: Extraction) => {
    if (set !== undefined && extraction !== only)
      note("config.no-effect", `${key} has no effect with frame_extraction ${extraction} (only with ${only})`);
  };
  unused("frame_stride", stride, "slide");
  unused("frame_sample", table?.frame_extraction === "uniform" ? undefined : sample, "uniform");
  unused("max_frames", longest, "full");
  if (extraction === "full" && asked !== undefined)
    note("config.no-effect", "target_frames has no effect with frame_extraction full (max_frames bounds it)");
  if (extraction !== "full" && asked === undefined && table)
    note("config.frames-missing", "target_frames is not set: every item is a single frame");
  if (extraction === "chunk" && lengths[0] === 1)
    note("config.chunk-one", "frame_extraction chunk with 1 in target_frames makes one item of every frame");
  return {
    extraction,
    lengths,
    stride: stride ?? 1,
    sample: sample ?? 1,
    maxFrames: longest ?? (ours ? undefined : defaults.maxFrames),
    sourceFps: table?.source_fps ?? (ours ? "auto" : undefined),
  };
}

/** Two datasets with one cache folder overwrite each other in musubi, which refuses them; so do we where it is written. */
function checkCaches(datasets: readonly DatasetSection[], notes: ConfigNote[]): void {
  const seen = new Map<string, DatasetSection>();
  for (const entry of datasets) {
    const directory = entry.type.endsWith("directory") ? entry.path : undefined;
    const cache = entry.cacheDirectory ?? directory;
    if (cache === undefined) continue;
    const place = resolve(cache);
    const before = seen.get(place);
    seen.set(place, entry);
    if (before === undefined) continue;
    const pair = `[[datasets]] numbers ${before.index + 1} and ${entry.index + 1}`;
    if (before.cacheDirectory !== undefined || entry.cacheDirectory !== undefined)
      throw new KinoraError(
        "dataset-config.cache-shared",
        `${pair} share the cache_directory ${JSON.stringify(cache)}`,
        {
          hint: "give each dataset its own cache_directory",
        },
      );
    notes.push({
      code: "config.cache-shared",
      dataset: entry.index,
      message: `${pair} read one folder without a cache_directory: musubi would refuse this (Kinora caches by content)`,
    });
  }
}
