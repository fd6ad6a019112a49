// How steep edges are in four directions: what a small blur would take from them. Sharpness and motion blur build on it.
import type { LumaPlane } from "./measure.ts";

/** 0 (edges 9 pixels wide or more) to 0.9 (one pixel), along each direction; undefined where there are no edges. */
export interface Steepness {
  horizontal: number | undefined;
  vertical: number | undefined;
  /** Down to the right, and up to the right. */
  falling: number | undefined;
  rising: number | undefined;
  /** Width below which the narrowest twentieth of the edges lie, pixels, along rows and columns together. */
  narrowest: number | undefined;
  /** The same along rows and along columns by themselves; undefined where one of them has few. */
  sharpestWidths: readonly [number, number] | undefined;
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

/** Levels across 9 pixels that make an outline, whose width is told. */
const leastOutline = 30;
/** Fewer outlines than this, and than this share of the pixels, tell nothing. */
const leastOutlines = 20;
const leastOutlineShare = 0.00015;
/** The share of the edges that tells how sharp the sharpest parts are: the rest may well be out of focus. */
const narrowestShare = 0.05;
/** Widths are counted in this part of a pixel. */
const perPixel = 8;

/** Whether a place is the steepest of a lone edge, `wide` levels high, whose width can be told. */
function isOutline(data: Uint8Array, at: number, step: number, g: number, wide: number): boolean {
  const [before, after] = [data[at - step]! - data[at - 2 * step]!, data[at + step]! - data[at]!];
  if (g < (before < 0 ? -before : before) || g < (after < 0 ? -after : after)) return false;
  // A fine line goes up and down again within the pixels looked at, and would seem narrower than its edges are.
  let way = 0;
  for (let k = -5; k < 4; k++) {
    const d = data[at + (k + 1) * step]! - data[at + k * step]!;
    way += d < 0 ? -d : d;
  }
  return way <= 1.1 * wide + 2;
}

/**
 * The share of neighbour differences that a 9-tap box blur along the direction would remove: an edge that is a ramp of
 * w pixels gives 1 − w/9.
 * After: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
 */
function along(
  { data, width, height, stride }: LumaPlane,
  stepX: number,
  stepY: number,
  widths: Uint32Array,
): number | undefined {
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
      if (wide >= leastOutline && g * 9 > wide && isOutline(data, at, step, g, wide))
        widths[Math.floor((perPixel * wide) / g)]!++;
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

/** The width below which the narrowest twentieth of some edges lie, pixels; undefined for few edges. */
function narrowestOf({ width, height }: LumaPlane, ...counts: readonly Uint32Array[]): number | undefined {
  let all = 0;
  for (const count of counts) for (const n of count) all += n;
  if (all < Math.max(leastOutlines, leastOutlineShare * width * height)) return undefined;
  let seen = 0;
  for (let at = 0; at < 9 * perPixel; at++) {
    for (const count of counts) seen += count[at]!;
    if (seen >= narrowestShare * all) return (at + 0.5) / perPixel;
  }
  return 9;
}

interface Direction {
  steepness: number | undefined;
  widths: Uint32Array;
}

/** Each direction is looked at when it is first asked for: motion blur seldom needs the diagonals. */
class LazySteepness implements Steepness {
  readonly #plane: LumaPlane;
  readonly #known = new Map<string, Direction>();

  constructor(plane: LumaPlane) {
    this.#plane = plane;
  }

  #at(stepX: number, stepY: number): Direction {
    const key = `${stepX},${stepY}`;
    let known = this.#known.get(key);
    if (!known) {
      const widths = new Uint32Array(9 * perPixel + 1);
      known = { steepness: along(this.#plane, stepX, stepY, widths), widths };
      this.#known.set(key, known);
    }
    return known;
  }

  get horizontal(): number | undefined {
    return this.#at(1, 0).steepness;
  }
  get vertical(): number | undefined {
    return this.#at(0, 1).steepness;
  }
  get falling(): number | undefined {
    return this.#at(1, 1).steepness;
  }
  get rising(): number | undefined {
    return this.#at(1, -1).steepness;
  }

  get narrowest(): number | undefined {
    return narrowestOf(this.#plane, this.#at(1, 0).widths, this.#at(0, 1).widths);
  }

  get sharpestWidths(): readonly [number, number] | undefined {
    const [across, down] = [
      narrowestOf(this.#plane, this.#at(1, 0).widths),
      narrowestOf(this.#plane, this.#at(0, 1).widths),
    ];
    return across === undefined || down === undefined ? undefined : [across, down];
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
