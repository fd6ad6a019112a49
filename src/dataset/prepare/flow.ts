// How one small picture became the next: a displacement for every 8×8 block, one for the whole, and what is left over.
import { meanOf, type SmallPicture } from "./small.ts";

export interface Flow {
  /** Blocks across and down. */
  across: number;
  down: number;
  /** Displacement of every block, small pixels to the next picture; fractions where only slight change is seen. */
  dx: Float32Array;
  dy: Float32Array;
  /** Mean absolute luma difference left after following the motion, 8-bit levels, over the picture. */
  residual: number;
  /** The same at rest: without following motion. */
  change: number;
  /** The same at rest for every block that was looked at; -1 for the others. */
  changes: Float32Array;
  /** Displacement of the picture as a whole (a pan, a shake), small pixels, to a fraction of one. */
  globalX: number;
  globalY: number;
}

const block = 8;
/** Levels a block's mean difference must exceed to count as more than noise. */
const still = 1;
const reach = 16;

/** Sum of absolute differences of one block, `brighter` levels up, against `next` displaced; stops once over `limit`. */
function blockDifference(
  previous: Uint8Array,
  next: Uint8Array,
  stride: number,
  from: number,
  to: number,
  brighter: number,
  limit: number,
): number {
  let sum = 0;
  for (let row = 0; row < block; row++) {
    const a = from + row * stride;
    const b = to + row * stride;
    for (let i = 0; i < block; i++) {
      const d = previous[a + i]! + brighter - next[b + i]!;
      sum += d < 0 ? -d : d;
    }
    if (sum >= limit) return limit;
  }
  return sum;
}

/** Mean absolute gradient of a block, levels a pixel. */
function blockGradient(plane: Uint8Array, stride: number, from: number): number {
  let sum = 0;
  for (let row = 0; row < block - 1; row++) {
    const a = from + row * stride;
    for (let i = 0; i < block - 1; i++) {
      sum += Math.abs(plane[a + i + 1]! - plane[a + i]!) + Math.abs(plane[a + stride + i]! - plane[a + i]!);
    }
  }
  return sum / (2 * (block - 1) * (block - 1));
}

/** Column sums, or row sums, of a plane, less their mean. */
function projection(plane: Uint8Array, width: number, height: number, rows: boolean): Int32Array {
  const length = rows ? height : width;
  const result = new Int32Array(length);
  for (let y = 0; y < height; y++) {
    const start = y * width;
    if (rows) {
      let sum = 0;
      for (let x = 0; x < width; x++) sum += plane[start + x]!;
      result[y] = sum;
    } else {
      for (let x = 0; x < width; x++) result[x] = result[x]! + plane[start + x]!;
    }
  }
  let mean = 0;
  for (let i = 0; i < length; i++) mean += result[i]!;
  mean = Math.round(mean / length);
  for (let i = 0; i < length; i++) result[i] = result[i]! - mean;
  return result;
}

interface Projections {
  columns: Int32Array;
  rows: Int32Array;
}

const projections = new WeakMap<SmallPicture, Projections>();

/** Of a picture, made once: each is the next of one pair and the previous of another. */
function projectionsOf(picture: SmallPicture): Projections {
  let known = projections.get(picture);
  if (!known) {
    const { y, width, height } = picture;
    known = { columns: projection(y, width, height, false), rows: projection(y, width, height, true) };
    projections.set(picture, known);
  }
  return known;
}

/** Levels a pixel by which a shift must be better than those two pixels off: smooth pictures tell no place. */
const leastDip = 0.4;

/**
 * The shift that lays one projection over the other, to a fraction of a pixel; 0 where none stands out. `depth`: pixels
 * summed into each number.
 */
function shiftBetween(a: Int32Array, b: Int32Array, depth: number): number {
  const most = Math.min(reach, a.length >> 2);
  const costs: number[] = [];
  let best = 0;
  for (let shift = -most; shift <= most; shift++) {
    let sum = 0;
    const from = Math.max(0, -shift);
    const to = Math.min(a.length, a.length - shift);
    for (let i = from; i < to; i++) sum += Math.abs(a[i]! - b[i + shift]!);
    costs.push(sum / (to - from));
    if (costs.at(-1)! < costs[best]!) best = costs.length - 1;
  }
  const rest = costs[most]!;
  // Without a clearly better place the picture as a whole stands still.
  if (rest <= costs[best]! * 1.05) best = most;
  const dip = Math.min(costs[best - 2] ?? Number.POSITIVE_INFINITY, costs[best + 2] ?? Number.POSITIVE_INFINITY);
  if (dip - costs[best]! < leastDip * depth) return 0;
  const [left, middle, right] = [costs[best - 1], costs[best]!, costs[best + 1]];
  if (left === undefined || right === undefined) return best - most;
  const bend = left + right - 2 * middle;
  // |x| rather than x² near the minimum: the fraction of a V shape.
  const fraction = bend <= 0 ? 0 : (left - right) / (2 * Math.max(left - middle, right - middle, 1e-9));
  return best - most + Math.max(-0.5, Math.min(0.5, fraction));
}

