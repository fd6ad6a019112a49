// Verdicts: each measured item against the limits, then against the other items (overlays over scenes, near-duplicates).
import type { Measurement, Reason } from "../../protocol/dataset-manifest.ts";
import { type Limit, type MeasureName, measureNames } from "../../protocol/prepare-config.ts";
import type { ClipRecord } from "./clip.ts";
import { type HashRow, hashDistance, hashRow } from "./hash.ts";
import { leastScenes, overlayOfScenes, unpackMask } from "./measures/overlay.ts";
import { measures } from "./measures/table.ts";
import type { PrepareSettings } from "./settings.ts";

export interface Judged {
  measures: Partial<Record<MeasureName, Measurement>>;
  reasons: Reason[];
}

function limitOf(name: MeasureName, settings: PrepareSettings): Exclude<Limit, false> {
  const asked = settings.quality[name];
  if (asked === false) return {};
  return asked ?? measures[name].limit;
}

function number(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

function measurement(name: MeasureName, value: number | null, limit: Exclude<Limit, false>): Measurement {
  const bounds = {
    ...(limit.min === undefined ? {} : { min: limit.min }),
    ...(limit.max === undefined ? {} : { max: limit.max }),
  };
  const { unit } = measures[name];
  if (value === null) return { value, unit, ...bounds, verdict: "unknown" };
  const fails = (limit.min !== undefined && value < limit.min) || (limit.max !== undefined && value > limit.max);
  return { value, unit, ...bounds, verdict: fails ? "fail" : "pass" };
}

/** A clip by itself: its measures against the limits. */
export function judge(clip: ClipRecord, settings: PrepareSettings): Judged {
  const { fps, clips, model, sizeMultiple } = settings;
  if (clip.short) {
    const seconds = number(clip.frames / fps);
    return {
      measures: {},
      reasons: [{ code: "too-short", message: `${seconds} s long, the shortest kept is ${clips.shortest} s` }],
    };
  }
  const judged: Judged = { measures: {}, reasons: [] };
  for (const name of measureNames) {
    const value = clip.values[name];
    if (value === undefined) continue;
    const limit = limitOf(name, settings);
    const result = measurement(name, value, limit);
    judged.measures[name] = result;
    if (result.verdict !== "fail") continue;
    const low = limit.min !== undefined && value! < limit.min;
    const { title, low: lowWords, high: highWords, unit } = measures[name];
    const words = (low ? lowWords : highWords) ?? (low ? "too low" : "too high");
    const bound = low ? `at least ${number(limit.min!)}` : `at most ${number(limit.max!)}`;
    judged.reasons.push({
      code: `${name.replaceAll("_", "-")}-${low ? "low" : "high"}`,
      message: `${words}: ${title.toLowerCase()} ${number(value!)}, ${bound} (${unit})`,
    });
  }
  if (!clip.geometry)
    judged.reasons.push({
      code: "too-small",
      message: `smaller than ${sizeMultiple}×${sizeMultiple}, one step of ${model}`,
    });
  return judged;
}

/**
 * Overlays that only show when scenes are compared: gives clips of a film, whose own camera stands still, the value of
 * the whole film. Clips in, new values out; nothing is changed in place.
 */
export function withFilmOverlays(clips: readonly ClipRecord[], likeness: number): ClipRecord[] {
  const scenes: { mask: Uint8Array; row: HashRow }[] = [];
  const seen = new Set<number>();
  for (const clip of clips) {
    if (!clip.stillEdges || seen.has(clip.scene)) continue;
    seen.add(clip.scene);
    const row = hashRow(clip.hashes);
    // The same place filmed again has the same still edges for a good reason.
    const most = 2 * likeness + 4;
    if (scenes.some((scene) => hashDistance(scene.row, row, most) <= most)) continue;
    scenes.push({ mask: unpackMask(clip.stillEdges), row });
  }
  const sameSize = scenes.filter((scene) => scene.mask.length === scenes[0]!.mask.length);
  if (sameSize.length < leastScenes) return [...clips];
  const overFilm = overlayOfScenes(sameSize.map((scene) => scene.mask));
  if (overFilm === undefined) return [...clips];
  const value = Math.round(overFilm * 1e4) / 1e4;
  return clips.map((clip) =>
    clip.short || (clip.values.overlay ?? -1) >= value ? clip : { ...clip, values: { ...clip.values, overlay: value } },
  );
}

export interface DuplicateCandidate {
  index: number;
  kind: "video" | "image";
  /** Index of the source file. */
  source: number;
  clip: ClipRecord;
}

export interface Duplicate {
  index: number;
  /** The item it is like, which stays. */
  of: number;
  distance: number;
}

/** How alike brightness and colour must be: a hash sees only structure. */
function toneAlike(a: ClipRecord, b: ClipRecord): boolean {
  if (!a.tone || !b.tone) return true;
  const chroma = Math.hypot(a.tone.u - b.tone.u, a.tone.v - b.tone.v);
  return Math.abs(a.tone.mean - b.tone.mean) < 0.15 && chroma < 14;
}

/**
 * Items that are nearly the same as a better one: larger sources first, then sharper, then earlier. Two parts of one
 * film that the same camera saw are alike without being duplicates; they must agree three times as closely.
 */
export function findDuplicates(candidates: readonly DuplicateCandidate[], distance: number): Duplicate[] {
  const value = (candidate: DuplicateCandidate, name: MeasureName) => candidate.clip.values[name] ?? 0;
  const byQuality = [...candidates].sort(
    (a, b) =>
      value(b, "resolution") - value(a, "resolution") ||
      b.clip.frames - a.clip.frames ||
      value(b, "sharpness") - value(a, "sharpness") ||
      a.index - b.index,
  );
  const kept: { candidate: DuplicateCandidate; row: HashRow }[] = [];
  const duplicates: Duplicate[] = [];
  for (const candidate of byQuality) {
    const row = hashRow(candidate.clip.hashes);
    let like: Duplicate | undefined;
    for (const other of kept) {
      if (other.candidate.kind !== candidate.kind || !toneAlike(other.candidate.clip, candidate.clip)) continue;
      const most = other.candidate.source === candidate.source ? distance / 3 : distance;
      const apart = hashDistance(other.row, row, most);
      if (apart <= most && apart < (like?.distance ?? Number.POSITIVE_INFINITY))
        like = { index: candidate.index, of: other.candidate.index, distance: apart };
    }
    if (like) duplicates.push(like);
    else kept.push({ candidate, row });
  }
  return duplicates;
}
