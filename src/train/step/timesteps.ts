// How noise levels are drawn (σ = 1 is noise), and how much of a distribution each expert gets.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/training/trainer_base.py#L575-L619
import { KinoraError } from "../../base/errors.ts";
import { normalShare } from "../../base/normal-distribution.ts";
import type { PhiloxRng } from "../../base/rng/philox-rng.ts";
import type { TimeSampling } from "../../protocol/train-config.ts";

export interface TimeDistribution {
  sampling: TimeSampling;
  /** `shift` and `logit_normal`: σ = s·x/(1 + (s − 1)·x). */
  shift: number;
  /** `sigmoid` and `shift`: x = sigmoid(scale·N). */
  scale: number;
  /** `logit_normal`: x = sigmoid(mean + std·N). */
  mean: number;
  std: number;
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

/** What one uniform or normal draw becomes. */
function location({ sampling, scale, mean, std, shift }: TimeDistribution): {
  mean: number;
  std: number;
  shift: number;
} {
  if (sampling === "logit_normal") return { mean, std, shift };
  return { mean: 0, std: scale, shift: sampling === "shift" ? shift : 1 };
}

/** The share of draws below `sigma`. */
export function shareBelow(distribution: TimeDistribution, sigma: number): number {
  if (sigma <= 0) return 0;
  if (sigma >= 1) return 1;
  if (distribution.sampling === "uniform") return sigma;
  const { mean, std, shift } = location(distribution);
  const x = sigma / (shift - (shift - 1) * sigma);
  return normalShare((Math.log(x / (1 - x)) - mean) / std);
}

export function shareOf(distribution: TimeDistribution, { from, to }: SigmaRange): number {
  return shareBelow(distribution, to) - shareBelow(distribution, from);
}

/** Below this share a range would be drawn for too long, and means a mistake. */
const LEAST_SHARE = 1e-4;

/** Throws `train.empty-range` where a distribution hardly ever reaches a range. */
export function checkRange(distribution: TimeDistribution, range: SigmaRange, what: string): void {
  const part = shareOf(distribution, range);
  if (part >= LEAST_SHARE) return;
  throw new KinoraError("train.empty-range", `the time sampling hardly ever reaches the noise levels of ${what}`, {
    expected: `at least ${LEAST_SHARE * 100} % of the draws within σ ${range.from}…${range.to}`,
    actual: `${(part * 100).toPrecision(2)} %`,
    hint: "choose another [time] sampling, shift, mean or std",
  });
}

/**
 * A noise level within a range, drawn again until it is: the distribution keeps its shape there.
 * `rng` is the sample's own generator, so that the number of draws matters to nobody else.
 */
export function drawSigma(distribution: TimeDistribution, range: SigmaRange, rng: PhiloxRng): number {
  const { mean, std, shift } = location(distribution);
  for (;;) {
    let sigma: number;
    if (distribution.sampling === "uniform") sigma = rng.uniform();
    else {
      const x = 1 / (1 + Math.exp(-(mean + std * rng.normal())));
      sigma = (shift * x) / (1 + (shift - 1) * x);
    }
    if (inRange(sigma, range)) return sigma;
  }
}
