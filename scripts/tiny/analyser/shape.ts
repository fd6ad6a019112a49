// Names a mask's shape and turn: it is brought to unit area about its centroid and laid over templates of every shape.
import { type ShapeName, shapeNames, shapes } from "../world/shapes.ts";
import { blurPlane } from "./blur.ts";
import { coverage, type Sighting } from "./segment.ts";

/** Samples of a template along each side, over this many square roots of the shape's area to each side. */
const GRID = 28;
const SPAN = 1.05;
/** Templates are drawn with as many samples for each of theirs, along both sides, before they are blurred. */
const FINER = 2;
const TURN_STEP = Math.PI / 30;
/** Objects that do not turn stand within this of upright, in turn steps. */
const UPRIGHT = 2;
/** What an autoencoder and the analyser's own smoothing blur a frame by: a standard deviation, in heights. */
const BLUR = 0.02;
/** Templates are drawn for blurs in such steps, in square roots of the shape's area, up to the last that shapes survive. */
const BLURS = { step: 0.03, most: 0.27 } as const;

/**
 * What a mask loses by being less solid than a shape would be. A blur and a weak decoder fill notches, nothing cuts them:
 * the bent points of a star still speak against a square that covers it better. The other way round says nothing.
 */
const NOTCHED = 0.6;

interface Template {
  shape: ShapeName;
  /** Clockwise, in radians. */
  angle: number;
  upright: boolean;
  values: Float32Array;
  /** See {@link solidityOf}. */
  solidity: number;
}

/** The area of a shape of radius 1, by counting a fine grid. */
function unitArea(shape: ShapeName): number {
  const { distance, reach } = shapes[shape];
  const FINE = 400;
  let inside = 0;
  for (let j = 0; j < FINE; j++)
    for (let i = 0; i < FINE; i++)
      if (distance(reach * ((2 * i + 1) / FINE - 1), reach * ((2 * j + 1) / FINE - 1)) < 0) inside++;
  return inside * ((2 * reach) / FINE) ** 2;
}

export const unitAreas = Object.fromEntries(shapeNames.map((name) => [name, unitArea(name)])) as Readonly<
  Record<ShapeName, number>
>;

/** The shape's centroid below its reference point, in radii (a heart is not drawn about its centroid). */
function centroidY(shape: ShapeName): number {
  const { distance, reach } = shapes[shape];
  const FINE = 200;
  let inside = 0;
  let sum = 0;
  for (let j = 0; j < FINE; j++) {
    const y = reach * ((2 * j + 1) / FINE - 1);
    for (let i = 0; i < FINE; i++) {
      if (distance(reach * ((2 * i + 1) / FINE - 1), y) >= 0) continue;
      inside++;
      sum += y;
    }
  }
  return sum / inside;
}

const centroids = Object.fromEntries(shapeNames.map((name) => [name, centroidY(name)])) as Readonly<
  Record<ShapeName, number>
>;

/** A shape of unit area about its centroid, blurred, cut at the edge as a mask is, and brought to unit area again. */
function drawTemplate(shape: ShapeName, angle: number, blur: number): Float32Array {
  const { distance } = shapes[shape];
  const radius = 1 / Math.sqrt(unitAreas[shape]);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const count = GRID * FINER;
  const cell = (2 * SPAN) / count;
  const fine = Float32Array.from({ length: count * count }, (_, i) => {
    const x = ((i % count) + 0.5) * cell - SPAN;
    const y = (Math.floor(i / count) + 0.5) * cell - SPAN;
    const away = radius * distance((cos * x + sin * y) / radius, (cos * y - sin * x) / radius + centroids[shape]);
    return Math.min(1, Math.max(0, 0.5 - away / cell));
  });
  const mask = blurPlane(fine, count, count, blur / cell).map((value) => coverage(value));
  const area = mask.reduce((sum, value) => sum + value, 0) / count ** 2;
  return normalized({ x: 0, y: 0, area, mask }, count, count);
}

const drawTemplates = (blur: number): readonly Template[] =>
  shapeNames.flatMap((shape) => {
    const { symmetry } = shapes[shape];
    const turns = symmetry === 0 ? 1 : Math.round((2 * Math.PI) / symmetry / TURN_STEP);
    return Array.from({ length: turns }, (_, i) => {
      const angle = i * TURN_STEP;
      const upright = Math.min(i, turns - i) <= UPRIGHT;
      const values = drawTemplate(shape, angle, blur);
      return { shape, angle, upright, values, solidity: solidityOf(values) };
    });
  });

const drawn = new Map<number, readonly Template[]>();

/**
 * The templates as a blurred frame would show them: the smaller the object, the rounder its corners. `area` in heights
 * squared. At night, halos fill what a blur takes away: the templates stay crisp.
 */
function templatesAt(area: number, night: boolean): readonly Template[] {
  const blur = night ? 0 : Math.min(BLURS.most, BLUR / Math.sqrt(area));
  const step = Math.round(blur / BLURS.step);
  let templates = drawn.get(step);
  if (!templates) {
    templates = drawTemplates(step * BLURS.step);
    drawn.set(step, templates);
  }
  return templates;
}

