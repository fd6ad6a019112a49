// Classifier-free guidance (Ho & Salimans, arXiv 2207.12598).
import { z } from "zod";
import { defineGuidance, type Guidance } from "./guidance.ts";
import { noGuidance } from "./none.ts";

/** Scales beyond this are a slip of the hand: they make infinities. */
const LARGEST = 1000;

export const scaleSchema = z.number().min(-LARGEST).max(LARGEST);

const passes = [{ text: "positive" }, { text: "negative" }] as const;

/** unconditional + scale·(conditional − unconditional); 1 does without the second pass. */
export function cfg(scale: number): Guidance {
  if (scale === 1) return noGuidance;
  return {
    negative: true,
    passes: () => passes,
    combine([conditional, unconditional]) {
      const result = new Float32Array(conditional!.length);
      for (let i = 0; i < result.length; i++) {
        const base = unconditional![i]!;
        result[i] = base + scale * (conditional![i]! - base);
      }
      return result;
    },
  };
}

export const cfgRow = defineGuidance({
  name: "cfg",
  help: "classifier-free guidance by a scale; 1 skips the second pass",
  options: z.strictObject({ scale: scaleSchema }),
  create: ({ scale }) => cfg(scale),
});
