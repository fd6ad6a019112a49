// Near-duplicates: items that look nearly the same, of which the best by the measures stays.
import type { Limit, MeasureName } from "../../protocol/prepare-config.ts";
import { measureNames } from "../../protocol/prepare-config.ts";
import type { ClipRecord } from "./clip.ts";
import { type HashRow, hashDistance, hashRow } from "./hash.ts";
import { measures } from "./measures/table.ts";
import { addedEdges } from "./overlays.ts";

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

/** How far a value has gone towards its bounds: 0 not at all, 1 there, over 1 beyond. */
function strain(value: number, { min, max }: Exclude<Limit, false>): number {
  if (max !== undefined && max > 0) return Math.max(0, value / max);
  if (min !== undefined && min > 0) return value <= 0 ? 2 : min / value;
  return 0;
}

/** % of the target's size beyond which a larger source is no better. */
const enough = 100;
/** % of the picture that one of two near-duplicates has more of, close together, to be taken for an overlay. */
const leastAdded = 0.1;

interface Quality {
  /** Measures beyond what is told as a finding. */
  findings: number;
  resolution: number;
  frames: number;
  /** Sum of the squares of how far each fault has gone to its bounds. */
  strain: number;
}

function qualityOf({ values, frames }: ClipRecord): Quality {
  const quality: Quality = { findings: 0, resolution: Math.min(enough, values.resolution ?? 0), frames, strain: 0 };
  for (const name of measureNames) {
    const value = values[name];
    const bounds = measures[name].notice ?? measures[name].limit;
    if (value === undefined || value === null) continue;
    const far = strain(value, bounds);
    if (far > 1 && name !== "resolution") quality.findings++;
    if (faults.has(name)) quality.strain += far * far;
  }
  return quality;
}

/** Measures that tell how well a thing was taken, and not what was taken, how it is lit or how it moves. */
const faults: ReadonlySet<MeasureName> = new Set([
  "sharpness",
  "motion_blur",
  "repeats",
  "ghosting",
  "flicker",
  "quantizer",
  "compression",
  "blockiness",
  "banding",
  "combing",
  "noise",
  "color_noise",
  "overlay",
]);

/** Negative where `a` is the better of two that look alike. */
function compare(a: Quality, b: Quality): number {
  return a.findings - b.findings || b.resolution - a.resolution || b.frames - a.frames || a.strain - b.strain;
}

/**
 * Items that are nearly the same as a better one: without findings first, then larger (up to the target's size), longer,
 * and further from all limits; never the one with an overlay that the other lacks. Two parts of one film that the same
 * camera saw are alike without being duplicates; they must agree three times as closely.
 */
export function findDuplicates(candidates: readonly DuplicateCandidate[], distance: number): Duplicate[] {
  const byQuality = candidates
    .map((candidate) => ({ candidate, quality: qualityOf(candidate.clip), row: hashRow(candidate.clip.hashes) }))
    .sort((a, b) => compare(a.quality, b.quality) || a.candidate.index - b.candidate.index);
  const kept: { candidate: DuplicateCandidate; row: HashRow; like: Duplicate[] }[] = [];
  for (const { candidate, row } of byQuality) {
    let nearest: { group: (typeof kept)[number]; distance: number } | undefined;
    for (const group of kept) {
      const other = group.candidate;
      if (other.kind !== candidate.kind || !toneAlike(other.clip, candidate.clip)) continue;
      const most = other.source === candidate.source ? distance / 3 : distance;
      const apart = hashDistance(group.row, row, most);
      if (apart <= most && apart < (nearest?.distance ?? Number.POSITIVE_INFINITY))
        nearest = { group, distance: apart };
    }
    if (!nearest) {
      kept.push({ candidate, row, like: [] });
      continue;
    }
    const { group, distance: apart } = nearest;
    const [ours, theirs] = [candidate.clip, group.candidate.clip];
    if (addedEdges(theirs, ours) >= leastAdded && addedEdges(ours, theirs) < leastAdded) {
      group.like.push({ index: group.candidate.index, of: candidate.index, distance: apart });
      for (const duplicate of group.like) duplicate.of = candidate.index;
      [group.candidate, group.row] = [candidate, row];
    } else group.like.push({ index: candidate.index, of: group.candidate.index, distance: apart });
  }
  return kept.flatMap(({ like }) => like);
}
