// What a version says of its training: from the metadata that LoRA files carry, and from the record of a run of ours.
import { createHash } from "node:crypto";
import type { LoraDescription } from "../../lora/describe.ts";
import { type ModelName, modelNames } from "../../protocol/model-media.ts";
import type { DatasetFacts, RegistryVersion } from "../../protocol/registry.ts";
import type { VersionFacts } from "../../registry/registry.ts";

type Facts = RegistryVersion["hyperparameters"];

const modelOf = (name: string | undefined): ModelName | undefined => modelNames.find((known) => known === name);

/** Settings that files of kohya's tools, musubi-tuner and Kinora name, in our words. */
const settings: Readonly<Record<string, string>> = {
  rank: "ss_network_dim",
  alpha: "ss_network_alpha",
  "learning rate": "ss_learning_rate",
  steps: "ss_steps",
  epoch: "ss_epoch",
  optimizer: "ss_optimizer",
  schedule: "ss_lr_scheduler",
  "time sampling": "ss_timestep_sampling",
  "flow shift": "ss_discrete_flow_shift",
  seed: "ss_seed",
};

/** What a LoRA's own metadata says of its training. */
export function metadataFacts({ recognized, metadata }: LoraDescription): VersionFacts {
  const model = recognized.models.map(modelOf).find((name) => name !== undefined);
  const hyperparameters: Facts = {};
  for (const [name, key] of Object.entries(settings)) {
    const text = metadata[key];
    if (text !== undefined && text !== "None" && text !== "") hyperparameters[name] = scalar(text);
  }
  const dataset = datasetOf(metadata);
  const words = metadata["modelspec.trigger_phrase"] ?? metadata.ss_trigger_words;
  const [description, licence] = [metadata["modelspec.description"], metadata["modelspec.license"]];
  return {
    ...(model ? { model } : {}),
    hyperparameters,
    ...(dataset ? { dataset } : {}),
    ...(description ? { description: description.slice(0, 10_000) } : {}),
    ...(licence ? { licence: licence.slice(0, 200) } : {}),
    ...(words ? { triggerWords: [words.slice(0, 200)] } : {}),
  };
}

/** A number where the text is one; no longer than what a person reads. */
function scalar(text: string): string | number {
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text.slice(0, 500);
}

/** Counts of the datasets, where the file has them; of a file that only counts items, all else is 0. */
function datasetOf(metadata: Readonly<Record<string, string>>): DatasetFacts | undefined {
  const items = count(metadata.ss_num_train_items === undefined ? undefined : Number(metadata.ss_num_train_items));
  if (items === undefined) return undefined;
  const facts: DatasetFacts = { items, videos: 0, images: 0, buckets: [] };
  for (const entry of entriesOf(metadata.ss_datasets)) {
    facts.videos += count(entry.videos) ?? 0;
    facts.images += count(entry.images) ?? 0;
    if (Array.isArray(entry.buckets)) facts.buckets.push(...entry.buckets.filter((name) => typeof name === "string"));
  }
  facts.buckets = [...new Set(facts.buckets)].slice(0, 200);
  return facts;
}

const count = (value: unknown): number | undefined =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;

/** Metadata of foreign files is no more than a hint: what cannot be read is left out. */
function entriesOf(text: string | undefined): Record<string, unknown>[] {
  try {
    const value: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(value) ? value.filter((entry) => typeof entry === "object" && entry !== null) : [];
  } catch {
    return [];
  }
}

/** What a run's record adds: each setting by its name, and what its weights and its dataset are known by. */
export function runFacts(facts: VersionFacts, record: Readonly<Record<string, string>> | undefined): VersionFacts {
  if (!record) return {};
  const { steps, epoch } = facts.hyperparameters ?? {};
  const hyperparameters: Facts = {
    ...(steps === undefined ? {} : { steps }),
    ...(epoch === undefined ? {} : { epoch }),
  };
  const base: Record<string, string> = {};
  let data: string | undefined;
  for (const [key, text] of Object.entries(record)) {
    const weights = /^(?:the )?(.*) \(content\)$/.exec(key)?.[1];
    if (weights !== undefined) base[weights] = text;
    else if (key.startsWith("dataset (")) data = text;
    else if (key !== "model.name") addSetting(hyperparameters, key, parsed(text));
  }
  const model = modelOf(record["model.name"]);
  const { dataset } = facts;
  // The record has the beginning of a hash over files, captions and cuts; hashed once more it has the length of others.
  const sha256 = data === undefined ? undefined : createHash("sha256").update(data).digest("hex");
  return {
    ...(model ? { model } : {}),
    base,
    hyperparameters,
    ...(dataset ? { dataset: { ...dataset, ...(sha256 ? { sha256 } : {}) } } : {}),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** A table's settings under dotted names; its kind under its own. */
function addSetting(facts: Facts, name: string, value: unknown): void {
  if (Array.isArray(value)) facts[name] = value.join(", ");
  else if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value))
      addSetting(facts, key === "kind" ? name : `${name}.${key}`, inner);
  } else
    facts[name] =
      typeof value === "number" || typeof value === "boolean" ? value : value === null ? null : String(value);
}
