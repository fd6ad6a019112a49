// Normalized attention guidance: cross-attention itself is led away from the negative text, so that it is heeded in one
// pass. https://github.com/ChenDarYen/ComfyUI-NAG/blob/ef8a641 (arXiv 2505.21179)
import { z } from "zod";
import { defineLayer, type Guidance, isConditional } from "./guidance.ts";

export const nagRow = defineLayer({
  name: "nag",
  help: "NAG: a negative prompt at CFG 1, applied in cross-attention",
  options: z.strictObject({
    scale: z.number().min(0).max(1000).default(11),
    tau: z.number().min(0).max(1000).default(2.5),
    alpha: z.number().min(0).max(1).default(0.25),
    /** The noise level below which it ends. */
    sigma_end: z.number().min(0).max(1).default(0),
  }),
  create({ sigma_end, ...nag }, base): Guidance {
    return {
      ...base,
      negative: true,
      passes(place) {
        const passes = base.passes(place);
        return place.sigma >= sigma_end
          ? passes.map((pass) => (isConditional(pass) ? { ...pass, nag } : pass))
          : passes;
      },
    };
  },
});
