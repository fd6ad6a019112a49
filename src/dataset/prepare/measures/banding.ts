// Banding: levels of brightness that a picture leaves out, so that smooth shades go in steps.
import { type LumaPlane, type Measure, medianMeasure, percentile } from "./measure.ts";

/** Levels in a row that must be left out: a picture whose contrast was stretched misses single ones. */
const leastRun = 3;
/** A level is left out that has less than this share of what is usual near it. */
const few = 0.12;
const reach = 10;
/** Pictures of less contrast, in levels, say nothing. */
const leastRange = 40;
/** About how many pixels are counted. */
const pixels = 60_000;

/** Of the levels between the darkest and the lightest hundredth, the share left out in runs, %. */
export function bandingOf({ data, width, height, stride }: LumaPlane): number | undefined {
  const every = Math.max(1, Math.round(Math.sqrt((width * height) / pixels)));
  const counts = new Uint32Array(256);
  let all = 0;
  for (let y = 0; y < height; y += every)
    for (let x = y % every; x < width; x += every) {
      counts[data[y * stride + x]!]!++;
      all++;
    }
  const level = (share: number) => {
    let seen = 0;
    return counts.findIndex((count) => {
      seen += count;
      return seen > share * all;
    });
  };
  const [low, high] = [level(0.01), level(0.99)];
  if (high - low < leastRange) return undefined;
  let [missing, run] = [0, 0];
  for (let at = low; at <= high; at++) {
    const near = [...counts.subarray(Math.max(low, at - reach), Math.min(high, at + reach) + 1)];
    // The busy levels near it: of a picture in steps most are empty.
    if (counts[at]! < few * percentile(near, 0.85)!) {
      run++;
      continue;
    }
    if (run >= leastRun) missing += run;
    run = 0;
  }
  return (100 * missing) / (high - low);
}

export const banding: Measure = medianMeasure(
  {
    name: "banding",
    title: "Banding",
    unit: "% of brightness levels that are unused",
    limit: { max: 30 },
    notice: { max: 8 },
    high: "banding in smooth gradients",
  },
  ({ marks }) => marks?.banding,
);
