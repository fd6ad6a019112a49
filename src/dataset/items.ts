// What one file gives to an epoch: its items (which frames, what size, which part of the picture), and what it does not
// give and why. Pure: the files were listed (sources.ts) and probed (probe.ts) before.
import { plural } from "../base/units.ts";
import { bucketFor, type CropGeometry, cropFor, isSliver } from "./buckets.ts";
import type { DatasetSection, VideoSettings } from "./config.ts";
import { frameWindows, keptFrames, sameRate } from "./frames.ts";
import type { Caption, Cut, SourceEntry } from "./listing.ts";
import type { MediaKind } from "./media-files.ts";
import type { MediaFacts } from "./probe.ts";

/** Size and length of what trains together in a batch. */
export interface Bucket {
  width: number;
  height: number;
  /** 4n+1; 1 for pictures. */
  frames: number;
}

/** A clip that plays faster than the model: only some of its frames count. */
export interface RateChange {
  sourceFps: number;
  targetFps: number;
  /** Frames in the file. */
  sourceFrames: number;
}

/** One thing to train on, once per repeat and epoch. */
export interface DatasetItem {
  /** Unique in its plan and steady over runs: dataset, file within it, first frame, frames. */
  id: string;
  /** Index of its dataset. */
  dataset: number;
  kind: MediaKind;
  /** Its file's path within the dataset. */
  name: string;
  /** Absolute path. A clip may be a folder of pictures, one a frame (`frameFolder`). */
  file: string;
  frameFolder: boolean;
  /** The part of the file that counts as the whole of it: time and picture below are within that. */
  cut: Cut | undefined;
  /** What the probe, or the manifest, found in the file (its cut, where it has one). */
  facts: MediaFacts;
  /** Of the frames that count (after `rateChange`), from 0. `sourceFrames` gives the file's own. */
  firstFrame: number;
  frames: number;
  rateChange: RateChange | undefined;
  /** Frames a second at which the item's frames follow each other; undefined where unknown (pictures). */
  fps: number | undefined;
  bucket: Bucket;
  crop: CropGeometry;
  caption: Caption;
  /** Absolute path of its control picture or clip. */
  control: string | undefined;
  repeats: number;
}

/** Why a file, or a part of it, gives no item. */
export type DropCode =
  | "too-short"
  | "same-frames"
  | "too-small"
  | "too-narrow"
  | "missing"
  | "changed"
  | "unreadable"
  | "no-caption"
  | "bad-caption"
  | "other-kind"
  | "folder"
  | "not-media";

/** Items that a file does not give. */
export interface Drop {
  dataset: number;
  /** The file's path within the dataset. */
  name: string;
  /** Absolute. */
  file: string;
  code: DropCode;
  /** For a person, e.g. "has 44 frames; 45 are needed". */
  reason: string;
  /** The length this is about; undefined where the whole file gives nothing. */
  frames: number | undefined;
  /** Items of an epoch that are missing for it, as in `itemsAsked`; 0 for files the dataset does not ask for. */
  items: number;
}

/** What the model asks of items. */
export interface ModelRules {
  /** Frames a second. */
  fps: number;
  /** Sides are multiples of this. */
  sizeMultiple: number;
}

/** A dataset with nothing left to the model or the folder. */
export interface SettledSection extends DatasetSection {
  resolution: [number, number];
  video: VideoSettings & { maxFrames: number };
}

/** The rate a clip is taken to have, where frames must be skipped to reach the model's. */
function rateChange(section: DatasetSection, facts: MediaFacts, targetFps: number): RateChange | undefined {
  const { sourceFps: asked } = section.video;
  const sourceFps = asked === "auto" ? facts.fps : asked;
  if (sourceFps === undefined || sourceFps <= targetFps) return undefined;
  if (asked === "auto" && sameRate(sourceFps, targetFps)) return undefined;
  return { sourceFps, targetFps, sourceFrames: facts.frames };
}

