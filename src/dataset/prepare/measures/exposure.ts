// Exposure: parts that are white or black without any drawing, and pictures that use little of the range.
import { lumaRange } from "../small.ts";
import type { LumaPlane } from "./measure.ts";
import { type Measure, medianMeasure } from "./measure.ts";

interface Exposure {
  /** % of the picture that is at the end of the range and flat. */
  clipped: number;
  /** From the darkest to the lightest hundredth, % of white. */
  contrast: number;
}

const known = new WeakMap<LumaPlane, Exposure>();

function exposureOf(plane: LumaPlane): Exposure {
  let found = known.get(plane);
  if (found) return found;
  const { data, width, height, stride } = plane;
  const counts = new Uint32Array(256);
  let [places, clipped] = [0, 0];
  for (let y = 1; y < height; y += 4) {
    const row = y * stride;
    for (let x = 1; x < width; x += 3) {
      const value = data[row + x]!;
      counts[value]!++;
      places++;
      if ((value >= 233 || value <= 17) && data[row + x - 1] === value && data[row + x - stride] === value) clipped++;
    }
  }
  const level = (share: number) => {
    let sum = 0;
    for (let value = 0; value < 256; value++) {
      sum += counts[value]!;
      if (sum > share * places) return value;
    }
    return 255;
  };
  found = { clipped: (100 * clipped) / places, contrast: (100 * (level(0.99) - level(0.01))) / lumaRange };
  known.set(plane, found);
  return found;
}

export const clipping: Measure = medianMeasure(
  {
    name: "clipping",
    title: "Blown out or black",
    unit: "% of the picture",
    limit: { max: 50 },
    notice: { max: 6 },
    high: "large areas are clipped to white or black",
  },
  ({ detail }) => detail && exposureOf(detail.luma).clipped,
);

export const contrast: Measure = medianMeasure(
  {
    name: "contrast",
    title: "Contrast",
    unit: "% of white between the 1st and 99th percentile",
    limit: { min: 15 },
    notice: { min: 33 },
    low: "uses little of the range from black to white",
  },
  ({ detail }) => detail && exposureOf(detail.luma).contrast,
);
