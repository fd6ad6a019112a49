// What a measure is: a name, a unit, usual limits, words for a person, and a sum that frames are added to.
import type { Limit, MeasureName } from "../../../protocol/prepare-config.ts";
import type { Flow } from "../flow.ts";
import type { SmallPicture, Tone } from "../small.ts";

/** Luma at the item's own size, rows of `stride` bytes. */
export interface LumaPlane {
  data: Uint8Array;
  width: number;
  height: number;
  stride: number;
}

/** One frame of a clip (or the one of a picture), as measures see it. */
export interface ClipFrame {
  small: SmallPicture;
  tone: Tone;
  /** Motion from the frame before; undefined for the first. */
  flow: Flow | undefined;
  /** On some frames only, about four a second. */
  detail: LumaPlane | undefined;
  /** Block edges of the source's compression, on some frames only; see blockiness.ts. */
  blockiness: number | undefined;
}

export interface ClipContext {
  /** Frames a second. */
  fps: number;
  /** Frames whose motion is known; 0 for pictures. */
  kind: "video" | "image";
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
  /** What it means to be below `min` or above `max`. */
  low?: string;
  high?: string;
  /** Says nothing about single pictures. */
  filmsOnly?: boolean;
  start(context: ClipContext): Tally;
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