/**
 * Block search with predictors (rest, neighbours, the picture's own shift, the block's motion before), a coarse grid
 * where all fail, then steps to the best neighbour. About half a millisecond for a small picture.
 */
export function flowBetween(previous: SmallPicture, next: SmallPicture, before?: Flow): Flow {
  const { width, height } = previous;
  const across = width / block;
  const down = height / block;
  const dx = new Float32Array(across * down);
  const dy = new Float32Array(across * down);
  const [earlier, later] = [projectionsOf(previous), projectionsOf(next)];
  const globalX = shiftBetween(earlier.columns, later.columns, height);
  const globalY = shiftBetween(earlier.rows, later.rows, width);
  const [shiftX, shiftY] = [Math.round(globalX), Math.round(globalY)];
  // Light that goes up or down everywhere is no motion.
  const brighter = Math.round(meanOf(next.y) - meanOf(previous.y));
  const pixels = block * block;
  let residual = 0;
  let change = 0;
  const changes = new Float32Array(across * down).fill(-1);
  let searched = 0;
  for (let by = 0; by < down; by++) {
    for (let bx = 0; bx < across; bx++) {
      const index = by * across + bx;
      // Every second block is searched, as on a chess board; the others move with their neighbour.
      if ((bx + by) % 2 === 1) {
        const neighbour = bx > 0 ? index - 1 : index - across;
        dx[index] = dx[neighbour]!;
        dy[index] = dy[neighbour]!;
        continue;
      }
      searched++;
      const [x0, y0] = [bx * block, by * block];
      const from = y0 * width + x0;
      const atRest = blockDifference(previous.y, next.y, width, from, from, brighter, Number.POSITIVE_INFINITY);
      change += atRest;
      changes[index] = atRest / pixels;
      let best = atRest;
      let bestX = 0;
      let bestY = 0;
      if (atRest > still * pixels) {
        const consider = (x: number, y: number): boolean => {
          const [left, top] = [x0 + x, y0 + y];
          if (left < 0 || top < 0 || left + block > width || top + block > height) return false;
          const cost = blockDifference(previous.y, next.y, width, from, top * width + left, brighter, best);
          if (cost >= best) return false;
          [best, bestX, bestY] = [cost, x, y];
          return true;
        };
        consider(shiftX, shiftY);
        if (bx > 0) consider(Math.round(dx[index - 1]!), Math.round(dy[index - 1]!));
        if (by > 0) consider(Math.round(dx[index - across]!), Math.round(dy[index - across]!));
        if (before && before.dx.length === dx.length)
          consider(Math.round(before.dx[index]!), Math.round(before.dy[index]!));
        if (best > 4 * still * pixels)
          for (let y = -reach; y <= reach; y += 4) for (let x = -reach; x <= reach; x += 4) consider(x, y);
        for (let step = 2; step >= 1; step--)
          for (let turns = 0; turns < 8; turns++) {
            const [x, y] = [bestX, bestY];
            const better = [
              consider(x + step, y),
              consider(x - step, y),
              consider(x, y + step),
              consider(x, y - step),
            ].some(Boolean);
            if (!better) break;
          }
      }
      residual += best;
      // A displacement must explain most of the change; else slight change over a gradient tells how far it moved.
      if ((bestX !== 0 || bestY !== 0) && best < 0.7 * atRest) {
        dx[index] = bestX;
        dy[index] = bestY;
      } else if (atRest > still * pixels) {
        const gradient = blockGradient(previous.y, width, from);
        if (gradient > 0.5) dx[index] = Math.min(1, (atRest / pixels - still) / gradient);
      }
    }
  }
  const all = searched * pixels;
  return {
    across,
    down,
    dx,
    dy,
    residual: residual / all,
    change: change / all,
    changes,
    globalX,
    globalY,
  };
}

/** Displacement lengths of all blocks, as a share of the picture's width. */
export function speedOf(flow: Flow): number {
  let sum = 0;
  for (let i = 0; i < flow.dx.length; i++) sum += Math.hypot(flow.dx[i]!, flow.dy[i]!);
  return sum / flow.dx.length / (flow.across * block);
}
