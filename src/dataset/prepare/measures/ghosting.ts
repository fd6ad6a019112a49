// Ghosting: frames that are mixes of other moments, as where a rate was changed by blending.
import type { SmallPicture } from "../small.ts";
import { type Measure, median, percentile } from "./measure.ts";

/** Levels that a place must change by over two frames to be followed. */
const least = 12;
/** How many times the slope of two pixels around it a place must change by. */
const mostSlope = 2;
/** A frame that is nearly one of its neighbours is a repetition, no mix. */
const leastShare = 0.15;

/** Of how many pixels one at least must change so. */
const leastPlaces = 1500;

/** Levels across two pixels, in one of the neighbours, that make an edge. */
const leastEdge = 12;

function slopeAt(luma: Uint8Array, at: number, width: number): number {
  return Math.abs(luma[at + 1]! - luma[at - 1]!) + Math.abs(luma[at + width]! - luma[at - width]!);
}

/**
 * How well one share of a mix explains the middle frame wherever much changes: 1 for a blend of its neighbours, lower where
 * things move on, which gives each place one or the other. Undefined where too little changes.
 */
function blended(before: SmallPicture, here: SmallPicture, after: SmallPicture): number | undefined {
  const [a, b, c] = [before.y, here.y, after.y];
  const { width } = here;
  const shares: number[] = [];
  for (let i = width; i < b.length - width; i += 3) {
    const far = c[i]! - a[i]!;
    if (far > -least && far < least) continue;
    // A smooth shade that moves is the mean of its neighbours too, and so is an edge that moves by less than a pixel.
    if (Math.abs(far) < mostSlope * slopeAt(b, i, width)) continue;
    if (slopeAt(a, i, width) < leastEdge && slopeAt(c, i, width) < leastEdge) continue;
    shares.push((b[i]! - a[i]!) / far);
  }
  if (shares.length < b.length / leastPlaces) return undefined;
  const share = median(shares)!;
  if (share < leastShare || share > 1 - leastShare) return 0;
  return 1 - 2 * median(shares.map((value) => Math.abs(value - share)))!;
}

export const ghosting: Measure = {
  name: "ghosting",
  title: "Ghosts",
  unit: "0–1 (how well a blend of its neighbours explains a frame)",
  limit: { max: 0.9 },
  notice: { max: 0.7 },
  high: "frames are blended with their neighbours",
  filmsOnly: true,
  start() {
    const values: number[] = [];
    let [before, here]: (SmallPicture | undefined)[] = [];
    return {
      add({ small }) {
        if (before && here) {
          const value = blended(before, here, small);
          if (value !== undefined) values.push(value);
        }
        [before, here] = [here, small];
      },
      result: () => (values.length < 6 ? undefined : percentile(values, 0.8)),
    };
  },
};
