// TeaCache: how far the time embedding has moved, through a polynomial measured for the model, says when the blocks' answer
// is stale. https://github.com/ali-vilab/TeaCache/blob/7c10efc/TeaCache4Wan2.1 (arXiv 2411.19108)
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import {
  type CacheDecision,
  defineCache,
  keptOf,
  meanChange,
  meanSize,
  numberIn,
  passName,
  remember,
} from "./cache.ts";
import { measuredFor, teaCoefficients } from "./coefficients.ts";

/** Steps that are always computed in the beginning. */
const FIRST = { embedding: 1, projection: 5 };

/** np.poly1d: the highest power first. */
export const polynomial = (coefficients: readonly number[], x: number): number =>
  coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

export const teaCache = defineCache({
  name: "teacache",
  help: "TeaCache: skips steps by how far the time embedding has moved",
  options: z.strictObject({
    threshold: z.number().min(0).max(100).default(0.2),
    /** The authors' "ret steps": by the time projection, the first five steps always computed, the last not. */
    ret_steps: z.boolean().default(false),
    /** Of the polynomial, the highest power first; the model's measured ones where absent. */
    coefficients: z.array(z.number()).min(1).max(16).optional(),
  }),
  create({ threshold, ret_steps, coefficients: given }, subject) {
    const looksAt = ret_steps ? "projection" : "embedding";
    const coefficients = given ?? measuredFor(teaCoefficients, subject)?.[looksAt];
    if (!coefficients) throw noCoefficients("TeaCache", subject.model, "coefficients");
    return {
      keeps: "blocks",
      looksAt,
      decide({ place: { step, steps }, passes, time }, memory) {
        const before = memory.get("cache.time");
        const distance = before && meanChange(time!, before) / meanSize(before);
        remember(memory, "time", time!);
        const always = step < FIRST[looksAt] || (!ret_steps && step >= steps - 1);
        return passes.map((pass): CacheDecision => {
          const name = `distance.${passName(pass)}`;
          if (always || distance === undefined) {
            remember(memory, name, 0);
            return { skip: false };
          }
          const value = (numberIn(memory, name) ?? 0) + polynomial(coefficients, distance);
          const skip = value < threshold && memory.has(keptOf(pass));
          remember(memory, name, skip ? value : 0);
          return { skip, value };
        });
      },
    };
  },
});

export function noCoefficients(cache: string, model: string, setting: string): KinoraError {
  return new KinoraError("generate.cache-coefficients", `there are no ${cache} coefficients for ${model}`, {
    hint: `generate once with \`calibrateCache\` and give its file as \`cacheCoefficients\`, or set ${setting}; easycache needs none`,
  });
}
