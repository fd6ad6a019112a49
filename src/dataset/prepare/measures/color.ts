// Colour: a tint that lies over everything, and pictures without colour.
import type { SmallPicture } from "../small.ts";
import { type Measure, medianMeasure, percentile } from "./measure.ts";

/** Chroma levels that even the least tinted tenth of the picture is off grey, in the direction of the whole. */
function castOf({ u, v }: SmallPicture): number | undefined {
  let [sumU, sumV] = [0, 0];
  for (let i = 0; i < u.length; i++) {
    sumU += u[i]! - 128;
    sumV += v[i]! - 128;
  }
  const length = Math.hypot(sumU, sumV);
  if (length === 0) return 0;
  const along: number[] = [];
  for (let i = 0; i < u.length; i += 2) along.push(((u[i]! - 128) * sumU + (v[i]! - 128) * sumV) / length);
  return Math.max(0, percentile(along, 0.1)!);
}

function saturationOf({ u, v }: SmallPicture): number {
  let sum = 0;
  for (let i = 0; i < u.length; i++) sum += Math.hypot(u[i]! - 128, v[i]! - 128);
  return sum / u.length;
}

export const colorCast: Measure = medianMeasure(
  {
    name: "color_cast",
    title: "Color cast",
    unit: "8-bit chroma levels by which the least tinted tenth is off grey",
    limit: {},
    notice: { max: 10 },
    high: "the picture has a color cast",
  },
  ({ small, detail }) => detail && castOf(small),
);

export const saturation: Measure = medianMeasure(
  {
    name: "saturation",
    title: "Saturation",
    unit: "mean distance from grey in 8-bit chroma levels",
    limit: {},
    notice: { min: 2 },
    low: "almost no color",
  },
  ({ small, detail }) => detail && saturationOf(small),
);