/** The frames of the file that make the item, counted from 0 in the order they decode. */
export function sourceFrames(item: Pick<DatasetItem, "firstFrame" | "frames" | "rateChange">): number[] {
  const { firstFrame, frames, rateChange: change } = item;
  if (!change) return Array.from({ length: frames }, (_, i) => firstFrame + i);
  return keptFrames(change.sourceFrames, change.sourceFps, change.targetFps).slice(firstFrame, firstFrame + frames);
}

/** Frames of an item's whole clip that count: those left after skipping. */
export function frameCount({ facts, rateChange: change }: Pick<DatasetItem, "facts" | "rateChange">): number {
  return change ? keptFrames(facts.frames, change.sourceFps, change.targetFps).length : facts.frames;
}

/** How many items a file that is long enough gives for one length: exact for head and uniform, else at the least. */
function itemsPerLength(section: DatasetSection): number {
  return section.video.extraction === "uniform" ? section.video.sample : 1;
}

/** Items of an epoch that a file of this dataset is asked for, repeats counted (`chunk` and `slide`: at the least). */
export function itemsAsked(section: DatasetSection, kind: MediaKind): number {
  if (kind === "image" || section.video.extraction === "full") return section.repeats;
  return section.video.lengths.length * itemsPerLength(section) * section.repeats;
}

export interface FilePlan {
  items: DatasetItem[];
  drops: Drop[];
}

/** The items of one file. Sizes follow buckets.ts, windows frames.ts. */
export function planFile(entry: SourceEntry, facts: MediaFacts, section: SettledSection, model: ModelRules): FilePlan {
  const plan: FilePlan = { items: [], drops: [] };
  const drop = (code: DropCode, reason: string, frames: number | undefined, items: number) =>
    plan.drops.push({
      dataset: section.index,
      name: entry.name,
      file: entry.file,
      code,
      reason,
      frames,
      items: items * section.repeats,
    });
  const { width, height } = facts;
  const size = bucketFor(width, height, {
    resolution: section.resolution,
    step: model.sizeMultiple,
    enabled: section.enableBucket,
    noUpscale: section.bucketNoUpscale,
  });
  if (!size) {
    const asked = itemsAsked(section, entry.kind) / section.repeats;
    drop("too-small", `is ${width}×${height}; sides need at least ${model.sizeMultiple} pixels`, undefined, asked);
    return plan;
  }
  const crop = cropFor(width, height, size);
  if (isSliver(crop)) {
    const asked = itemsAsked(section, entry.kind) / section.repeats;
    const bucket = `${size.width}×${size.height}`;
    drop("too-narrow", `is ${width}×${height}, far too narrow to enlarge to ${bucket}`, undefined, asked);
    return plan;
  }
  const change = entry.kind === "video" ? rateChange(section, facts, model.fps) : undefined;
  const base = {
    dataset: section.index,
    kind: entry.kind,
    name: entry.name,
    file: entry.file,
    frameFolder: entry.frameFolder,
    cut: entry.cut,
    facts,
    rateChange: change,
    crop,
    caption: entry.caption,
    control: entry.control,
    repeats: section.repeats,
  };
  const add = (firstFrame: number, frames: number, fps: number | undefined) =>
    plan.items.push({
      id: `${section.index + 1}/${entry.name}:${firstFrame}+${frames}`,
      ...base,
      firstFrame,
      frames,
      fps,
      bucket: { ...size, frames },
    });
  if (entry.kind === "image") {
    add(0, 1, undefined);
    return plan;
  }
  const count = frameCount({ facts, rateChange: change });
  const { windows, tooShort, merged } = frameWindows(count, section.video);
  for (const { first, frames } of windows) add(first, frames, change?.targetFps ?? facts.fps);
  const has = `has ${plural(count, "frame")}${change ? ` at ${change.targetFps} fps (${facts.frames} in the file)` : ""}`;
  for (const frames of tooShort) drop("too-short", `${has}; it needs ${frames}`, frames, itemsPerLength(section));
  for (const { frames, asked, kept } of merged)
    drop(
      "same-frames",
      `${has}: the ${asked} windows of ${frames} are ${kept === 1 ? "one and the same" : `${kept} different ones`}`,
      frames,
      asked - kept,
    );
  return plan;
}
