// Bringing a set's exposure and white balance together: each item a part of the way to the set's middle.
import type { ClipRecord } from "./clip.ts";
import { median } from "./measures/measure.ts";
import type { ToneShift } from "./render.ts";
import type { PrepareSettings } from "./settings.ts";

/** Chroma levels an item may be shifted by at most. */
const mostChroma = 12;

/** The shift of every clip that has a tone; undefined where the set has no middle. */
export function toneShifts(
  clips: readonly ClipRecord[],
  { strength, most }: PrepareSettings["normalization"],
): (clip: ClipRecord) => ToneShift | undefined {
  const tones = clips.flatMap((clip) => clip.tone ?? []);
  const middle = {
    mean: median(tones.map((tone) => tone.mean)),
    u: median(tones.map((tone) => tone.u)),
    v: median(tones.map((tone) => tone.v)),
  };
  const between = (value: number, low: number, high: number) => Math.max(low, Math.min(high, value));
  const round = (value: number) => Math.round(value * 1000) / 1000;
  return ({ tone }) => {
    if (!tone || middle.mean === undefined) return undefined;
    const exposure = (Math.max(middle.mean, 0.01) / Math.max(tone.mean, 0.01)) ** strength;
    return {
      exposure: round(between(exposure, 1 / most, most)),
      u: round(between((middle.u! - tone.u) * strength, -mostChroma, mostChroma)),
      v: round(between((middle.v! - tone.v) * strength, -mostChroma, mostChroma)),
    };
  };
}
