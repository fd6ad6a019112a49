// What an epoch will train on, exactly: every item of every dataset, every file that gives none and why.
// The one entry for the trainer and for `kinora dataset inspect`; says nothing about models' weights or memory.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { pool } from "../base/parallel.ts";
import { formatInteger, plural } from "../base/units.ts";
import { findModel, type ModelName, mediaOf } from "../protocol/model-media.ts";
import { wanModels } from "../protocol/models.ts";
import { bucketsOf, epochBatches } from "./batches.ts";
import type { DatasetConfig, DatasetSection } from "./config.ts";
import { type DatasetItem, type Drop, itemsAsked, type ModelRules, planFile, type SettledSection } from "./items.ts";
import type { SourceEntry, SourceListing } from "./listing.ts";
import type { MediaFacts, Probe } from "./probe.ts";
import { listSource } from "./sources.ts";

export interface PlannedDataset {
  section: SettledSection;
  /** The folder or JSONL file read, absolute. */
  place: string;
  /** Pictures and clips that the dataset reads. */
  files: number;
  /**
   * Items an epoch has on paper: if every file gave all it is asked for, repeats counted. Undefined for `chunk` and
   * `slide`, where the number depends on each clip's length.
   */
  onPaper: number | undefined;
  /** Items of an epoch, repeats counted. */
  items: number;
  batches: number;
  /** Frames that pass in an epoch, repeats counted. */
  frames: number;
  buckets: { width: number; height: number; frames: number; items: number; batches: number }[];
  orphanCaptions: string[];
  notices: SourceListing["notices"];
}

/** An epoch laid out: items, what gave none, sums. */
export interface DatasetPlan {
  config: DatasetConfig;
  model: ModelName;
  rules: ModelRules;
  datasets: PlannedDataset[];
  /** Distinct items, by dataset and file; each counts `repeats` times in an epoch. */
  items: DatasetItem[];
  drops: Drop[];
  totals: { files: number; onPaper: number | undefined; items: number; batches: number };
}

/** How far the files are read. */
export type PlanEvent =
  | { type: "listed"; files: number }
  | { type: "probed"; done: number; files: number; file: string };

/** For what an epoch is planned, and how. */
export interface PlanOptions {
  /** Instead of the configuration's `model`, and of what a folder was prepared for. */
  model?: string;
  /** Files looked into at a time; default 4. */
  concurrency?: number;
  signal?: AbortSignal;
}

/** Items of an epoch, repeats counted: batches are laid out in memory. */
const mostItems = 1_000_000;

/** The model a configuration is planned for where nobody names one: a 16 fps model with sides in steps of 16, as musubi's Wan. */
export const defaultModel: ModelName = "t2v-A14B";

/**
 * Lists and probes every file of every dataset and lays out the epoch. Each file is probed once, however many datasets
 * read it. Files that cannot be read become drops; a missing folder, an empty set or a broken JSONL is an error.
 *
 * @throws KinoraError `dataset.*`, `model.unknown`.
 */
export async function* planDataset(
  config: DatasetConfig,
  probe: Probe,
  options: PlanOptions = {},
): AsyncGenerator<PlanEvent, DatasetPlan> {
  const asked = options.model ?? config.model;
  const askedModel = asked === undefined ? undefined : findModel(asked);
  const listings: SourceListing[] = [];
  for (const section of config.datasets) {
    const listing = await listSource(section, config);
    if (listing.entries.length === 0) throw emptyDataset(section, listing);
    listings.push(listing);
  }
  const model = askedModel ?? listings.find((listing) => listing.prepared)?.prepared?.model ?? defaultModel;
  const unknown = listings.flatMap(({ entries }) => entries.filter((entry) => !entry.known).map((entry) => entry.file));
  const files = [...new Set(unknown)];
  yield { type: "listed", files: files.length };
  const found = new Map<string, MediaFacts | KinoraError>();
  yield* pool<string, PlanEvent>(
    files,
    options.concurrency ?? 4,
    async (file, emit) => {
      found.set(file, await tryProbe(file, probe));
      emit({ type: "probed", done: found.size, files: files.length, file });
    },
    options.signal,
  );
  return layOut(config, model, listings, found);
}

function emptyDataset(section: DatasetSection, { place, ignored }: SourceListing): KinoraError {
  const kind = section.media.images ? (section.media.videos ? "pictures or clips" : "pictures") : "clips";
  // The most telling of them: a picture without a caption before a file of another kind before anything else.
  const telling = ["bad-caption", "no-caption", "other-kind"].map((code) => ignored.find((file) => file.code === code));
  const first = telling.find(Boolean) ?? ignored[0];
  return new KinoraError("dataset.empty", `${JSON.stringify(place)} has no ${kind} that this dataset can read`, {
    actual: plural(ignored.length, "other file"),
    hint: first ? `${first.name}: ${first.reason}` : "put the files there, or change the path",
  });
}

