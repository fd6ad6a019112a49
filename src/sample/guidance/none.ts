// No guidance: the model is asked once, and its answer is the velocity.
import type { Guidance } from "./guidance.ts";

const passes = [{ text: "positive" }] as const;

export const noGuidance: Guidance = {
  negative: false,
  passes: () => passes,
  combine: ([answer]) => answer!,
};
