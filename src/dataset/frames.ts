// Which frames of a clip become items: 4n+1 lengths, the five ways of extraction, skipping to the model's rate.
// Pure counting: no files, no sizes. Equal to musubi's; docs/musubi.md lists the differences.
// Rules: https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/image_video_dataset.py

/** The longest 4n+1 that is not longer than `frames` (the VAE's temporal stride is 4). */
export function floorFrames(frames: number): number {
  return Math.floor((frames - 1) / 4) * 4 + 1;
}

export interface TargetFrames {
  /** Distinct lengths, ascending, each 4n+1. */
  lengths: number[];
  /** What was asked for and is not 4n+1, with what it became. */
  floored: { from: number; to: number }[];
}

/** `target_frames` as it is used: distinct, ascending, each floored to 4n+1. */
export function targetFrames(asked: readonly number[]): TargetFrames {
  const distinct = [...new Set(asked)].sort((a, b) => a - b);
  const lengths = [...new Set(distinct.map(floorFrames))];
  const floored = distinct.filter((n) => n !== floorFrames(n)).map((n) => ({ from: n, to: floorFrames(n) }));
  return { lengths, floored };
}

export const extractions = ["head", "chunk", "slide", "uniform", "full"] as const;
export type Extraction = (typeof extractions)[number];

export interface FrameRules {
  extraction: Extraction;
  /** Lengths N, each 4n+1; `full` does not use them. */
  lengths: readonly number[];
  /** Distance between windows of `slide`, in frames. */
  stride: number;
  /** Number of windows of `uniform`. */
  sample: number;
  /** Longest item of `full`, in frames (floored to 4n+1 with the clip). */
  maxFrames: number;
}

export interface FrameWindow {
  first: number;
  frames: number;
}

export interface Windows {
  windows: FrameWindow[];
  /** Lengths that gave nothing, because the clip is shorter. */
  tooShort: number[];
  /** Windows of `uniform` that fall on the same frames as one before them and are counted once. */
  merged: { frames: number; asked: number; kept: number }[];
}

/** The windows a clip of `count` frames gives. Order: by length, then by first frame. */
export function frameWindows(count: number, rules: FrameRules): Windows {
  const result: Windows = { windows: [], tooShort: [], merged: [] };
  if (rules.extraction === "full") {
    if (count >= 1) result.windows.push({ first: 0, frames: floorFrames(Math.min(count, rules.maxFrames)) });
    return result;
  }
  for (const frames of rules.lengths) {
    if (count < frames) {
      result.tooShort.push(frames);
      continue;
    }
    const starts = startsOf(count, frames, rules);
    const distinct = [...new Set(starts)];
    if (distinct.length < starts.length) result.merged.push({ frames, asked: starts.length, kept: distinct.length });
    for (const first of distinct) result.windows.push({ first, frames });
  }
  return result;
}

function startsOf(count: number, frames: number, rules: FrameRules): number[] {
  const last = count - frames;
  switch (rules.extraction) {
    case "head":
    case "full":
      return [0];
    case "chunk":
      return every(frames, last);
    case "slide":
      return every(rules.stride, last);
    case "uniform":
      return uniformStarts(last, rules.sample);
  }
}

const every = (stride: number, last: number): number[] =>
  Array.from({ length: Math.floor(last / stride) + 1 }, (_, i) => i * stride);

/** `numpy.linspace(0, last, samples, dtype=int)`, with its float64 rounding: floor(i · (last / (samples − 1))). */
export function uniformStarts(last: number, samples: number): number[] {
  const step = samples > 1 ? last / (samples - 1) : 0;
  return Array.from({ length: samples }, (_, i) => (i > 0 && i === samples - 1 ? last : Math.floor(i * step)));
}

/** Rates within 1 % of each other count as one: 23.976 is 24. */
export function sameRate(a: number, b: number): boolean {
  return Math.abs(a - b) <= 0.01 * b;
}

/**
 * Which frames of a clip at `sourceFps` are kept to play at `targetFps`: frames are skipped, never added,
 * so a slower source keeps all of them. The running sum is float64, as in musubi, so the same frames fall out.
 * https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/media_utils.py (load_video)
 */
export function keptFrames(count: number, sourceFps: number, targetFps: number): number[] {
  const kept: number[] = [];
  const delta = targetFps / sourceFps;
  let position = 0;
  let previous = -1;
  for (let i = 0; i < count; i++) {
    const index = Math.floor(position);
    position += delta;
    if (index === previous) continue;
    previous = index;
    kept.push(i);
  }
  return kept;
}
