// What a plan does that people find out too late: wrong rates, captions that are missing or too long, lonely buckets,
// sets too small for their goal. Each finding says what to do. Nothing here stops anything.

import { plural } from "../base/units.ts";
import type { DatasetGoal } from "../protocol/dataset-config.ts";
import { mediaOf } from "../protocol/model-media.ts";
import { wanModels } from "../protocol/models.ts";
import { bucketsOf } from "./batches.ts";
import { estimateTokens } from "./caption/caption-text.ts";
import type { DatasetSection } from "./config.ts";
import type { DatasetPlan } from "./dataset-plan.ts";
import { sameRate } from "./frames.ts";
import { type DatasetItem, frameCount } from "./items.ts";

/** Something doubtful about a dataset. */
export interface DatasetWarning {
  /** Stable, e.g. `caption.missing`. */
  code: string;
  message: string;
  hint?: string;
  /** Index of the dataset; undefined for the whole configuration. */
  dataset?: number;
  /** The files it is about, by their paths within the dataset. */
  files: string[];
}

export interface WarningOptions {
  /** Tokens of a caption with the model's own tokenizer. Absent: an estimate on the high side. */
  countTokens?: (text: string) => number;
}

/** How much material a goal asks for, by the guide's table; either kind will do where both are given. */
export const goalNeeds: Readonly<Record<DatasetGoal, { clips: [number, number]; images?: [number, number] }>> = {
  character: { images: [150, 200], clips: [30, 50] },
  style: { clips: [200, 300] },
  motion: { clips: [300, 500] },
  domain: { clips: [400, 600] },
};

/** More of the picture than this cut away is worth a word. */
const LARGE_CROP = 0.25;
/** Enlarging by less than this is not seen. */
const LARGE_SCALE = 1.05;

/** What is doubtful about an epoch: nothing of it stops a run. */
export function planWarnings(plan: DatasetPlan, options: WarningOptions = {}): DatasetWarning[] {
  const warnings: DatasetWarning[] = plan.config.notes.map((note) => ({ ...note, files: [] }));
  for (const { section, orphanCaptions, notices } of plan.datasets) {
    const items = plan.items.filter((item) => item.dataset === section.index);
    const warn = (code: string, files: readonly string[], message: string, hint?: string) => {
      if (files.length > 0)
        warnings.push({ code, message, ...(hint ? { hint } : {}), dataset: section.index, files: [...files] });
    };
    if (items.length === 0) {
      const lengths = plan.drops.flatMap(({ dataset, frames }) => (dataset === section.index ? (frames ?? []) : []));
      warnings.push({
        code: "items.none",
        message: "no file in this dataset yields an item",
        hint:
          lengths.length > 0
            ? `every clip is shorter than ${Math.min(...lengths)} frames: lower target_frames`
            : "see the reason given for each file",
        dataset: section.index,
        files: [],
      });
    }
    captionWarnings(section, items, mediaOf(wanModels[plan.model]).textLength, options, warn);
    const unreadable = plan.drops.filter(({ dataset, code }) => dataset === section.index && code === "bad-caption");
    const lost = unreadable.map(({ name }) => name);
    warn(
      "caption.unreadable",
      lost,
      `${some(lost, "file")} left out because the caption could not be read`,
      unreadable[0] && `${unreadable[0].name}: ${unreadable[0].reason}`,
    );
    warn(
      "caption.orphan",
      orphanCaptions,
      `${some(orphanCaptions, "caption file")} without a matching picture or clip`,
      "check the names",
    );
    const shown = notices.slice(0, 3).map(({ name, notice }) => `${name} ${notice}`);
    warn(
      "text.encoding",
      notices.map(({ name }) => name),
      `${shown.join("; ")}${notices.length > shown.length ? `; and ${plural(notices.length - shown.length, "more file")} alike` : ""}`,
    );
    rateWarnings(plan, section, items, warn);
    pictureWarnings(plan, section, items, warn);
    shareWarnings(section, items, warn);
    const lonely = bucketsOf(items).filter(({ items: members }) => members.length === 1);
    const named = lonely
      .slice(0, 5)
      .map(({ bucket, items: [item] }) => `${bucket.width}×${bucket.height}×${bucket.frames} ${item!.name}`);
    warn(
      "bucket.single",
      lonely.map(({ items: [item] }) => item!.name),
      `${plural(lonely.length, "bucket")} with a single item: ${named.join(", ")}${lonely.length > 5 ? " …" : ""}`,
      section.batchSize > 1
        ? `such an item always trains alone, in a batch of less than ${section.batchSize}: crop it to a common shape`
        : "crop such items to a common shape, or leave them out",
    );
  }
  warnings.push(...goalWarnings(plan));
  return warnings;
}

