// From a training configuration file to settled values, each with its origin. Reads the files it names for settings
// (dataset TOML, prompts), not the data and not the weights.
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, extname, isAbsolute, join, resolve } from "node:path";
import { parse as parseToml, TomlError } from "smol-toml";
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { type DatasetConfig, folderConfig, readDatasetConfig } from "../dataset/config.ts";
import { findModel } from "../dataset/plan.ts";
import { bundledFolder, type FileChoices } from "../models/wan/checkpoint-files.ts";
import { type WanModel, wanModels } from "../models/wan/params.ts";
import { type TrainConfig, trainConfigSchema, trainTables } from "../protocol/train-config.ts";
import { type PromptFile, readPromptFile } from "./prompt-file.ts";
import type { ExplainedSetting, Origin, TrainSettings } from "./settings.ts";
import { expertRange, shareOf, type TimeDistribution } from "./timesteps.ts";

export interface SettledConfig {
  settings: TrainSettings;
  explained: ExplainedSetting[];
  /** Words about the files read: rounded frames, options without effect. */
  notes: string[];
  /** Which device was asked for. */
  device: "auto" | "cpu" | "reference";
}

type Row = Record<string, unknown>;
const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value);

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
  let content: string;
  try {
    content = await readFile(file, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new KinoraError("train-config.unreadable", `the configuration ${JSON.stringify(file)} cannot be read`, {
      actual: code === "ENOENT" ? "no such file" : message,
      hint: "kinora train --help shows what one looks like",
      cause,
    });
  }
  const root = parseConfigText(content, file);
  const set = new Set<string>();
  for (const { key, value } of overrides) {
    override(root, key, value);
    set.add(key);
  }
  return settleTrainConfig(root, {
    base: dirname(resolve(file)),
    name: basename(file, extname(file)),
    overridden: set,
  });
}

export function parseConfigText(content: string, where: string): Row {
  try {
    return parseToml(content) as Row;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const what = cause.message.split("\n")[0]!.replace(/^Invalid TOML document: /, "");
    throw new KinoraError(
      "train-config.syntax",
      `${where}, line ${cause.line}, column ${cause.column}: ${what}\n${cause.codeblock.trimEnd()}`,
      { hint: "text needs quotes and lists need [ ]", cause },
    );
  }
}

/** The value is TOML where it reads as such, else text. */
function override(root: Row, key: string, value: string): void {
  const path = key.split(".");
  let parsed: unknown;
  try {
    parsed = (parseToml(`value = ${value}`) as Row).value;
  } catch {
    parsed = value;
  }
  let table = root;
  for (const part of path.slice(0, -1)) {
    const inner = table[part] ?? {};
    // `dataset = "folder"` is short for a table with that path.
    const next = part === "dataset" && typeof inner === "string" ? { path: inner } : inner;
    if (!isRow(next)) throw new KinoraError("train-config.invalid", `${key} cannot be set: ${part} is no table`);
    table[part] = next;
    table = next;
  }
  table[path.at(-1)!] = parsed;
}

/** Throws at the first unknown key, naming the nearest known one or the table it belongs to. */
function checkKeys(root: Row): void {
  const top = Object.keys(trainConfigSchema.shape);
  const tables = Object.fromEntries(
    Object.entries(trainTables).map(([name, schema]) => [name, Object.keys(schema.shape)]),
  );
  const check = (key: string, known: readonly string[], place: string, prefix: string) => {
    if (known.includes(key)) return;
    const near = nearestName(key, known);
    const homes = Object.entries(tables).filter(([, keys]) => keys.includes(key));
    const home = top.includes(key) && prefix ? "at the top of the file" : homes[0] && `[${homes[0][0]}]`;
    const anywhere = nearestName(
      key,
      Object.entries(tables).flatMap(([, keys]) => keys),
    );
    const anywhereHome = Object.entries(tables).find(([, keys]) => anywhere !== undefined && keys.includes(anywhere));
    const hint = home
      ? `${key} belongs ${home.startsWith("[") ? `in ${home}` : home}`
      : near
        ? `did you mean ${near}?`
        : anywhereHome
          ? `did you mean ${anywhere} in [${anywhereHome[0]}]?`
          : undefined;
    throw new KinoraError("train-config.unknown-key", `unknown key "${key}" ${place}`, hint ? { hint } : {});
  };
  for (const [key, value] of Object.entries(root)) {
    check(key, top, "at the top of the file", "");
    const known = tables[key];
    if (known && isRow(value)) for (const inner of Object.keys(value)) check(inner, known, `in [${key}]`, `${key}.`);
  }
}