async function tryProbe(file: string, probe: Probe): Promise<MediaFacts | KinoraError> {
  try {
    return await probe(file);
  } catch (error) {
    if (isKinoraError(error)) return error;
    throw error;
  }
}

function layOut(
  config: DatasetConfig,
  model: ModelName,
  listings: readonly SourceListing[],
  found: ReadonlyMap<string, MediaFacts | KinoraError>,
): DatasetPlan {
  const { fps, sizeMultiple } = mediaOf(wanModels[model]);
  const rules: ModelRules = { fps, sizeMultiple };
  const items: DatasetItem[] = [];
  const drops: Drop[] = [];
  const ids = new Map<string, number>();
  const sections = config.datasets.map((section, index) => settleSection(section, listings[index]!, model));
  for (const [index, section] of sections.entries()) {
    const { entries, ignored } = listings[index]!;
    for (const entry of entries) {
      const facts = entry.known ?? found.get(entry.file)!;
      if (facts instanceof KinoraError) drops.push(unreadable(section, entry, facts));
      else {
        const plan = planFile(entry, facts, section, rules);
        for (const item of plan.items) items.push({ ...item, id: unique(item.id, ids) });
        drops.push(...plan.drops);
      }
    }
    for (const { asked, ...file } of ignored) {
      drops.push({ ...file, dataset: index, frames: undefined, items: asked ? itemsAsked(section, asked) : 0 });
    }
  }
  const repeated = items.reduce((sum, item) => sum + item.repeats, 0);
  if (repeated > mostItems)
    throw new KinoraError("dataset.too-many-items", "the epoch would have too many items", {
      expected: `at most ${formatInteger(mostItems)}`,
      actual: formatInteger(repeated),
      hint: "lower num_repeats, or take fewer windows from each clip (frame_stride, frame_sample)",
    });
  const datasets = sections.map((section, index) => plannedDataset(section, listings[index]!, items));
  const sum = (of: (dataset: PlannedDataset) => number) => datasets.reduce((total, dataset) => total + of(dataset), 0);
  const countable = datasets.every((dataset) => dataset.onPaper !== undefined);
  return {
    config,
    model,
    rules,
    datasets,
    items,
    drops,
    totals: {
      files: sum((dataset) => dataset.files),
      onPaper: countable ? sum((dataset) => dataset.onPaper!) : undefined,
      items: sum((dataset) => dataset.items),
      batches: sum((dataset) => dataset.batches),
    },
  };
}

/** What Kinora's form leaves open: size as the folder was prepared or else the model's usual one, length the model's. */
function settleSection(section: DatasetSection, { prepared }: SourceListing, model: ModelName): SettledSection {
  const { defaultSize, defaultFrames } = mediaOf(wanModels[model]);
  const { resolution = prepared?.resolution ?? [...defaultSize], video } = section;
  return { ...section, resolution, video: { ...video, maxFrames: video.maxFrames ?? defaultFrames } };
}

function unreadable(section: DatasetSection, entry: SourceEntry, error: KinoraError): Drop {
  return {
    dataset: section.index,
    name: entry.name,
    file: entry.file,
    code: error.code === "media.not-found" ? "missing" : "unreadable",
    reason: error.code === "media.not-found" ? "does not exist" : error.message,
    frames: undefined,
    items: itemsAsked(section, entry.kind),
  };
}

/** A JSONL may name a file twice; both count, the second under its own id. */
function unique(id: string, taken: Map<string, number>): string {
  const times = (taken.get(id) ?? 0) + 1;
  taken.set(id, times);
  return times === 1 ? id : `${id}~${times}`;
}

function plannedDataset(
  section: SettledSection,
  { place, entries, ignored, orphanCaptions, notices }: SourceListing,
  all: readonly DatasetItem[],
): PlannedDataset {
  const items = all.filter((item) => item.dataset === section.index);
  const buckets = bucketsOf(items).map(({ bucket, items: members }) => ({
    ...bucket,
    items: members.length,
    batches: Math.ceil(members.length / section.batchSize),
  }));
  const countable = !section.media.videos || !["chunk", "slide"].includes(section.video.extraction);
  const kinds = [...entries.map((entry) => entry.kind), ...ignored.flatMap((file) => file.asked ?? [])];
  return {
    section,
    place,
    files: kinds.length,
    onPaper: countable ? kinds.reduce((total, kind) => total + itemsAsked(section, kind), 0) : undefined,
    items: items.reduce((total, item) => total + item.repeats, 0),
    batches: epochBatches(items, () => section.batchSize).length,
    frames: items.reduce((total, item) => total + item.repeats * item.frames, 0),
    buckets,
    orphanCaptions,
    notices,
  };
}
