// Noise levels of a run (σ = 1 is noise): the range of each expert, how much of a distribution falls into it, and draws
// within it. The distributions themselves: time-samplings.ts.
import { KinoraError } from "../../base/errors.ts";
import type { Choice } from "../choices.ts";
import { type LatentSize, type TimeDraws, type TimeSampler, timeSamplings } from "./time-samplings.ts";

/** A distribution of noise levels: plain data. */
export interface TimeDistribution extends Choice {
  /** The levels that train, where not all do. */
  limits?: { min: number; max: number; keepShape: boolean };
}

/** Where nothing says how large samples are: 832x480. */
const USUAL: LatentSize = { height: 60, width: 104 };

/** With the limits: levels are squeezed into them, or, where the shape is kept, drawn again until they are within. */
function samplerOf({ kind, settings, limits }: TimeDistribution, size: LatentSize = USUAL): TimeSampler {
  const whole = timeSamplings[kind]!.sampler(settings, size);
  const settle = (sigma: number) => whole.settle?.(sigma) ?? sigma;
  if (!limits) return { ...whole, draw: (rng) => settle(whole.draw(rng)) };
  const { min, max, keepShape } = limits;
  const below = (sigma: number) => (sigma <= 0 ? 0 : sigma >= 1 ? 1 : whole.shareBelow(sigma));
  if (!keepShape) {
    return {
      draw: (rng) => settle(min + (max - min) * whole.draw(rng)),
      shareBelow: (sigma) => below((sigma - min) / (max - min)),
    };
  }
  return {
    draw(rng) {
      for (;;) {
        const sigma = settle(whole.draw(rng));
        if (sigma >= min && sigma <= max) return sigma;
      }
    },
    shareBelow: (sigma) => (below(Math.min(max, Math.max(min, sigma))) - below(min)) / (below(max) - below(min)),
  };
}

/** The share of all draws that limits whose shape is kept leave; 1 for others. */
function keptShare({ limits, ...whole }: TimeDistribution): number {
  return limits?.keepShape ? shareOf(whole, { from: limits.min, to: limits.max }) : 1;
}

/** Noise levels from `from` (included) to `to` (excluded, but for 1). */
export interface SigmaRange {
  from: number;
  to: number;
}

/** The noise levels of each expert: the high-noise one from the boundary up, the low-noise one below it. */
export function expertRange(expert: "high" | "low", boundary: number | undefined): SigmaRange {
  if (boundary === undefined) return { from: 0, to: 1 };
  return expert === "high" ? { from: boundary, to: 1 } : { from: 0, to: boundary };
}

export function inRange(sigma: number, { from, to }: SigmaRange): boolean {
  return sigma >= from && (sigma < to || (to === 1 && sigma === 1));
}

/** The share of draws that fall into a range. */
export function shareOf(distribution: TimeDistribution, { from, to }: SigmaRange): number {
  if (keptShare(distribution) === 0) return 0;
  const sampler = samplerOf(distribution);
  const below = (sigma: number) => (sigma <= 0 ? 0 : sigma >= 1 ? 1 : sampler.shareBelow(sigma));
  return below(to) - below(from);
}

/** Below this share a range would be drawn for too long, and means a mistake. */
const LEAST_SHARE = 1e-4;

/** Throws `train.empty-range` where a distribution hardly ever reaches a range. */
export function checkRange(distribution: TimeDistribution, range: SigmaRange, what: string): void {
  const kept = keptShare(distribution);
  const part = kept < LEAST_SHARE ? kept : shareOf(distribution, range);
  if (part >= LEAST_SHARE) return;
  throw new KinoraError("train.empty-range", `the time sampling almost never reaches the noise levels of ${what}`, {
    expected: `at least ${LEAST_SHARE * 100} % of the draws within σ ${range.from}…${range.to}`,
    actual: `${(part * 100).toPrecision(2)} %`,
    hint: "choose another [time] sampling, shift, mean or std, or other limits (min, max)",
  });
}

/**
 * A noise level within a range, drawn again until it is: the distribution keeps its shape there.
 * `rng` is the sample's own generator, so that the number of draws matters to nobody else.
 */
export function drawSigma(
  distribution: TimeDistribution,
  range: SigmaRange,
  rng: TimeDraws,
  size?: LatentSize,
): number {
  const sampler = samplerOf(distribution, size);
  for (;;) {
    const sigma = sampler.draw(rng);
    if (inRange(sigma, range)) return sigma;
  }
}