function validate(root: Row): TrainConfig {
  checkKeys(root);
  if (root.model === undefined) {
    throw new KinoraError("train-config.invalid", "the configuration names no model", {
      hint: '[model]\nname = "t2v-A14B"\ncheckpoint = "FOLDER"',
    });
  }
  if (root.dataset === undefined) {
    throw new KinoraError("train-config.invalid", "the configuration names no dataset", {
      hint: 'dataset = "FOLDER" at the top of the file: a prepared folder, a folder of clips with .txt captions, or a dataset TOML',
    });
  }
  const parsed = trainConfigSchema.safeParse(root);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => describeIssue(issue, root));
  throw new KinoraError("train-config.invalid", lines.join("; "));
}

function describeIssue(issue: z.core.$ZodIssue, root: Row): string {
  const value = issue.path.reduce<unknown>((at, key) => (isRow(at) ? at[String(key)] : undefined), root);
  const given = typeof value === "number" || typeof value === "string" ? ` (it is ${value})` : "";
  return `${issue.path.join(".")}: ${issue.message}${given}`;
}

/** Collects what becomes of every setting. */
class Settler {
  readonly explained: ExplainedSetting[] = [];
  readonly #overridden: ReadonlySet<string>;

  constructor(overridden: ReadonlySet<string>) {
    this.#overridden = overridden;
  }

  /** The value given, else the default; `idle` says why it does nothing, where it does not. */
  take<T, F extends T | undefined>(
    key: string,
    given: T | undefined,
    fallback: F,
    more: {
      from?: Origin;
      note?: string | ((value: T | F) => string | undefined);
      idle?: string | false | undefined;
    } = {},
  ): T | F {
    const value = given ?? fallback;
    const from = given === undefined ? (more.from ?? "default") : this.#overridden.has(key) ? "command line" : "config";
    const note = typeof more.note === "function" ? more.note(value) : more.note;
    this.explained.push({
      key,
      value: show(value),
      from,
      ...(note ? { note } : {}),
      ...(more.idle && given !== undefined ? { idle: more.idle } : {}),
    });
    return value;
  }
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  return String(value);
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** Settles a parsed file. Relative paths are looked for beside the file, then in the working folder. */
export async function settleTrainConfig(
  root: Row,
  place: { base: string; name: string; overridden?: ReadonlySet<string> },
): Promise<SettledConfig> {
  const config = validate(root);
  const notes: string[] = [];
  const s = new Settler(place.overridden ?? new Set());
  const find = (path: string) => findPath(path, place.base);
  const model: WanModel = wanModels[findModel(config.model.name)];
  checkTrainable(model);
  s.take("model.name", config.model.name, "");
  const published = bundledFolder(model) === undefined;
  const files = settleFiles(s, config.model, find, model);
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
    throw new KinoraError("train-config.invalid", "steps and epochs are both given", { hint: "keep one of them" });
  }
  const length =
    config.epochs === undefined
      ? { steps: s.take("steps", config.steps, 1000) }
      : { epochs: s.take("epochs", config.epochs, 1) };
  const dataset = await settleDataset(s, config.dataset, find, model);
  const time = settleTime(s, config.time ?? {}, model);
  const vaeDtype = s.take("model.vae_dtype", config.model.vae_dtype, "f32");
  const textDtype = s.take("model.text_dtype", config.model.text_dtype, published ? "bf16" : "f32", { from: "model" });
  const checkpointing = s.take("model.checkpointing", config.model.checkpointing, published, {
    from: "model",
    note: (value) =>
      value ? "each block is computed again in the backward pass: a third more time, far less memory" : undefined,
  });
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
    checkpointing,
    dataset,
    length,
    lora: settleLora(s, config.lora ?? {}, full),
    experts: settleExperts(s, config.experts ?? {}, model, time),
    time,
    ...settleConditioning(s, config.conditioning ?? {}, model),
    optimizer: settleOptimizer(s, config.optimizer ?? {}, full),
    schedule: settleSchedule(s, config.schedule ?? {}),
    validation: settleValidation(s, config.validation ?? {}),
    preview: await settlePreview(s, config.preview, find, notes),
    save: settleSave(s, config.save ?? {}, full),
  };
  return {
    settings,
    explained: s.explained,
    notes: [...notes, ...dataset.notes.map(({ message }) => message)],
    device,
  };
}

