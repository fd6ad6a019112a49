// Burnt-in overlays (logos, watermarks, subtitles): edges that stay exactly where they are while the rest moves.
import type { SmallPicture } from "../small.ts";
import { type ClipFrame, type Measure, median, type Tally } from "./measure.ts";

/** Levels across two pixels that make an edge. */
const leastEdge = 14;
/** Of all edges in the picture, the share that must pass by for the picture to count as moving. */
const leastMoving = 0.6;
/** And the share that may stand still: more is scenery. */
const mostStill = 0.2;
/** Cells in which still edges must run in more than one direction: a line along a pan seems to stand still too. */
const cell = 8;

/** Sums of the luma gradient at every pixel of the small picture over a stretch of frames. */
class EdgeSums {
  readonly width: number;
  readonly height: number;
  count = 0;
  readonly #x: Float32Array;
  readonly #y: Float32Array;
  readonly #squares: Float32Array;

  constructor({ width, height }: { width: number; height: number }) {
    this.width = width;
    this.height = height;
    this.#x = new Float32Array(width * height);
    this.#y = new Float32Array(width * height);
    this.#squares = new Float32Array(width * height);
  }

  add({ y: luma, width, height }: SmallPicture): void {
    this.count++;
    const [sumX, sumY, squares] = [this.#x, this.#y, this.#squares];
    for (let row = 1; row < height - 1; row++) {
      for (let at = row * width + 1, end = (row + 1) * width - 1; at < end; at++) {
        const gx = luma[at + 1]! - luma[at - 1]!;
        const gy = luma[at + width]! - luma[at - width]!;
        sumX[at]! += gx;
        sumY[at]! += gy;
        squares[at]! += gx * gx + gy * gy;
      }
    }
  }

  /** Adds what another stretch of frames summed up. */
  addAll(other: EdgeSums): void {
    this.count += other.count;
    for (let at = 0; at < this.#x.length; at++) {
      this.#x[at]! += other.#x[at]!;
      this.#y[at]! += other.#y[at]!;
      this.#squares[at]! += other.#squares[at]!;
    }
  }

  /** Edges that neither moved nor faded, the number of edges that passed by, and of all. */
  still(): { mask: Uint8Array; still: number; moving: number; edges: number } {
    const { width, height } = this;
    const mask = new Uint8Array(width * height);
    let [still, moving, edges] = [0, 0, 0];
    for (let top = 0; top < height; top += cell) {
      for (let left = 0; left < width; left += cell) {
        const found: number[] = [];
        // The structure tensor of the cell's still edges.
        let [xx, yy, xy] = [0, 0, 0];
        for (let row = top; row < top + cell; row++) {
          for (let at = row * width + left, end = at + cell; at < end; at++) {
            const square = this.#squares[at]! / this.count;
            if (square < leastEdge * leastEdge) continue;
            edges++;
            const [x, y] = [this.#x[at]! / this.count, this.#y[at]! / this.count];
            const spread = square - (x * x + y * y);
            if (spread > 0.35 * square) moving++;
            // A fixed edge keeps its gradient; compression and see-through overlays add a little.
            if (spread > 0.025 * square + 4) continue;
            found.push(at);
            xx += x * x;
            yy += y * y;
            xy += x * y;
          }
        }
        const difference = Math.hypot(xx - yy, 2 * xy);
        if (found.length < 5 || xx + yy - difference < 0.12 * (xx + yy + difference)) continue;
        for (const at of found) mask[at] = 1;
        still += found.length;
      }
    }
    return { mask, still, moving, edges };
  }
}

/** Packs a mask to bits as base64, for the record of a clip. */
export function packMask(mask: Uint8Array): string {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) if (mask[i]) bytes[i >> 3]! |= 1 << (i & 7);
  return Buffer.from(bytes).toString("base64");
}

export function unpackMask(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  const mask = new Uint8Array(bytes.length * 8);
  for (let i = 0; i < mask.length; i++) mask[i] = (bytes[i >> 3]! >> (i & 7)) & 1;
  return mask;
}

/** Overlay area of one clip, and its still edges for comparison with the film's other scenes. */
export class OverlayTally implements Tally {
  readonly #window: number;
  #part: EdgeSums | undefined;
  #whole: EdgeSums | undefined;
  readonly #areas: number[] = [];
  #parts = 0;

  constructor(fps: number) {
    this.#window = Math.max(6, Math.round(fps));
  }

  add({ small }: ClipFrame, index: number): void {
    if (index % 2 === 1) return;
    this.#part ??= new EdgeSums(small);
    this.#part.add(small);
    // Every second frame: a part is two seconds long.
    if (this.#part.count >= this.#window) this.#close();
  }

  #close(): void {
    const part = this.#part;
    this.#part = undefined;
    if (!part) return;
    if (this.#whole) this.#whole.addAll(part);
    else this.#whole = part;
    if (part.count < 5) return;
    this.#parts++;
    const { still, moving, edges } = part.still();
    // Where the scene itself stands still an overlay cannot be told from it.
    if (edges < 50 || moving < leastMoving * edges || still > mostStill * edges) return;
    this.#areas.push((100 * still) / (part.width * part.height));
  }

  /** % of the picture covered by still edges while the rest moves; undefined where the camera stands still. */
  result(): number | undefined {
    return this.#areas.length * 2 < this.#parts ? undefined : median(this.#areas);
  }

  stillEdges(): Uint8Array | undefined {
    const sums = [this.#whole, this.#part].flatMap((part) => part ?? []);
    if (sums.reduce((count, part) => count + part.count, 0) < 5) return undefined;
    const all = new EdgeSums(sums[0]!);
    for (const part of sums) all.addAll(part);
    return all.still().mask;
  }
}

/** Scenes a film must have for an overlay to be found by comparing them. */
export const leastScenes = 4;

/**
 * Edges at the same place in nearly all scenes of a film, % of the picture. Undefined for films of few scenes.
 * `masks`: the still edges of one clip a scene, scenes that do not look alike.
 */
export function overlayOfScenes(masks: readonly Uint8Array[]): number | undefined {
  if (masks.length < leastScenes) return undefined;
  const length = Math.min(...masks.map((mask) => mask.length));
  let shared = 0;
  for (let at = 0; at < length; at++) {
    let count = 0;
    for (const mask of masks) count += mask[at]!;
    if (count >= 0.8 * masks.length) shared++;
  }
  return (100 * shared) / length;
}

export const overlay: Measure = {
  name: "overlay",
  title: "Burnt-in overlay",
  unit: "% of the picture with edges that stand still while the rest moves",
  limit: { max: 0.2 },
  high: "a logo, watermark or subtitle is burnt in",
  filmsOnly: true,
  start: ({ fps }) => new OverlayTally(fps),
};
