// Classifier-free guidance with a scale of its own for each step.
import { z } from "zod";
import { cfg, scaleSchema } from "./cfg.ts";
import { defineGuidance, type Guidance, type Place } from "./guidance.ts";

export const cfgListRow = defineGuidance({
  name: "cfg-list",
  help: "CFG with a scale for each step; the last one is repeated",
  options: z.strictObject({ scales: z.array(scaleSchema).min(1).max(10_000) }),
  create({ scales }): Guidance {
    const all = scales.map(cfg);
    const at = ({ step }: Place) => all[Math.min(step, all.length - 1)]!;
    return {
      negative: all.some(({ negative }) => negative),
      passes: (place) => at(place).passes(place),
      combine: (answers, place, memory) => at(place).combine(answers, place, memory),
    };
  },
});
