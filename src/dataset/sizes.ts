// Sizes to train a source at: every width and height in whole steps whose shape is near the source's.
// What they cost is the planner's to say (train/step-costs.ts).
import { type CropGeometry, cropFor, type Size } from "./buckets.ts";

/** Which sizes count as near. */
export interface SizeRules {
  /** Sides are multiples of this: 16, or 32 for the 5B. */
  step: number;
  /** How far the aspect may be off, as a share: 0.01 is 1 %. */
  tolerance: number;
  /** The shorter side has at least this many pixels. */
  minSide: number;
  /** Width times height, pixels: a source may be larger than anything that can train. */
  mostArea: number;
}

/** A size that a source can be trained at. */
export interface NearSize extends Size {
  /** How the source becomes it: never enlarged. */
  crop: CropGeometry;
}

/** All sizes near `source`'s aspect that do not enlarge it, the largest first. */
export function sizesNear(source: Size, { step, tolerance, minSide, mostArea }: SizeRules): NearSize[] {
  const aspect = source.width / source.height;
  const least = Math.ceil(minSide / step) * step;
  const sizes: NearSize[] = [];
  for (let height = least; height <= source.height; height += step) {
    const from = Math.max(least, Math.ceil((height * aspect) / (1 + tolerance) / step) * step);
    const to = Math.min(source.width, height * aspect * (1 + tolerance), mostArea / height);
    // The next ones are larger still.
    if (from * height > mostArea) break;
    for (let width = from; width <= to; width += step) {
      sizes.push({ width, height, crop: cropFor(source.width, source.height, { width, height }) });
    }
  }
  return sizes.sort((a, b) => b.width * b.height - a.width * a.height || b.width - a.width);
}

/** 1, 5, 9 … up to `longest`. */
export function clipLengths(longest: number): number[] {
  return Array.from({ length: Math.floor((longest - 1) / 4) + 1 }, (_, i) => 4 * i + 1);
}