type Warn = (code: string, files: readonly string[], message: string, hint?: string) => void;

const filesOf = (items: readonly DatasetItem[]): string[] => [...new Set(items.map((item) => item.name))];

/** "3 clips (a.mp4, b.mp4 and 1 more)". */
function some(files: readonly string[], noun: string, shown = 2): string {
  const more = files.length > shown ? ` and ${files.length - shown} more` : "";
  return `${plural(files.length, noun)} (${files.slice(0, shown).join(", ")}${more})`;
}

function captionWarnings(
  section: DatasetSection,
  items: readonly DatasetItem[],
  textLength: number,
  { countTokens }: WarningOptions,
  warn: Warn,
): void {
  const where = (test: (text: string) => boolean) =>
    filesOf(items.filter(({ caption }) => caption.text !== undefined && caption.text !== "" && test(caption.text)));
  const missing = filesOf(items.filter(({ caption }) => caption.text === undefined));
  const write = "write them, or run kinora dataset caption --missing on the folder";
  warn("caption.missing", missing, `${some(missing, "file")} without a caption`, write);
  const empty = filesOf(items.filter(({ caption }) => caption.text === ""));
  warn("caption.empty", empty, `${some(empty, "file")} with an empty caption`, write);
  const { trigger } = section;
  if (trigger !== undefined) {
    const without = where((text) => !text.includes(trigger));
    warn(
      "caption.no-trigger",
      without,
      `${some(without, "caption")} without the trigger phrase ${JSON.stringify(trigger)}`,
      "begin every caption with the phrase, exactly as given",
    );
    const late = where((text) => text.includes(trigger) && !text.startsWith(trigger));
    warn(
      "caption.trigger-late",
      late,
      `${some(late, "caption")} with the trigger phrase ${JSON.stringify(trigger)} not at the beginning`,
      "begin every caption with the phrase",
    );
  }
  const long = where((text) => (countTokens ?? estimateTokens)(text) > textLength);
  warn(
    "caption.long",
    long,
    `${some(long, "caption")} over ${textLength} tokens${countTokens ? "" : " (estimated)"}: the model ignores the rest`,
    countTokens ? "shorten them" : "shorten them; for an exact count give the text encoder's tokenizer (`tokenizer`)",
  );
}

function rateWarnings(plan: DatasetPlan, section: DatasetSection, items: readonly DatasetItem[], warn: Warn): void {
  const { fps: wanted } = plan.rules;
  const clips = new Map(
    items.filter((item) => item.kind === "video" && item.frames > 1).map((item) => [item.name, item]),
  );
  const { sourceFps } = section.video;
  const groups = new Map<string, { files: string[]; real: number; shown: number }>();
  for (const [name, { rateChange, facts }] of clips) {
    const { fps: real } = facts;
    if (real === undefined) continue;
    // What the model will see: the true rate, thinned as the configuration says.
    const shown = rateChange ? (real * rateChange.targetFps) / rateChange.sourceFps : real;
    if (sameRate(shown, wanted)) continue;
    const group = groups.get(rateText(real)) ?? { files: [], real, shown };
    groups.set(rateText(real), group);
    group.files.push(name);
  }
  for (const { files, real, shown } of groups.values()) {
    const speed =
      shown > wanted ? `${(shown / wanted).toFixed(2)}× too slow` : `${(wanted / shown).toFixed(2)}× too fast`;
    const clip = `${some(files, "clip")} with ${rateText(real)} fps`;
    if (typeof sourceFps === "number" && !sameRate(real, sourceFps))
      warn(
        "fps.claimed",
        files,
        `${clip}, but source_fps is ${rateText(sourceFps)}: motion will be learned ${speed}`,
        "set source_fps to the clips' own rate; put clips with another rate into a dataset of their own",
      );
    else
      warn(
        "fps.wrong",
        files,
        `${clip}; ${plan.model} is trained at ${wanted} fps, so motion will be learned ${speed}`,
        real > wanted
          ? `set source_fps = ${tomlFloat(real)} to skip frames, or resample with kinora dataset prepare`
          : "skipping cannot add frames: resample with kinora dataset prepare",
      );
  }
  const uneven = filesOf([...clips.values()].filter((item) => item.facts.variableRate));
  warn(
    "fps.variable",
    uneven,
    `${some(uneven, "clip")} with a frame rate that changes inside the clip`,
    "resample by timestamps with kinora dataset prepare",
  );
}

const rateText = (rate: number): string => String(Math.round(rate * 1000) / 1000);

/** Musubi wants its rates with a decimal point. */
const tomlFloat = (rate: number): string => rateText(rate).replace(/^\d+$/, "$&.0");

