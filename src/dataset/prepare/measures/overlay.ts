// Burnt-in overlays (logos, watermarks, subtitles): edges that stay exactly where they are while the rest moves.
// Fine lettering is lost in the small pictures: this looks at larger ones, twice a second.
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { type ClipFrame, detailEvery, type LumaPlane, type Measure, median, type Tally } from "./measure.ts";

/** Levels across two pixels that make an edge. */
const leastEdge = 16;
/** Fainter ones tell whether the scenery stands still. */
const leastFaint = 7;
/** Of all edges in the picture, the share that must pass by for the picture to count as moving. */
const leastMoving = 0.6;
/** And the share that may stand still: more is scenery. */
const mostStill = 0.12;
/** Of the faint edges, the share that may stand still: under a moving camera none does. */
const mostFaintStill = 0.25;
/** How much of its strength a fixed edge's gradient may vary: what is behind a see-through overlay changes. */
const mostSpread = 0.05;
/** Cells in which still edges must run in more than one direction: a line along a pan seems to stand still too. */
export const cell = 16;
/** Still edges in a cell that make it worth a look. */
export const leastInCell = 10;
/** Seconds over which edges must stand still. */
const span = 2;

/** Where edges stood still in the picture, and which way they face. */
export interface StillEdges {
  width: number;
  height: number;
  /** 0: none; 1–8: the eighth of a turn in which it gets lighter. */
  directions: Uint8Array;
}

function octant(x: number, y: number): number {
  return 1 + ((Math.round((Math.atan2(y, x) / Math.PI) * 4) + 8) % 8);
}

/** Bytes of a map of edges: about half of `lookWidth`² at any shape. */
const mostPacked = 1 << 20;

/** As text for the record of a clip: the width, then four bits a pixel, deflated. */
export function packStillEdges({ width, directions }: StillEdges): string {
  const bytes = new Uint8Array(Math.ceil(directions.length / 2));
  for (let i = 0; i < directions.length; i++) bytes[i >> 1]! |= directions[i]! << (4 * (i & 1));
  return `${width}:${deflateRawSync(bytes).toString("base64")}`;
}

/** What was packed; no edges where the text is damaged. */
export function unpackStillEdges(text: string): StillEdges {
  const colon = text.indexOf(":");
  const width = Number(text.slice(0, colon));
  let bytes: Uint8Array;
  try {
    bytes = inflateRawSync(Buffer.from(text.slice(colon + 1), "base64"), { maxOutputLength: mostPacked });
  } catch {
    bytes = new Uint8Array(0);
  }
  const height = Math.floor((2 * bytes.length) / width);
  const directions = Uint8Array.from({ length: width * height }, (_, i) => (bytes[i >> 1]! >> (4 * (i & 1))) & 15);
  return { width, height, directions };
}

/** About how wide the pictures are made whose edges are looked at, whatever the item's size. */
const lookWidth = 416;

/** Means of boxes of pixels, sides in whole cells. */
function shrunk({ data, width, height, stride }: LumaPlane): LumaPlane {
  const box = Math.max(1, Math.round(width / lookWidth));
  const side = (pixels: number) => cell * Math.floor(pixels / box / cell);
  const small = { width: side(width), height: side(height), stride: side(width) };
  const means = new Uint8Array(small.width * small.height);
  const sums = new Uint16Array(small.width);
  const share = 1 / (box * box);
  for (let y = 0; y < small.height; y++) {
    sums.fill(0);
    for (let row = 0; row < box; row++) {
      let at = (y * box + row) * stride;
      if (box === 2) for (let x = 0; x < small.width; x++, at += 2) sums[x]! += data[at]! + data[at + 1]!;
      else for (let x = 0; x < small.width; x++) for (const end = at + box; at < end; at++) sums[x]! += data[at]!;
    }
    for (let x = 0, into = y * small.width; x < small.width; x++) means[into++] = sums[x]! * share + 0.5;
  }
  return { data: means, ...small };
}

