// A plan as plain data for `--json`, the HTML report and the terminal: names instead of paths, ids instead of objects.
import { type Batch, epochBatches } from "./batches.ts";
import type { DatasetPlan } from "./dataset-plan.ts";
import { type DatasetItem, sourceFrames } from "./items.ts";
import { trainingRefusals } from "./refusals.ts";
import type { DatasetWarning } from "./warnings.ts";

const rounded = (value: number): number => Math.round(value * 1000) / 1000;

/** Everything an epoch holds, ready for JSON. Lengths in frames, sizes in pixels, `onPaper` as in the plan. */
export function inspection(plan: DatasetPlan, warnings: readonly DatasetWarning[]) {
  return {
    config: plan.config.file,
    model: plan.model,
    fps: plan.rules.fps,
    sizeMultiple: plan.rules.sizeMultiple,
    totals: plan.totals,
    datasets: plan.datasets.map(({ section, place, files, onPaper, items, batches, frames, buckets }) => ({
      dataset: section.index + 1,
      type: section.type,
      path: place,
      resolution: section.resolution,
      enableBucket: section.enableBucket,
      bucketNoUpscale: section.bucketNoUpscale,
      batchSize: section.batchSize,
      repeats: section.repeats,
      extraction: extractionText(plan, section.index),
      files,
      onPaper,
      items,
      batches,
      frames,
      buckets,
    })),
    items: plan.items.map((item) => itemData(item)),
    batches: planBatches(plan).map(({ dataset, bucket, items }) => ({
      dataset: dataset + 1,
      ...bucket,
      items: items.map((item) => item.id),
    })),
    drops: plan.drops.map((drop) => ({ ...drop, dataset: drop.dataset + 1 })),
    /** Files that give no item at all to their dataset. */
    withoutItems: filesWithoutItems(plan).map((file) => ({ ...file, dataset: file.dataset + 1 })),
    /** What a training run stops at. */
    refusals: trainingRefusals(plan).map(({ code, message, hint }) => ({ code, message, hint })),
    warnings: warnings.map((warning) =>
      warning.dataset === undefined ? warning : { ...warning, dataset: warning.dataset + 1 },
    ),
  };
}

/** A plan as plain data, which survives JSON. */
export type Inspection = ReturnType<typeof inspection>;
export type InspectedItem = Inspection["items"][number];

function itemData(item: DatasetItem) {
  const frames = sourceFrames(item);
  const { source, scale, lost } = item.crop;
  return {
    id: item.id,
    dataset: item.dataset + 1,
    name: item.name,
    file: item.file,
    kind: item.kind,
    firstFrame: item.firstFrame,
    frames: item.frames,
    /** First and last frame of the file itself; they differ from the item's where frames are skipped. */
    sourceRange: [frames[0]!, frames.at(-1)!] as const,
    skipped: item.rateChange ? { from: item.rateChange.sourceFps, to: item.rateChange.targetFps } : undefined,
    fps: item.fps === undefined ? undefined : rounded(item.fps),
    source: { width: item.facts.width, height: item.facts.height },
    /** Where a set was prepared in place: the part of the file that is `source`. Seconds, pixels. */
    cut: item.cut,
    bucket: item.bucket,
    crop: {
      x: rounded(source.x),
      y: rounded(source.y),
      width: rounded(source.width),
      height: rounded(source.height),
      scale: rounded(scale),
      lost: rounded(lost),
    },
    caption: item.caption.text,
    captionFile: item.caption.path,
    control: item.control,
    repeats: item.repeats,
  };
}

/** How clips are cut, in words: "head [1, 21]". Undefined for datasets of pictures. */
export function extractionText(plan: DatasetPlan, dataset: number): string | undefined {
  const { media, video } = plan.datasets[dataset]!.section;
  if (!media.videos) return undefined;
  const { extraction, lengths, stride, sample, maxFrames } = video;
  const more = { head: "", chunk: "", slide: `, stride ${stride}`, uniform: ` ×${sample}`, full: "" }[extraction];
  return extraction === "full" ? `full, up to ${maxFrames}` : `${extraction} [${lengths.join(", ")}]${more}`;
}

/** The epoch's batches in order, not shuffled. */
export function planBatches(plan: DatasetPlan): Batch[] {
  return epochBatches(plan.items, (dataset) => plan.config.datasets[dataset]!.batchSize);
}

export interface FileWithoutItems {
  dataset: number;
  name: string;
  file: string;
  reasons: string[];
}

/** Files that lie where a dataset looks and give it nothing, with all reasons. */
export function filesWithoutItems(plan: DatasetPlan): FileWithoutItems[] {
  const key = (entry: { dataset: number; name: string }) => `${entry.dataset}/${entry.name}`;
  const giving = new Set(plan.items.map(key));
  const found = new Map<string, FileWithoutItems>();
  for (const drop of plan.drops) {
    if (giving.has(key(drop))) continue;
    const entry = found.get(key(drop)) ?? { dataset: drop.dataset, name: drop.name, file: drop.file, reasons: [] };
    entry.reasons.push(drop.reason);
    found.set(key(drop), entry);
  }
  return [...found.values()];
}
