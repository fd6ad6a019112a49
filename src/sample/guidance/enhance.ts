// Enhance-A-Video: self-attention is made stronger by how much frames attend to one another, in every pass.
// https://arxiv.org/abs/2502.07508; the three ways in which it is built in: src/models/wan/dit/changes.ts.
import { z } from "zod";
import { defineLayer, type Guidance } from "./guidance.ts";
import { rangeSettings, within } from "./range.ts";

export const enhanceRow = defineLayer({
  name: "enhance",
  help: "Enhance-A-Video: stronger attention between frames",
  options: z.strictObject({
    weight: z.number().min(0).max(100).default(2),
    variant: z.enum(["wrapper", "wrapper-new", "kj"]).default("kj"),
    ...rangeSettings(0, 1, "steps"),
  }),
  create({ weight, variant, ...range }, base): Guidance {
    const enhance = { weight, variant };
    return {
      ...base,
      passes(place) {
        const passes = base.passes(place);
        return within(range, place) ? passes.map((pass) => ({ ...pass, enhance })) : passes;
      },
    };
  },
});