/** Models that Kinora can run but not yet train. */
function checkTrainable(model: WanModel): void {
  if (!model.dit.imageBranch) return;
  throw new KinoraError(
    "train.unsupported-model",
    `${model.name} needs CLIP features of every clip and cannot be trained yet`,
    {
      hint: "i2v-A14B trains on pictures without CLIP",
    },
  );
}

function findPath(path: string, base: string): string {
  if (isAbsolute(path)) return path;
  const beside = resolve(base, path);
  const here = resolve(path);
  return !existsSync(beside) && existsSync(here) ? here : beside;
}

function settleFiles(
  s: Settler,
  given: TrainConfig["model"],
  find: (path: string) => string,
  model: WanModel,
): FileChoices {
  const path = (key: string, value: string | undefined) =>
    value === undefined ? undefined : s.take(`model.${key}`, find(value), "");
  const folder = given.checkpoint === undefined ? undefined : path("checkpoint", given.checkpoint);
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
    dit: path("dit", given.dit),
    high: path("dit_high", given.dit_high),
    low: path("dit_low", given.dit_low),
    vae: path("vae", given.vae),
    textEncoder: path("text_encoder", given.text_encoder),
    tokenizer: path("tokenizer", given.tokenizer),
  };
}

async function settleDataset(
  s: Settler,
  given: TrainConfig["dataset"],
  find: (path: string) => string,
  model: WanModel,
): Promise<DatasetConfig> {
  const { path, ...more } = typeof given === "string" ? { path: given } : given;
  const place = find(path);
  s.take(typeof given === "string" ? "dataset" : "dataset.path", place, "");
  if (!existsSync(place)) {
    throw new KinoraError("train.no-dataset", `there is no dataset at ${JSON.stringify(place)}`, {
      hint: "a prepared folder, a folder of clips and pictures with .txt captions, or a dataset TOML",
    });
  }
  if (statSync(place).isDirectory()) {
    for (const [key, value] of Object.entries(more)) s.take(`dataset.${key}`, value, undefined);
    return folderConfig(place, more);
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

function settleTime(s: Settler, given: NonNullable<TrainConfig["time"]>, model: WanModel): TimeDistribution {
  const sampling = s.take("time.sampling", given.sampling, "shift", {
    note: (value) =>
      ({
        uniform: "σ = u",
        sigmoid: "σ = sigmoid(scale·N)",
        shift: "x = sigmoid(scale·N), σ = s·x/(1 + (s − 1)·x)",
        logit_normal: "x = sigmoid(mean + std·N), σ = s·x/(1 + (s − 1)·x)",
      })[value],
  });
  const only = (...kinds: string[]) => !kinds.includes(sampling) && `only with ${kinds.join(" or ")}`;
  const shifted = sampling === "shift" ? model.defaults.shift : 1;
  const time: TimeDistribution = {
    sampling,
    shift: s.take("time.shift", given.shift, shifted, {
      from: sampling === "shift" ? "model" : "default",
      idle: only("shift", "logit_normal"),
    }),
    scale: s.take("time.scale", given.scale, 1, { idle: only("sigmoid", "shift") }),
    mean: s.take("time.mean", given.mean, 0, { idle: only("logit_normal") }),
    std: s.take("time.std", given.std, 1, { idle: only("logit_normal") }),
  };
  return time;
}

function settleExperts(
  s: Settler,
  given: NonNullable<TrainConfig["experts"]>,
  model: WanModel,
  time: TimeDistribution,
): TrainSettings["experts"] {
  if (model.boundary === undefined) {
    const idle = `${model.name} has one transformer`;
    if (given.train !== undefined) s.take("experts.train", given.train, "both", { idle });
    if (given.switch_every !== undefined) s.take("experts.switch_every", given.switch_every, 1, { idle });
    if (given.high_share !== undefined) s.take("experts.high_share", given.high_share, 0, { idle });
    return { train: ["low"], switchEvery: 1, highShare: 0 };
  }
  const drawn = shareOf(time, expertRange("high", model.boundary));
  const which = s.take("experts.train", given.train, "both", {
    note: `the high-noise expert has σ ≥ ${model.boundary}, the low-noise one σ < ${model.boundary}`,
  });
  const idle = which !== "both" && "only with both experts";
  return {
    train: which === "both" ? ["high", "low"] : [which],
    switchEvery: s.take("experts.switch_every", given.switch_every, 100, {
      idle,
      note: "steps between two changes of expert; the idle one is not in memory",
    }),
    highShare: s.take("experts.high_share", given.high_share, Math.min(0.95, Math.max(0.05, drawn)), {
      idle,
      from: "model",
      note: (value) =>
        `${percent(value)} of the steps train the high-noise expert; the time sampling alone gives it ${percent(drawn)}`,
    }),
  };
}

function settleConditioning(
  s: Settler,
  given: NonNullable<TrainConfig["conditioning"]>,
  model: WanModel,
): { captionDropout: number; firstFrame: number } {
  const takesFirst = model.image === "first-frame";
  return {
    captionDropout: s.take("conditioning.caption_dropout", given.caption_dropout, 0),
    firstFrame: takesFirst
      ? s.take("conditioning.first_frame", given.first_frame, 0, { note: "share of clips whose first frame is given" })
      : s.take("conditioning.first_frame", given.first_frame, 0, {
          idle: `${model.name} does not take a first frame this way`,
        }) * 0,
  };
}

function settleLora(s: Settler, given: NonNullable<TrainConfig["lora"]>, full: boolean): TrainSettings["lora"] {
  const idle = full && 'only with train = "lora"';
  const rank = full && given.rank === undefined ? 32 : s.take("lora.rank", given.rank, 32, { idle });
  if (full && Object.keys(given).length === 0) return { rank, alpha: rank, dropout: 0, targets: undefined };
  const alpha = s.take("lora.alpha", given.alpha, rank, {
    idle,
    note: (value) => `the scale alpha/rank is ${Number((value / rank).toPrecision(6))}`,
  });
  const dropout = s.take("lora.dropout", given.dropout, 0, { idle });
  const targets = typeof given.targets === "string" ? [given.targets] : given.targets;
  for (const pattern of targets ?? []) {
    try {
      new RegExp(pattern);
    } catch (cause) {
      throw new KinoraError("train-config.invalid", `lora.targets: ${JSON.stringify(pattern)} is no pattern`, {
        cause,
      });
    }
  }
  s.take("lora.targets", targets, ["the blocks' attention and feed-forward"], { idle });
  return { rank, alpha, dropout, targets };
}

function settleOptimizer(
  s: Settler,
  given: NonNullable<TrainConfig["optimizer"]>,
  full: boolean,
): TrainSettings["optimizer"] {
  return {
    kind: s.take("optimizer.kind", given.kind, "adamw", {
      note: (value) => (value === "adamw8bit" ? "moments in 8 bits, in blocks of 256 with a scale each" : undefined),
    }),
    learningRate: s.take("optimizer.learning_rate", given.learning_rate, full ? 1e-5 : 1e-4),
    betas: s.take("optimizer.betas", given.betas, [0.9, 0.999]),
    eps: s.take("optimizer.eps", given.eps, 1e-8),
    weightDecay: s.take("optimizer.weight_decay", given.weight_decay, 0.01),
    clip: s.take("optimizer.clip", given.clip, 1, {
      note: (value) => (value === 0 ? "gradients are not clipped" : undefined),
    }),
    accumulation: s.take("optimizer.accumulation", given.accumulation, 1),
  };
}

function settleSchedule(s: Settler, given: NonNullable<TrainConfig["schedule"]>): TrainSettings["schedule"] {
  const kind = s.take("schedule.kind", given.kind, "constant");
  const warmup = s.take("schedule.warmup", given.warmup, 0);
  const share =
    typeof warmup === "string" ? Number.parseFloat(warmup) / 100 : warmup > 0 && warmup < 1 ? warmup : undefined;
  if (share !== undefined ? share >= 1 : !Number.isInteger(warmup)) {
    throw new KinoraError("train-config.invalid", "schedule.warmup is wrong", {
      expected: 'a whole number of steps, a share below 1, or a percentage below 100 such as "5%"',
      actual: String(warmup),
    });
  }
  return {
    kind,
    warmup: share === undefined ? { steps: warmup as number } : { share },
    cycles: s.take("schedule.cycles", given.cycles, 1, {
      idle: kind !== "cosine_with_restarts" && "only with cosine_with_restarts",
    }),
    power: s.take("schedule.power", given.power, 1, { idle: kind !== "polynomial" && "only with polynomial" }),
  };
}

function settleValidation(s: Settler, given: NonNullable<TrainConfig["validation"]>): TrainSettings["validation"] {
  const holdOut = s.take("validation.hold_out", given.hold_out, 0, {
    note: (value) =>
      value === 0 ? "no validation: every file trains" : "files that never train, judged with fixed noise at fixed σ",
  });
  if (holdOut >= 1 && !Number.isInteger(holdOut)) {
    throw new KinoraError("train-config.invalid", "validation.hold_out is wrong", {
      expected: "a whole number of files, or a share below 1",
      actual: String(holdOut),
    });
  }
  const idle = holdOut === 0 && "nothing is held out";
  return {
    holdOut,
    everySteps: s.take("validation.every_steps", given.every_steps, 100, { idle }),
    sigmas: s.take("validation.sigmas", given.sigmas, 4, { idle }),
  };
}

async function settlePreview(
  s: Settler,
  given: TrainConfig["preview"],
  find: (path: string) => string,
  notes: string[],
): Promise<TrainSettings["preview"]> {
  if (!given) return undefined;
  const path = s.take("preview.prompts", find(given.prompts), "");
  const read: PromptFile = await readPromptFile(path);
  notes.push(...read.notes);
  const everyEpochs = given.every_epochs;
  const fallback = everyEpochs === undefined ? 250 : undefined;
  return {
    prompts: read.prompts,
    everySteps: s.take("preview.every_steps", given.every_steps, fallback),
    everyEpochs: s.take("preview.every_epochs", everyEpochs, undefined),
    atStart: s.take("preview.at_start", given.at_start, false),
  };
}

function settleSave(s: Settler, given: NonNullable<TrainConfig["save"]>, full: boolean): TrainSettings["save"] {
  const { title, author, description, license, tags, comment } = given;
  const regular = given.every_steps === undefined && given.every_epochs === undefined;
  const settings = {
    everySteps: s.take("save.every_steps", given.every_steps, undefined),
    everyEpochs: s.take("save.every_epochs", given.every_epochs, undefined),
    keepLast: s.take("save.keep_last", given.keep_last, undefined, {
      idle: regular && "only the last file is written",
    }),
    stateEverySteps: s.take("save.state_every_steps", given.state_every_steps, 100, {
      note: "after a stop at any moment, the run goes on from the last state with the same numbers",
    }),
    keys: s.take("save.keys", given.keys, "musubi", {
      idle: full && 'only with train = "lora"',
      note: (value) =>
        value === "diffusers" || value === "diffsynth"
          ? "ComfyUI does not read these names"
          : "ComfyUI reads these names",
    }),
    dtype: s.take("save.dtype", given.dtype, full ? "f32" : "bf16"),
  };
  for (const [key, value] of Object.entries({ title, author, description, license, tags, comment }))
    if (value !== undefined) s.take(`save.${key}`, value, "");
  return { ...settings, title, author, description, license, tags, comment };
}
