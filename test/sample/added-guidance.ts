// Kinds of guidance as docs/extending.md describes adding them, each a file's worth: one guides between two noise levels
// only, one remembers from step to step, one lets the first steps stand still without asking the model.
import { z } from "zod";
import { cfg } from "../../src/sample/guidance/cfg.ts";
import { defineGuidance, type Guidance } from "../../src/sample/guidance/guidance.ts";
import { noGuidance } from "../../src/sample/guidance/none.ts";

/** CFG while σ is within an interval, one pass outside it (Kynkäänniemi et al., arXiv 2404.07724). */
export const intervalGuidance = defineGuidance({
  name: "interval",
  help: "CFG between two noise levels, one pass elsewhere",
  options: z.strictObject({ scale: z.number(), from: z.number().default(0), to: z.number().default(1) }),
  create({ scale, from, to }): Guidance {
    const guided = cfg(scale);
    const at = (sigma: number) => (sigma >= from && sigma <= to ? guided : noGuidance);
    return {
      negative: guided.negative,
      passes: (place) => at(place.sigma).passes(place),
      combine: (answers, place, memory) => at(place.sigma).combine(answers, place, memory),
    };
  },
});

/** CFG whose difference carries some of those before it along. */
export const momentumGuidance = defineGuidance({
  name: "momentum",
  help: "CFG with a running mean of its differences",
  options: z.strictObject({ scale: z.number(), momentum: z.number().default(-0.5) }),
  create: ({ scale, momentum }): Guidance => ({
    negative: true,
    passes: () => [{ text: "positive" }, { text: "negative" }],
    combine([conditional, unconditional], _place, memory) {
      const before = memory.get("momentum.difference");
      const difference = conditional!.map((value, i) => value - unconditional![i]! + momentum * (before?.[i] ?? 0));
      memory.set("momentum.difference", difference);
      return unconditional!.map((value, i) => value + scale * difference[i]!);
    },
  }),
});

/** No velocity in the first steps, which ask the model nothing; CFG after them. */
export const zeroStart = defineGuidance({
  name: "zero-start",
  help: "stands still for some steps, then CFG",
  options: z.strictObject({ scale: z.number(), steps: z.int().min(0).default(1) }),
  create({ scale, steps }): Guidance {
    const guided = cfg(scale);
    return {
      negative: guided.negative,
      passes: (place) => (place.step < steps ? [] : guided.passes(place)),
      combine: (answers, place, memory) =>
        place.step < steps ? new Float32Array(place.sample.length) : guided.combine(answers, place, memory),
    };
  },
});
