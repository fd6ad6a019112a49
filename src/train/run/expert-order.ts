// Which expert each step trains: in runs, since a change loads a model, and in the right share.
import type { Expert } from "../../models/wan/recognize.ts";

export interface ExpertTurns {
  train: readonly Expert[];
  /** Steps of a cycle, in which each expert has one run. */
  switchEvery: number;
  highShare: number;
}

/**
 * The expert of a step, counted from 0, of a run of `steps`. Cycles begin with the expert that the one before ended
 * with, so that there is one change in each; the high-noise steps up to the end of a cycle are round(end·share).
 */
export function expertOfStep(step: number, { train, switchEvery, highShare }: ExpertTurns, steps: number): Expert {
  const [only] = train;
  if (train.length === 1) return only!;
  const length = Math.max(1, Math.min(switchEvery, steps));
  const cycle = Math.floor(step / length);
  const start = cycle * length;
  const end = Math.min(start + length, Math.max(steps, step + 1));
  const high = Math.round(end * highShare) - Math.round(start * highShare);
  const within = step - start;
  const highFirst = cycle % 2 === 0;
  if (highFirst) return within < high ? "high" : "low";
  return within < end - start - high ? "low" : "high";
}

/** Steps of each expert in a whole run, and how often the expert changes. */
export function expertCounts(turns: ExpertTurns, steps: number): { high: number; low: number; switches: number } {
  const counts = { high: 0, low: 0, switches: 0 };
  let before: Expert | undefined;
  for (let step = 0; step < steps; step++) {
    const expert = expertOfStep(step, turns, steps);
    counts[expert]++;
    if (before !== undefined && before !== expert) counts.switches++;
    before = expert;
  }
  return counts;
}
