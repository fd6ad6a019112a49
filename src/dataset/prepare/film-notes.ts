// What of a film is in no clip, and why, in words: for the manifest, the report and the one who waits.
import { plural } from "../../base/units.ts";
import type { ManifestSource, Reason } from "../../protocol/dataset-manifest.ts";
import type { Gap, LeftOut, SegmentRecord } from "./film.ts";

/** More of a film than this in no clip is told. */
const largePart = 0.25;

const shortSeconds = (seconds: number): string => `${seconds.toFixed(1)} s`;

const words: Readonly<Record<LeftOut, string>> = {
  blank: "of a single colour, near black or white",
  fade: "of fades and dissolves",
  damaged: "of damaged frames",
};

/** "3.0 s of one colour, 1.5 s of fades". */
function leftText(left: Readonly<Record<LeftOut, number>>, fps: number): string {
  return (Object.keys(words) as LeftOut[])
    .filter((why) => left[why] > 0)
    .map((why) => `${shortSeconds(left[why] / fps)} ${words[why]}`)
    .join(", ");
}

/** Stretches in no clip, in seconds; those that meet at a seam and have one reason are one. */
function gapsOf(gaps: readonly Gap[], fps: number): NonNullable<ManifestSource["gaps"]> {
  const joined: Gap[] = [];
  for (const gap of [...gaps].sort((a, b) => a.first - b.first)) {
    const last = joined.at(-1);
    if (last && last.why === gap.why && last.first + last.frames === gap.first) last.frames += gap.frames;
    else joined.push({ ...gap });
  }
  const seconds = (slots: number) => Math.round((slots / fps) * 1e6) / 1e6;
  return joined.map(({ first, frames, why }) => ({
    in: seconds(first),
    out: seconds(first + frames),
    code: why,
    message: words[why],
  }));
}

/** What a damaged film gave all the same. `seconds`: of it that could be read. */
function damageText(errors: number, seconds: number, duration: number): string {
  const read = duration - seconds > 0.5 ? `, ${shortSeconds(seconds)} of ${shortSeconds(duration)} could be read` : "";
  return `${plural(errors, "decoding error")}${read}; damaged frames are left out`;
}

export interface FilmNotes {
  facts: Pick<ManifestSource, "duration" | "damage" | "gaps" | "notes">;
  /** Why nothing was taken from it. */
  problem?: Reason;
  /** What a person should hear of, though something was taken. */
  told: Reason[];
}

/** @param duration seconds as the header tells; `clips`: whether any came of it */
export function filmNotes(
  records: readonly SegmentRecord[],
  { duration: declared = 0, clips, fps }: { duration: number | undefined; clips: boolean; fps: number },
): FilmNotes {
  const sum = (of: (record: SegmentRecord) => number) => records.reduce((total, record) => total + of(record), 0);
  const [slots, errors, joints] = [sum((it) => it.slots), sum((it) => it.errors), sum((it) => it.joints)];
  const gaps = records.flatMap((record) => record.gaps);
  const left: Record<LeftOut, number> = { blank: 0, fade: 0, damaged: 0 };
  for (const { why, frames } of gaps) left[why] += frames;
  const seconds = slots / fps;
  // A header may know only the first of several recordings.
  const duration = seconds > declared + 0.5 ? Math.round(seconds * 1000) / 1000 : declared;
  const facts: FilmNotes["facts"] = {
    duration,
    ...(errors > 0 ? { damage: errors } : {}),
    ...(gaps.length > 0 ? { gaps: gapsOf(gaps, fps) } : {}),
  };
  if (slots === 0) {
    const message = "contains no frame that could be decoded";
    return { facts, problem: { code: "media.no-frames", message }, told: [] };
  }
  if (!clips) {
    const message = `contains no scene: ${leftText(left, fps)}`;
    return { facts, problem: { code: "prepare.no-scene", message }, told: [] };
  }
  const notes: Reason[] = [];
  const lost = left.blank + left.fade + left.damaged;
  if (lost > largePart * slots) {
    const message = `${shortSeconds(lost / fps)} are not in any clip: ${leftText(left, fps)}`;
    notes.push({ code: "prepare.left-out", message });
  }
  const missing = records.find((record) => record.missing !== undefined)?.missing;
  if (missing !== undefined) notes.push({ code: "media.partial", message: missing });
  const told = [...notes];
  if (joints > 0) {
    const message = `its timestamps jump at ${plural(joints, "place")}; the parts are read in sequence`;
    notes.push({ code: "media.joined", message });
  }
  if (errors > 0) told.unshift({ code: "media.damaged", message: damageText(errors, seconds, duration) });
  return { facts: { ...facts, ...(notes.length > 0 ? { notes } : {}) }, told };
}