/** Sums of the luma gradient at every pixel of the picture over a stretch of frames. */
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

  add({ data: luma, width, height }: LumaPlane): void {
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
  still(): { map: StillEdges; still: number; moving: number; edges: number; faint: number; faintStill: number } {
    const { width, height } = this;
    const map: StillEdges = { width, height, directions: new Uint8Array(width * height) };
    let [still, moving, edges, faint, faintStill] = [0, 0, 0, 0, 0];
    for (let top = 0; top < height; top += cell) {
      for (let left = 0; left < width; left += cell) {
        const found: number[] = [];
        // The structure tensor of the cell's still edges.
        let [xx, yy, xy] = [0, 0, 0];
        for (let row = top; row < top + cell; row++) {
          for (let at = row * width + left, end = at + cell; at < end; at++) {
            const square = this.#squares[at]! / this.count;
            if (square < leastFaint * leastFaint) continue;
            const [x, y] = [this.#x[at]! / this.count, this.#y[at]! / this.count];
            const spread = square - (x * x + y * y);
            if (square < leastEdge * leastEdge) {
              faint++;
              if (spread < 0.15 * square) faintStill++;
              continue;
            }
            edges++;
            if (spread > 0.35 * square) moving++;
            // A fixed edge keeps its gradient; compression and see-through overlays add a little.
            if (spread > mostSpread * square + 6) continue;
            found.push(at);
            xx += x * x;
            yy += y * y;
            xy += x * y;
          }
        }
        const difference = Math.hypot(xx - yy, 2 * xy);
        if (found.length < leastInCell || xx + yy - difference < 0.12 * (xx + yy + difference)) continue;
        for (const at of found) map.directions[at] = octant(this.#x[at]!, this.#y[at]!);
        still += found.length;
      }
    }
    return { map, still, moving, edges, faint, faintStill };
  }
}

/** Overlay area of one clip, and its still edges for comparison with the film's other scenes. */
export class OverlayTally implements Tally {
  readonly #window: number;
  #part: EdgeSums | undefined;
  #whole: EdgeSums | undefined;
  readonly #areas: number[] = [];
  #parts = 0;

  constructor(fps: number) {
    this.#window = Math.round((span * fps) / detailEvery(fps));
  }

  add({ detail }: ClipFrame): void {
    if (!detail) return;
    const small = shrunk(detail.luma);
    if (small.width === 0 || small.height === 0) return;
    this.#part ??= new EdgeSums(small);
    this.#part.add(small);
    if (this.#part.count >= this.#window) this.#close();
  }

  #close(): void {
    const part = this.#part;
    this.#part = undefined;
    if (!part) return;
    if (this.#whole) this.#whole.addAll(part);
    else this.#whole = part;
    if (part.count < this.#window) return;
    this.#parts++;
    const { still, moving, edges, faint, faintStill } = part.still();
    // Where the scene itself stands still an overlay cannot be told from it.
    if (edges < 50 || moving < leastMoving * edges || still > mostStill * edges || faintStill > mostFaintStill * faint)
      return;
    this.#areas.push((100 * still) / (part.width * part.height));
  }

  /** % of the picture covered by still edges while the rest moves; undefined where the camera stands still. */
  result(): number | undefined {
    return this.#areas.length * 2 < this.#parts ? undefined : median(this.#areas);
  }

  stillEdges(least = 4): StillEdges | undefined {
    const sums = [this.#whole, this.#part].flatMap((part) => part ?? []);
    if (sums.reduce((count, part) => count + part.count, 0) < least) return undefined;
    const all = new EdgeSums(sums[0]!);
    for (const part of sums) all.addAll(part);
    return all.still().map;
  }
}

export const overlay: Measure = {
  name: "overlay",
  title: "Burnt-in overlay",
  unit: "% of the picture with edges that stay still while the rest moves",
  limit: { max: 0.15 },
  notice: { max: 0.1 },
  high: "a logo, watermark or subtitle is burnt in",
  filmsOnly: true,
  start: ({ fps }) => new OverlayTally(fps),
};
