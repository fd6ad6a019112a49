// How steep edges are in four directions: what a small blur would take from them. Sharpness and motion blur build on it.
import type { LumaPlane } from "./measure.ts";

/** 0 (edges 9 pixels wide or more) to 0.9 (one pixel), along each direction; undefined where there are no edges. */
export interface Steepness {
  horizontal: number | undefined;
  vertical: number | undefined;
  /** Down to the right, and up to the right. */
  falling: number | undefined;
  rising: number | undefined;
}

/** Levels across 9 pixels that make an edge worth judging. */
const leastContrast = 16;
const leastStep = 12;
/** Fewer edges than this share of the places looked at say nothing. */
const leastShare = 0.002;
/**
 * An edge, sharp or blurred, has a foot and a head: levels that the middle of 17 pixels stands off the mean of the two
 * ends. A smooth gradient has none, however steep, and says nothing about focus.
 */
const leastBend = 12;

/**
 * The share of neighbour differences that a 9-tap box blur along the direction would remove: an edge that is a ramp of
 * w pixels gives 1 − w/9.
 * After: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
 */
function along({ data, width, height, stride }: LumaPlane, stepX: number, stepY: number): number | undefined {
  const step = stepY * stride + stepX;
  const marginX = stepX === 0 ? 0 : 8;
  const marginY = stepY === 0 ? 0 : 8;
  let bends = 0;
  let variation = 0;
  let lost = 0;
  let edges = 0;
  let places = 0;
  // A part of the rows and columns still gives tens of thousands of places.
  for (let y = marginY; y < height - marginY; y += 5) {
    const row = y * stride;
    for (let x = marginX + (y % 2); x < width - marginX; x += 2) {
      const at = row + x;
      places++;
      const difference = data[at]! - data[at - step]!;
      const g = difference < 0 ? -difference : difference;
      const across = data[at + 4 * step]! - data[at - 5 * step]!;
      const wide = across < 0 ? -across : across;
      if (wide < leastContrast && g < leastStep) continue;
      edges++;
      const bend = 2 * data[at]! - data[at - 8 * step]! - data[at + 8 * step]!;
      if (bend > 2 * leastBend || bend < -2 * leastBend) bends++;
      variation += g;
      const rest = g - wide / 9;
      if (rest > 0) lost += rest;
    }
  }
  const least = Math.max(40, places * leastShare);
  return edges < least || bends < Math.max(least / 2, edges * 0.02) ? undefined : lost / variation;
}

/** Each direction is looked at when it is first asked for: motion blur seldom needs the diagonals. */
class LazySteepness implements Steepness {
  readonly #plane: LumaPlane;
  readonly #known = new Map<string, number | undefined>();

  constructor(plane: LumaPlane) {
    this.#plane = plane;
  }

  #at(stepX: number, stepY: number): number | undefined {
    const key = `${stepX},${stepY}`;
    if (!this.#known.has(key)) this.#known.set(key, along(this.#plane, stepX, stepY));
    return this.#known.get(key);
  }

  get horizontal(): number | undefined {
    return this.#at(1, 0);
  }
  get vertical(): number | undefined {
    return this.#at(0, 1);
  }
  get falling(): number | undefined {
    return this.#at(1, 1);
  }
  get rising(): number | undefined {
    return this.#at(1, -1);
  }
}

const cache = new WeakMap<LumaPlane, Steepness>();

/** Edges of a plane; looked at once however many measures ask. The plane must still be there when they do. */
export function steepness(plane: LumaPlane): Steepness {
  let known = cache.get(plane);
  if (!known) {
    known = new LazySteepness(plane);
    cache.set(plane, known);
  }
  return known;
}
