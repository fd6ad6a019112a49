// Sharpness: how narrow the edges are at the size the item is trained at.
import { steepness } from "./edge-width.ts";
import { type Measure, medianMeasure } from "./measure.ts";

export const sharpness: Measure = medianMeasure(
  {
    name: "sharpness",
    title: "Sharpness",
    unit: "0–1 (1 − width of the sharpest 5 % of edges / 9 pixels)",
    limit: { min: 0.56 },
    notice: { min: 0.66 },
    low: "out of focus, or upscaled",
  },
  ({ detail }) => {
    const width = detail && steepness(detail.luma).narrowest;
    return width === undefined ? undefined : 1 - width / 9;
  },
);
