// From a training configuration file to settled values, each with its origin. Reads the files it names for settings
// (dataset TOML, prompts), not the data and not the weights.
import { existsSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { isRow, type Row } from "../../base/rows.ts";
import { type DatasetConfig, type DatasetSection, folderConfig, readDatasetConfig } from "../../dataset/config.ts";
import { parseValue, readConfigFile } from "../../io/config/read.ts";
import { DiskNames } from "../../io/disk-names.ts";
import { bundledFolder } from "../../models/wan/bundled.ts";
import { type FileChoices, settledBoundary } from "../../models/wan/checkpoint-files.ts";
import { type WanModel, wanModels } from "../../models/wan/params.ts";
import type { DeviceChoice } from "../../protocol/devices.ts";
import { findModel, mediaOf } from "../../protocol/model-media.ts";
import { type TrainConfig, trainConfigSchema } from "../../protocol/train-config.ts";
import { choiceIssues } from "./choices.ts";
import { checkTrainKeys, refuseValues, trainConfig } from "./mistakes.ts";
import type { ExplainedSetting, TrainSettings } from "./settings.ts";
import { Settler } from "./settler.ts";
import {
  settleBlocks,
  settleConditioning,
  settleEma,
  settleExperts,
  settleLora,
  settleObjective,
  settleOptimizer,
  settlePreview,
  settleSave,
  settleSchedule,
  settleTime,
  settleValidation,
} from "./tables.ts";

/** A configuration, everything filled in and checked. */
export interface SettledConfig {
  settings: TrainSettings;
  explained: ExplainedSetting[];
  /** Words about the files read: rounded frames, options without effect. */
  notes: string[];
  /** Which device was asked for. */
  device: DeviceChoice;
}

/** `optimizer.learning_rate=2e-4` of the command line. */
export interface Override {
  key: string;
  value: string;
}

/**
 * Reads and settles a configuration. `overrides` come before what the file says.
 * @throws KinoraError `train-config.*`, `model.unknown`, `dataset-config.*`, `prompts.*`.
 */
export async function readTrainConfig(file: string, overrides: readonly Override[] = []): Promise<SettledConfig> {
  const { root, notices } = await readConfigFile(trainConfig, file);
  const set = new Set<string>();
  for (const { key, value } of overrides) {
    override(root, key, value);
    set.add(key);
  }
  // Of two ways to say the same, the command line's takes the file's place.
  for (const [one, other] of alternatives) {
    if (set.has(one) && !set.has(other)) delete root[other];
    if (set.has(other) && !set.has(one)) delete root[one];
  }
  const settled = await settleTrainConfig(root, {
    base: dirname(resolve(file)),
    name: basename(file, extname(file)),
    overridden: set,
  });
  return { ...settled, notes: [...notices, ...settled.notes] };
}

/** Settings of which one alone may be given. */
const alternatives = [["steps", "epochs"]] as const;

function override(root: Row, key: string, value: string): void {
  const path = key.split(".");
  let table = root;
  for (const part of path.slice(0, -1)) {
    const inner = table[part] ?? {};
    // `dataset = "folder"` is short for a table with that path.
    const next = part === "dataset" && typeof inner === "string" ? { path: inner } : inner;
    if (!isRow(next)) {
      throw new KinoraError("train-config.invalid", `${key} cannot be set: ${part} is not a table`, {
        hint: `set ${part} itself`,
      });
    }
    table[part] = next;
    table = next;
  }
  table[path.at(-1)!] = parseValue(value);
}

function validate(root: Row): TrainConfig {
  checkTrainKeys(root);
  if (root.model === undefined) {
    throw new KinoraError("train-config.invalid", "the configuration has no model", {
      hint: '[model]\nname = "t2v-A14B"\ncheckpoint = "FOLDER"',
    });
  }
  if (root.dataset === undefined) {
    throw new KinoraError("train-config.invalid", "the configuration has no dataset", {
      hint: 'dataset = "FOLDER" at the top of the file: a prepared folder, a folder of clips with .txt captions, or a dataset TOML',
    });
  }
  const parsed = trainConfigSchema.safeParse(root);
  const issues = [...(parsed.error?.issues ?? []), ...choiceIssues(root)];
  return parsed.success && issues.length === 0 ? parsed.data : refuseValues(issues, root);
}

/** Every sample of a batch has a number of its own, from which its noise is drawn. */
const MOST_IN_BATCH = 65_535;

/** Settles a parsed file. Relative paths are looked for beside the file, then in the working folder. */
export async function settleTrainConfig(
  root: Row,
  place: { base: string; name: string; overridden?: ReadonlySet<string> },
): Promise<SettledConfig> {
  const config = validate(root);
  const notes: string[] = [];
  const s = new Settler(place.overridden ?? new Set());
  const find = pathFinder(place.base);
  const model: WanModel = wanModels[findModel(config.model.name)];
  checkTrainable(model);
  s.take("model.name", config.model.name, "");
  const published = !model.bundled;
  const files = await settleFiles(s, config.model, find, model);
  const kind = s.take("train", config.train, "lora", {
    note: (value) => (value === "full" ? "every parameter trains, in float32" : "adapters train beside frozen weights"),
  });
  const full = kind === "full";
  const base = s.take("model.base", config.model.base, published && !full ? "bf16" : "f32", {
    from: "model",
    note: (value) =>
      full
        ? `products in ${value}; the weights themselves train in f32`
        : value === "fp8"
          ? "blocks of 64 inputs with a scale each (musubi's rule), widened to bf16 in each product"
          : undefined,
  });
  if (full && base === "fp8") {
    throw new KinoraError(
      "train-config.invalid",
      "model.base fp8 is for frozen weights; a full fine-tune trains them",
      {
        hint: 'use model.base = "bf16" (the products) or train = "lora"',
      },
    );
  }
  const name = s.take("name", config.name, place.name);
  const output = s.take("output", config.output && resolve(place.base, config.output), join(place.base, "runs", name));
  const cache = s.take("cache", config.cache && resolve(place.base, config.cache), join(place.base, "kinora-cache"), {
    note: "latents and text embeddings, by content; shared between datasets and runs",
  });
  const device = s.take("device", config.device, "auto");
  const seed = s.take("seed", config.seed, 42);
  if (config.steps !== undefined && config.epochs !== undefined) {
    throw new KinoraError("train-config.invalid", "both steps and epochs are given", { hint: "keep one of them" });
  }
  const length =
    config.epochs === undefined
      ? { steps: s.take("steps", config.steps, 1000) }
      : { epochs: s.take("epochs", config.epochs, 1) };
  const dataset = await settleDataset(s, config.dataset, find, model);
  const largest = Math.max(...dataset.datasets.map(({ batchSize }) => batchSize));
  if (largest > MOST_IN_BATCH) {
    throw new KinoraError("train-config.invalid", "batch_size is far too large", {
      expected: `at most ${MOST_IN_BATCH}`,
      actual: `${largest}`,
      hint: "optimizer.accumulation makes larger steps of small batches",
    });
  }
  const time = settleTime(s, config.time ?? {}, model);
  const boundary = settledBoundary(model, files);
  const vaeDtype = s.take("model.vae_dtype", config.model.vae_dtype, "f32");
  const textDtype = s.take("model.text_dtype", config.model.text_dtype, published ? "bf16" : "f32", { from: "model" });
  const recompute = s.take("model.recompute", config.model.recompute, published, {
    from: "model",
    note: (value) =>
      value ? "each block is recomputed in the backward pass: a third more time, far less memory" : undefined,
  });
  const blocks = settleBlocks(s, config.model.blocks_to_swap, { full, recompute, model });
  const lora = settleLora(s, config.lora ?? {}, full, model);
  const { optimizer, ownSchedule } = settleOptimizer(s, config.optimizer ?? {}, full, full ? 1 : lora.plus_ratio);
  const ema = settleEma(s, config.ema);
  const settings: TrainSettings = {
    name,
    output,
    cache,
    kind,
    seed: BigInt(seed),
    model,
    files,
    base,
    dtype: base === "f32" ? "f32" : "bf16",
    vaeDtype,
    textDtype,
    recompute,
    ...(blocks ? { blocks } : {}),
    dataset,
    length,
    lora,
    boundary,
    experts: settleExperts(s, config.experts ?? {}, { model, boundary }, time),
    time,
    ...settleConditioning(s, config.conditioning ?? {}, model),
    objective: settleObjective(s, config.loss ?? {}),
    optimizer,
    ...(ema ? { ema } : {}),
    schedule: settleSchedule(s, config.schedule ?? {}, ownSchedule),
    validation: settleValidation(s, config.validation ?? {}),
    preview: await settlePreview(s, config.preview, find, model, notes),
    save: settleSave(s, config.save ?? {}, full),
  };
  return {
    settings,
    explained: s.explained,
    notes: [...notes, ...dataset.notes.map(({ message }) => message)],
    device,
  };
}

function checkTrainable(model: WanModel): void {
  if (model.lacking === undefined) return;
  throw new KinoraError("train.unsupported-model", `${model.name} cannot be trained yet: it needs ${model.lacking}`, {
    hint: "i2v-A14B trains on pictures without CLIP",
  });
}

/** Where a path of the file leads: beside the file, else in the working folder, in the disk's own spelling. */
type PathFinder = (path: string) => Promise<string>;

function pathFinder(base: string): PathFinder {
  const names = new DiskNames();
  return async (path) => {
    const beside = resolve(base, path);
    return (await names.find(beside)) ?? (await names.find(resolve(path))) ?? beside;
  };
}

async function settleFiles(
  s: Settler,
  given: TrainConfig["model"],
  find: PathFinder,
  model: WanModel,
): Promise<FileChoices> {
  const path = async (key: string, value: string | undefined) =>
    value === undefined ? undefined : s.take(`model.${key}`, await find(value), "");
  const folder = await path("checkpoint", given.checkpoint);
  const bundled = bundledFolder(model);
  if (folder === undefined && bundled !== undefined)
    s.take<string, string>("model.checkpoint", undefined, bundled, { from: "model", note: "ships with Kinora" });
  if (model.boundary !== undefined && given.dit !== undefined) {
    throw new KinoraError("train-config.invalid", `${model.name} has two transformers; model.dit names one`, {
      hint: "use model.dit_high and model.dit_low",
    });
  }
  return {
    folder,
    dit: await path("dit", given.dit),
    high: await path("dit_high", given.dit_high),
    low: await path("dit_low", given.dit_low),
    vae: await path("vae", given.vae),
    textEncoder: await path("text_encoder", given.text_encoder),
    tokenizer: await path("tokenizer", given.tokenizer),
  };
}

type FolderSettings = Omit<Exclude<TrainConfig["dataset"], string>, "path">;

/** What the dataset's own rules make of a folder's settings. */
function explainFolder(s: Settler, given: FolderSettings, section: DatasetSection, model: WanModel): void {
  const { video } = section;
  const row = (key: keyof FolderSettings, value: unknown, idle?: string | false) =>
    s.take<unknown, unknown>(`dataset.${key}`, given[key] === undefined ? undefined : value, value, { idle });
  const only = (extraction: typeof video.extraction) =>
    video.extraction !== extraction && `only with frame_extraction ${extraction}`;
  const [width, height] = mediaOf(model).defaultSize;
  row("resolution", section.resolution ?? `as it was prepared, else ${width}x${height}`);
  row("media", given.media ?? "all");
  row("enable_bucket", section.enableBucket);
  row("bucket_no_upscale", section.bucketNoUpscale);
  row("frame_extraction", video.extraction);
  row("target_frames", video.lengths, video.extraction === "full" && "not with frame_extraction full");
  row("frame_stride", video.stride, only("slide"));
  row("frame_sample", video.sample, only("uniform"));
  row("max_frames", video.maxFrames ?? "the model's own length", only("full"));
  row("source_fps", video.sourceFps);
  row("caption_extension", section.captionExtension);
  row("batch_size", section.batchSize);
  row("num_repeats", section.repeats);
  row("trigger", section.trigger);
  for (const key of ["cache_directory", "control_directory"] as const)
    if (given[key] !== undefined) row(key, given[key]);
}

async function settleDataset(
  s: Settler,
  given: TrainConfig["dataset"],
  find: PathFinder,
  model: WanModel,
): Promise<DatasetConfig> {
  const { path, ...more } = typeof given === "string" ? { path: given } : given;
  const place = await find(path);
  s.take(typeof given === "string" ? "dataset" : "dataset.path", place, "");
  if (!existsSync(place)) {
    throw new KinoraError("train.no-dataset", `there is no dataset at ${JSON.stringify(place)}`, {
      hint: "a prepared folder, a folder of clips and pictures with .txt captions, or a dataset TOML",
    });
  }
  if (statSync(place).isDirectory()) {
    const config = folderConfig(place, more);
    explainFolder(s, more, config.datasets[0]!, model);
    return config;
  }
  const [extra] = Object.keys(more);
  if (extra !== undefined) {
    throw new KinoraError(
      "train-config.invalid",
      `dataset.${extra} is for folders; ${place} is a dataset configuration`,
      {
        hint: `set ${extra} in that file`,
      },
    );
  }
  const dataset = await readDatasetConfig(place);
  if (dataset.model !== undefined && dataset.model !== model.name)
    dataset.notes.push({
      code: "config.other-model",
      message: `${place} is for ${dataset.model}; it is read with ${model.name}'s frame rate and size steps`,
    });
  return dataset;
}