function pictureWarnings(plan: DatasetPlan, section: DatasetSection, items: readonly DatasetItem[], warn: Warn): void {
  if (mediaOf(wanModels[plan.model]).needsImage) {
    const still = filesOf(items.filter((item) => item.frames === 1));
    warn(
      "i2v.still",
      still,
      `${some(still, "file")} yielding single frames for ${plan.model}: image-to-video cannot learn from a single frame`,
      "train image-to-video on clips only, without 1 in target_frames",
    );
  }
  const cut = filesOf(items.filter((item) => item.crop.lost > LARGE_CROP));
  const most = Math.max(0, ...items.map((item) => item.crop.lost));
  warn(
    "crop.large",
    cut,
    `${some(cut, "file")} losing over ${LARGE_CROP * 100} % of the picture to cropping (up to ${Math.round(most * 100)} %)`,
    section.enableBucket
      ? "choose a resolution closer to their aspect ratio"
      : "set enable_bucket = true to keep their aspect ratio",
  );
  const enlarged = filesOf(items.filter((item) => item.crop.scale > LARGE_SCALE));
  warn(
    "size.enlarged",
    enlarged,
    `${some(enlarged, "file")} smaller than the size ${enlarged.length === 1 ? "it trains" : "they train"} at: enlarging blurs`,
    "lower the resolution, or set bucket_no_upscale = true with enable_bucket",
  );
  const damaged = filesOf(items.filter((item) => item.facts.damaged));
  warn(
    "file.damaged",
    damaged,
    `${some(damaged, "file")} with decoding errors: some frames may be damaged`,
    "check them",
  );
  const partial = items.filter((item) => item.facts.missing !== undefined);
  warn(
    "file.partial",
    filesOf(partial),
    `${some(filesOf(partial), "file")} only partly read: ${partial[0]?.facts.missing}`,
    "it may be several recordings in one file: split them, or re-encode them as one",
  );
}

/** Less than this of the clips trained on is told. */
const SMALL_SHARE = 0.5;

/** How much of its clips a dataset trains on, where that is little: windows at the head leave the rest of long clips out. */
function shareWarnings({ video, media }: DatasetSection, items: readonly DatasetItem[], warn: Warn): void {
  if (!media.videos) return;
  const clips = new Map<string, { frames: number; used: Set<number>; fps: number }>();
  for (const item of items) {
    // Single frames are asked for on purpose.
    if (item.kind !== "video" || item.frames === 1) continue;
    const clip = clips.get(item.name) ?? { frames: frameCount(item), used: new Set(), fps: item.fps ?? 0 };
    for (let i = 0; i < item.frames; i++) clip.used.add(item.firstFrame + i);
    clips.set(item.name, clip);
  }
  const sum = (of: (clip: { frames: number; used: Set<number> }) => number) =>
    [...clips.values()].reduce((total, clip) => total + of(clip), 0);
  const [used, all] = [sum((clip) => clip.used.size), sum((clip) => clip.frames)];
  if (used >= SMALL_SHARE * all) return;
  const partly = [...clips].flatMap(([name, clip]) => (clip.used.size < SMALL_SHARE * clip.frames ? [name] : []));
  const longest = Math.max(...items.map((item) => item.frames));
  const fps = [...clips.values()].find((clip) => clip.fps > 0)?.fps;
  const seconds = fps ? ` (${(longest / fps).toFixed(1)} s)` : "";
  warn(
    "clips.partly-used",
    partly,
    `${Math.round((100 * used) / all)} % of the clips' frames are trained on: frame_extraction ${video.extraction} takes ${longest} frames${seconds} of clips of ${Math.round(all / clips.size)} on average`,
    'frame_extraction = "chunk" or "uniform" uses more of each clip; or cut clips to that length with kinora dataset prepare --longest',
  );
}

function goalWarnings({ config, items }: DatasetPlan): DatasetWarning[] {
  const { goal } = config;
  if (goal === undefined) return [];
  const needs = goalNeeds[goal];
  const clips = filesOf(items.filter((item) => item.kind === "video")).length;
  const images = filesOf(items.filter((item) => item.kind === "image")).length;
  if (clips >= needs.clips[0] || (needs.images && images >= needs.images[0])) return [];
  const range = ([from, to]: [number, number], noun: string) => `${from}–${to} ${noun}`;
  const wanted = [...(needs.images ? [range(needs.images, "images")] : []), range(needs.clips, "clips")].join(" or ");
  return [
    {
      code: "goal.few",
      message: `${plural(images, "image")} and ${plural(clips, "clip")} are few for a ${goal} set; ${wanted} are recommended`,
      hint: "collect more, or train fewer steps and watch the previews for over-fitting",
      files: [],
    },
  ];
}
