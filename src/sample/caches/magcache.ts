// MagCache: what the blocks add shrinks from step to step by ratios measured for the model; how far they have added up
// says when it is stale. https://github.com/Zehong-Ma/MagCache/blob/df81cb1 (arXiv 2506.09045)
import { z } from "zod";
import { roundHalfEven } from "../../base/round.ts";
import type { Place } from "../guidance/guidance.ts";
import { type CacheDecision, defineCache, keptOf, numberIn, passName, remember } from "./cache.ts";
import { magRatios, measuredFor } from "./coefficients.ts";
import { noCoefficients } from "./teacache.ts";

/** The ratios of a run of `steps`: 1 for the first of each kind, then those measured, the nearest where there are others. */
export function ratiosFor(measured: readonly number[], steps: number): number[] {
  const all = [1, 1, ...measured];
  if (all.length === 2 * steps) return all;
  const half = (offset: number) => all.filter((_, i) => i % 2 === offset);
  const [conditional, unconditional] = [half(0), half(1)] as const;
  const last = conditional.length - 1;
  const at = (i: number) => (steps === 1 ? last : roundHalfEven(i * (last / (steps - 1))));
  return Array.from({ length: steps }, (_, i) => [conditional[at(i)]!, unconditional[at(i)]!]).flat();
}

/** Calls that are always computed; a call is a pass, two for each step. With experts: the start of each, or all of the first's. */
function always(call: number, { steps, highSteps }: Place, retention: number, picture: boolean): boolean {
  const [switched, all] = [2 * highSteps, 2 * steps];
  if (highSteps === 0) return call < Math.trunc(all * retention);
  const low = switched + (all - switched) * retention;
  if (picture) return call < Math.trunc(low);
  return call < Math.trunc(switched * retention) || (call >= switched && call <= low);
}

export const magCache = defineCache({
  name: "magcache",
  help: "MagCache: skips steps by the measured magnitudes of the blocks' residuals",
  options: z.strictObject({
    threshold: z.number().min(0).max(100).default(0.12),
    /** The most calls of a kind in a row that are answered from the cache. */
    k: z.int().min(1).max(1000).default(2),
    /** The share of the run that is always computed. */
    retention: z.number().min(0).max(1).default(0.2),
    /** Conditional, unconditional, …, from the second step on; the model's measured ones where absent. */
    ratios: z
      .array(z.number())
      .min(2)
      .max(20_000)
      .refine((all) => all.length % 2 === 0, "pairs")
      .optional(),
  }),
  create({ threshold, k, retention, ratios: given }, subject) {
    const measured = given ?? measuredFor(magRatios, subject)?.ratios;
    if (!measured) throw noCoefficients("MagCache", subject.model, "ratios");
    let resampled: { steps: number; ratios: number[] } | undefined;
    return {
      keeps: "blocks",
      acrossExperts: true,
      decide({ place, passes }, memory) {
        const { step, steps } = place;
        if (resampled?.steps !== steps) resampled = { steps, ratios: ratiosFor(measured, steps) };
        const { ratios } = resampled;
        return passes.map((pass): CacheDecision => {
          const call = 2 * step + (pass.text === "negative" ? 1 : 0);
          if (always(call, place, retention, subject.picture)) return { skip: false };
          const name = passName(pass);
          const ratio = (numberIn(memory, `ratio.${name}`) ?? 1) * ratios[call]!;
          const skipped = (numberIn(memory, `skipped.${name}`) ?? 0) + 1;
          const value = (numberIn(memory, `error.${name}`) ?? 0) + Math.abs(1 - ratio);
          const skip = value < threshold && skipped <= k && memory.has(keptOf(pass));
          remember(memory, `ratio.${name}`, skip ? ratio : 1);
          remember(memory, `skipped.${name}`, skip ? skipped : 0);
          remember(memory, `error.${name}`, skip ? value : 0);
          return { skip, value };
        });
      },
    };
  },
});