/** A mask brought to unit area about its centroid, [GRID, GRID]. */
function normalized({ x, y, area, mask }: Sighting, width: number, height: number): Float32Array {
  const unit = Math.sqrt(area) * height;
  const centreX = width / 2 + x * height - 0.5;
  const centreY = height / 2 + y * height - 0.5;
  const cell = (2 * SPAN) / GRID;
  const at = (column: number, row: number): number =>
    column < 0 || row < 0 || column >= width || row >= height ? 0 : mask[row * width + column]!;
  return Float32Array.from({ length: GRID * GRID }, (_, i) => {
    const px = centreX + unit * (((i % GRID) + 0.5) * cell - SPAN);
    const py = centreY + unit * ((Math.floor(i / GRID) + 0.5) * cell - SPAN);
    const column = Math.floor(px);
    const row = Math.floor(py);
    const right = px - column;
    const below = py - row;
    const top = at(column, row) * (1 - right) + at(column + 1, row) * right;
    const bottom = at(column, row + 1) * (1 - right) + at(column + 1, row + 1) * right;
    return top * (1 - below) + bottom * below;
  });
}

/**
 * The share of its convex hull that a mask [GRID, GRID] covers: 1 of a square, little more than half of a star however
 * bent its points are.
 */
function solidityOf(mask: Float32Array): number {
  const HALF = 0.5;
  const crossing = (a: number, b: number) => (HALF - a) / (b - a);
  const points: { x: number; y: number }[] = [];
  for (let line = 0; line < GRID; line++) {
    for (let i = 0; i + 1 < GRID; i++) {
      const [a, b] = [mask[line * GRID + i]!, mask[line * GRID + i + 1]!];
      if (a < HALF !== b < HALF) points.push({ x: i + crossing(a, b), y: line });
      const [c, d] = [mask[i * GRID + line]!, mask[(i + 1) * GRID + line]!];
      if (c < HALF !== d < HALF) points.push({ x: line, y: i + crossing(c, d) });
    }
  }
  const hull = convexArea(points);
  return hull > 0 ? Math.min(1, mask.reduce((sum, value) => sum + value, 0) / hull) : 1;
}

/** Of the convex hull of points (Andrew's monotone chain). */
function convexArea(points: readonly { x: number; y: number }[]): number {
  const sorted = points.toSorted((a, b) => a.x - b.x || a.y - b.y);
  const half = (ordered: typeof sorted) => {
    const chain: typeof sorted = [];
    for (const point of ordered) {
      while (chain.length > 1) {
        const [p, q] = chain.slice(-2) as [typeof point, typeof point];
        if ((q.x - p.x) * (point.y - p.y) - (q.y - p.y) * (point.x - p.x) > 0) break;
        chain.pop();
      }
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  const hull = [...half(sorted), ...half(sorted.toReversed())];
  return hull.reduce((sum, { x, y }, i) => {
    const next = hull[(i + 1) % hull.length]!;
    return sum + (x * next.y - next.x * y) / 2;
  }, 0);
}

interface ShapeFit {
  /** At the best turn: 1 is a perfect cover, 0 none at all; less for notches that the shape has not. */
  fit: number;
  /** The best turn, clockwise in radians. */
  angle: number;
  /** As `fit`, near upright. */
  upright: number;
}

export type ShapeFits = Readonly<Record<ShapeName, ShapeFit>>;

export function fitShapes(sighting: Sighting, width: number, height: number, night: boolean): ShapeFits {
  const seen = normalized(sighting, width, height);
  const solidity = solidityOf(seen);
  const notched = night ? 0 : NOTCHED;
  const fits = Object.fromEntries(shapeNames.map((name) => [name, { fit: -1, angle: 0, upright: -1 }])) as Record<
    ShapeName,
    ShapeFit
  >;
  for (const { shape, angle, upright, values, solidity: whole } of templatesAt(sighting.area, night)) {
    let differs = 0;
    let sum = 0;
    for (let i = 0; i < seen.length; i++) {
      differs += Math.abs(seen[i]! - values[i]!);
      sum += seen[i]! + values[i]!;
    }
    const fit = 1 - differs / sum - notched * Math.max(0, whole - solidity);
    const best = fits[shape];
    if (upright) best.upright = Math.max(best.upright, fit);
    if (fit > best.fit) Object.assign(best, { fit, angle });
  }
  return fits;
}

/** By so much a turn has to explain the frames better than standing upright does. */
const LEAST_GAIN = 0.035;

/**
 * The shapes by how well they fit all frames, best first, each frame by the area of what was seen in it: the smaller, the
 * rounder everything looks. What does not turn stands upright in the world, and is only compared with upright shapes: a
 * heart on its side is much like a rounded triangle.
 */
export function rankShapes(frames: readonly { fits: ShapeFits; area: number }[]): { name: ShapeName; fit: number }[] {
  const whole = frames.reduce((sum, { area }) => sum + area, 0);
  const ranked = (kind: "fit" | "upright") =>
    shapeNames
      .map((name) => ({ name, fit: frames.reduce((sum, { fits, area }) => sum + fits[name][kind] * area, 0) / whole }))
      .sort((a, b) => b.fit - a.fit);
  const [turned, upright] = [ranked("fit"), ranked("upright")];
  return turned[0]!.fit - upright[0]!.fit > LEAST_GAIN ? turned : upright;
}
