// What a measure is: a name, a unit, usual limits, words for a person, and a sum that frames are added to.
import type { Limit, MeasureName } from "../../../protocol/prepare-config.ts";
import type { Flow } from "../flow.ts";
import type { SmallPicture, Tone } from "../small.ts";

/** Every how many frames the dear measures and the source itself are looked at: twice a second. */
export function detailEvery(fps: number): number {
  return Math.max(1, Math.round(fps / 2));
}

/** Luma at the item's own size, rows of `stride` bytes. */
export interface LumaPlane {
  data: Uint8Array;
  width: number;
  height: number;
  stride: number;
}

/** The picture at the item's own size. */
export interface Detail {
  luma: LumaPlane;
  /** Half as wide and high; undefined for pictures that have none of their own. */
  chroma: readonly [LumaPlane, LumaPlane] | undefined;
}

/** What is looked for before anything is scaled: the marks of compression, scanning and quantising are tied to pixels. */
export interface SourceMarks {
  /** On H.264's scale; undefined where the decoder does not tell. */
  quantizer: number | undefined;
  /** See blockiness.ts, compression.ts, banding.ts, combing.ts. Undefined where the picture says nothing about it. */
  blockiness: number;
  compression: number | undefined;
  banding: number | undefined;
  combing: number;
}

/** One frame of a clip (or the one of a picture), as measures see it. */
export interface ClipFrame {
  small: SmallPicture;
  tone: Tone;
  /** Motion from the frame before; undefined for the first. */
  flow: Flow | undefined;
  /** On some frames only, about two a second. */
  detail: Detail | undefined;
  /** What the source's own pixels showed, on some frames only. */
  marks: SourceMarks | undefined;
}

export interface ClipContext {
  /** Frames a second. */
  fps: number;
  /** Frames whose motion is known; 0 for pictures. */
  kind: "video" | "image";
  /** How many times larger the source's pixels become; under 1 it is made smaller. */
  scale: number;
}

/** Adds up one measure over a clip. */
export interface Tally {
  add(frame: ClipFrame, index: number): void;
  /** Undefined where the material cannot be judged. */
  result(): number | undefined;
}

export interface Measure {
  name: MeasureName;
  title: string;
  unit: string;
  /** Beyond these an item is dropped, unless the settings say otherwise. */
  limit: Exclude<Limit, false>;
  /** Beyond these it is told as a finding and kept. */
  notice?: Exclude<Limit, false>;
  /** What it means to be below `min` or above `max`. */
  low?: string;
  high?: string;
  /** Says nothing about single pictures. */
  filmsOnly?: boolean;
  start(context: ClipContext): Tally;
}

/** A measure whose value is the median of what some frames show, where they show something. */
export function medianMeasure(
  facts: Omit<Measure, "start">,
  see: (frame: ClipFrame, context: ClipContext) => number | undefined,
): Measure {
  return {
    ...facts,
    start(context) {
      const values: number[] = [];
      return {
        add(frame) {
          const value = see(frame, context);
          if (value !== undefined) values.push(value);
        },
        result: () => median(values),
      };
    },
  };
}

/** The middle of the values; undefined for none. */
export function median(values: readonly number[]): number | undefined {
  return percentile(values, 0.5);
}

/** The value below which `share` of the values lie. */
export function percentile(values: readonly number[], share: number): number | undefined {
  if (values.length === 0) return undefined;
  // Typed arrays sort numbers without calling back.
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export function mean(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length;
}
