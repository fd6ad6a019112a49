// Resolution: the source's size against the size it is trained at. Nothing is enlarged unless asked.
import type { Measure } from "./measure.ts";

/** How large the source's picture is against what its target needs, %: under 100 it would have to be enlarged. */
export function resolutionOf(scaleToTarget: number): number {
  return 100 / scaleToTarget;
}

export const resolution: Measure = {
  name: "resolution",
  title: "Resolution",
  unit: "% of the target's size",
  limit: { min: 60 },
  low: "smaller than its target",
  // Known from the geometry alone: clip.ts hands it in.
  start: () => ({ add() {}, result: () => undefined }),
};
