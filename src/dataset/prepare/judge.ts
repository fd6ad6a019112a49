// Verdicts: each measured item by itself against the limits. What items tell of one another: overlays.ts, duplicates.ts.
import type { Measurement, Reason } from "../../protocol/dataset-manifest.ts";
import { type Limit, type MeasureName, measureNames } from "../../protocol/prepare-config.ts";
import type { ClipRecord } from "./clip.ts";
import { measures } from "./measures/table.ts";
import type { PrepareSettings } from "./settings.ts";

export interface Judged {
  measures: Partial<Record<MeasureName, Measurement>>;
  /** Why it is dropped. */
  reasons: Reason[];
  /** What is told of it though it stays. */
  findings?: Reason[];
}

type Bounds = Exclude<Limit, false>;

function limitOf(name: MeasureName, settings: PrepareSettings): Bounds {
  const asked = settings.quality[name];
  if (asked === false) return {};
  return asked ?? measures[name].limit;
}

function number(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

/** On which side of the bounds a value lies. */
function sideOf(value: number, { min, max }: Bounds): "low" | "high" | undefined {
  if (min !== undefined && value < min) return "low";
  return max !== undefined && value > max ? "high" : undefined;
}

/** That a measure is beyond its bounds, in words. */
function wordsFor(name: MeasureName, value: number, side: "low" | "high", { min, max }: Bounds): Reason {
  const { title, unit, ...measure } = measures[name];
  const words = measure[side] ?? `too ${side}`;
  const bound = side === "low" ? `at least ${number(min!)}` : `at most ${number(max!)}`;
  return {
    code: `${name.replaceAll("_", "-")}-${side}`,
    message: `${words}: ${title.toLowerCase()} ${number(value)}, ${bound} (${unit})`,
  };
}

function measurement(name: MeasureName, value: number | null, limit: Bounds): Measurement {
  const bounds = {
    ...(limit.min === undefined ? {} : { min: limit.min }),
    ...(limit.max === undefined ? {} : { max: limit.max }),
  };
  const { unit } = measures[name];
  if (value === null) return { value, unit, ...bounds, verdict: "unknown" };
  return { value, unit, ...bounds, verdict: sideOf(value, limit) ? "fail" : "pass" };
}

/** A clip by itself: its measures against the limits. */
export function judge(clip: ClipRecord, settings: PrepareSettings): Judged {
  const { fps, clips, model, sizeMultiple } = settings;
  if (clip.short) {
    const seconds = number(clip.frames / fps);
    return {
      measures: {},
      reasons: [{ code: "too-short", message: `${seconds} s long; the minimum is ${clips.shortest} s` }],
    };
  }
  const judged: Judged = { measures: {}, reasons: [] };
  const findings: Reason[] = [];
  for (const name of measureNames) {
    const value = clip.values[name];
    if (value === undefined) continue;
    const limit = limitOf(name, settings);
    judged.measures[name] = measurement(name, value, limit);
    if (value === null) continue;
    const beyond = sideOf(value, limit);
    if (beyond) judged.reasons.push(wordsFor(name, value, beyond, limit));
    // What drops nothing, or not yet, is told all the same.
    const notice = measures[name].notice ?? measures[name].limit;
    const side = beyond ? undefined : sideOf(value, notice);
    if (side) findings.push(wordsFor(name, value, side, notice));
  }
  if (findings.length > 0) judged.findings = findings;
  if (!clip.geometry)
    judged.reasons.push({
      code: "too-small",
      message: `smaller than ${sizeMultiple}×${sizeMultiple}, the step size of ${model}`,
    });
  return judged;
}
