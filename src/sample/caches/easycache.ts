// EasyCache: how fast the answer has lately changed with what the model is shown foretells how much it changes now; nothing
// is measured beforehand. https://github.com/H-EmbodVis/EasyCache/blob/5127804 (arXiv 2507.02860)
import { z } from "zod";
import { isConditional } from "../guidance/guidance.ts";
import { defineCache, keptOf, meanChange, meanSize, numberIn, remember } from "./cache.ts";

export const easyCache = defineCache({
  name: "easycache",
  help: "EasyCache: skips steps by how the outputs have changed so far",
  options: z.strictObject({
    threshold: z.number().min(0).max(100).default(0.05),
    /** Steps that are always computed in the beginning. */
    ret_steps: z.int().min(0).max(10_000).default(10),
  }),
  create: ({ threshold, ret_steps }) => ({
    keeps: "pass",
    // The conditional pass decides for all.
    decide({ place: { step, steps, sample }, passes }, memory) {
      const [shown, answer] = [memory.get("cache.shown"), memory.get("cache.answer")];
      const rate = numberIn(memory, "rate");
      remember(memory, "shown", sample);
      const always = step < ret_steps || step >= steps - 1;
      if (always) remember(memory, "error", 0);
      if (always || !shown || !answer || rate === undefined) return passes.map(() => ({ skip: false }));
      const value = (numberIn(memory, "error") ?? 0) + rate * (meanChange(sample, shown) / meanSize(answer));
      const stale = value >= threshold;
      remember(memory, "error", stale ? 0 : value);
      return passes.map((pass) => {
        const skip = !stale && memory.has(keptOf(pass));
        return isConditional(pass) ? { skip, value } : { skip };
      });
    },
    learn({ place: { sample }, passes }, outputs, memory) {
      const output = outputs[passes.findIndex(isConditional)];
      if (!output) return;
      const [computed, answer] = [memory.get("cache.computed"), memory.get("cache.answer")];
      if (computed && answer) remember(memory, "rate", meanChange(output, answer) / meanChange(sample, computed));
      remember(memory, "computed", sample);
      remember(memory, "answer", output);
    },
  }),
});
