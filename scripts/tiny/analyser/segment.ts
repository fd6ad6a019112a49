// Finds the object in a clip: what differs from the background. The background is taken to be one colour or shades
// between two, learned from the frames' borders; all else that is known is the indigo of neon nights.
import { labDistance, labOfRgb, type Rgb } from "../world/color.ts";
import { NIGHT } from "../world/neon.ts";
import type { Clip } from "../world/render.ts";

/** The background's colours: those on a line in sRGB (0 … 1), between `from` and `to` along a unit direction. */
export interface BackgroundLine {
  middle: Rgb;
  direction: Rgb;
  /** Half of the line's length. */
  half: number;
}

/** The object in one frame. Lengths in frame heights, origin in the frame's middle, y down. */
export interface Sighting {
  x: number;
  y: number;
  /** In heights squared. */
  area: number;
  /** Its soft outline, [height, width], 0 … 1. */
  mask: Float32Array;
}

export interface SegmentedClip {
  /** The smoothed clip it was found in, sRGB 0 … 1, [frames, height, width, 3]. */
  pixels: Float32Array;
  /** Whether the background is the indigo of neon nights, on which halos have to be looked past. */
  night: boolean;
  background: BackgroundLine;
  /** The object's colour, sRGB 0 … 255; undefined where nothing stands out of the background. */
  color: Rgb | undefined;
  /** How far each pixel is from the background towards the object, [frames, height, width]; about 1 inside it. */
  difference: Float32Array;
  /** One a frame; undefined where the object is not seen. */
  sightings: (Sighting | undefined)[];
}

/** Width of the border the background is learned from, in heights. */
const BORDER = 0.03;
/** Farther than this from the background's line (sRGB, 0 … 1) a pixel is not background. */
const APART = 0.16;
/** The same for the samples of a night, whose tones are close to each other and which halos reach into. */
const APART_AT_NIGHT = 0.13;
/** How far from the night's indigo (OKLab) a neon wall may be. */
const NIGHT_TOLERANCE = 0.1;
/** Where a pixel begins to count as the object and where it counts in full, as a share of the way to its colour. */
const EDGE = { from: 0.5, to: 0.8 } as const;
/** The same at night: past a halo's brightest. */
const EDGE_AT_NIGHT = { from: 0.62, to: 0.85 } as const;
type Edge = Readonly<Record<"from" | "to", number>>;
/** Smaller things are specks. In heights squared: a disc of a twentieth of the height across. */
const LEAST_AREA = 0.002;

/** The clip as sRGB 0 … 1, each pixel averaged with its neighbours (1 2 1 both ways) against noise. */
function smoothed({ width, height, frames, data }: Clip): Float32Array {
  const row = width * 3;
  const across = new Float32Array(height * row);
  const out = new Float32Array(frames * height * row);
  for (let f = 0; f < frames; f++) {
    const base = f * height * row;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const left = x > 0 ? -3 : 0;
        const right = x < width - 1 ? 3 : 0;
        for (let c = 0; c < 3; c++) {
          const at = y * row + 3 * x + c;
          const i = base + at;
          across[at] = (data[i + left]! + 2 * data[i]! + data[i + right]!) / 1020;
        }
      }
    }
    for (let y = 0; y < height; y++) {
      const up = y > 0 ? -row : 0;
      const down = y < height - 1 ? row : 0;
      for (let x = 0; x < row; x++) {
        const i = y * row + x;
        out[base + i] = (across[i + up]! + 2 * across[i]! + across[i + down]!) / 4;
      }
    }
  }
  return out;
}

const dot = (a: Rgb, b: Rgb): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

function quantile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

/** The line through a cloud of colours: its mean, its direction of greatest spread, its extent less 2 % at both ends. */
function fitLine(samples: readonly Rgb[]): BackgroundLine {
  const mean: Rgb = [0, 1, 2].map((c) => samples.reduce((sum, s) => sum + s[c]!, 0) / samples.length) as never;
  const centred = samples.map((s): Rgb => [s[0] - mean[0], s[1] - mean[1], s[2] - mean[2]]);
  const covariance = [0, 1, 2].map((r) =>
    [0, 1, 2].map((c) => centred.reduce((sum, s) => sum + s[r]! * s[c]!, 0) / samples.length),
  );
  let direction: Rgb = [0.577, 0.577, 0.577];
  for (let i = 0; i < 24; i++) {
    const next = covariance.map((row) => dot(row as never, direction)) as unknown as Rgb;
    const length = Math.hypot(...next);
    if (length < 1e-12) break;
    direction = [next[0] / length, next[1] / length, next[2] / length];
  }
  const along = Float32Array.from(centred, (s) => dot(s, direction)).sort();
  const low = quantile(along, 0.02);
  const high = quantile(along, 0.98);
  const at = (low + high) / 2;
  return {
    middle: [mean[0] + at * direction[0], mean[1] + at * direction[1], mean[2] + at * direction[2]],
    direction,
    half: (high - low) / 2,
  };
}

/** Where a colour lies along the line (0 in its middle, ±half at its ends), and how far off the line's stretch it is. */
export function place(r: number, g: number, b: number, line: BackgroundLine): { along: number; off: number } {
  const dr = r - line.middle[0];
  const dg = g - line.middle[1];
  const db = b - line.middle[2];
  const along = dr * line.direction[0] + dg * line.direction[1] + db * line.direction[2];
  const beyond = Math.max(0, Math.abs(along) - line.half);
  const across2 = Math.max(0, dr * dr + dg * dg + db * db - along * along);
  return { along, off: Math.sqrt(across2 + beyond * beyond) };
}

/** An sRGB colour of 0 … 1 as bytes. */
export function bytesOf([r, g, b]: Rgb): Rgb {
  const byte = (value: number) => Math.min(255, Math.max(0, Math.round(255 * value)));
  return [byte(r), byte(g), byte(b)];
}

function learnBackground(
  pixels: Float32Array,
  { width, height, frames }: Clip,
): { background: BackgroundLine; night: boolean } {
  const border = Math.max(1, Math.round(BORDER * height));
  const samples: Rgb[] = [];
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < height; y++) {
      const inner = y >= border && y < height - border;
      for (let x = 0; x < width; x += inner && x === border - 1 ? width - 2 * border + 1 : 1) {
        const i = 3 * ((f * height + y) * width + x);
        samples.push([pixels[i]!, pixels[i + 1]!, pixels[i + 2]!]);
      }
    }
  }
  // The median starts it; what is far from the line so far is the object reaching into the border.
  const median = [0, 1, 2].map((c) => quantile(Float32Array.from(samples, (s) => s[c]!).sort(), 0.5));
  const middle = median as unknown as Rgb;
  const night = labDistance(labOfRgb(...bytesOf(middle)), labOfRgb(...NIGHT)) < NIGHT_TOLERANCE;
  let line: BackgroundLine = { middle, direction: [0.577, 0.577, 0.577], half: 0 };
  if (night) {
    const near = samples.filter((s) => place(...s, line).off < APART_AT_NIGHT);
    return { background: fitLine(near), night };
  }
  for (let i = 0; i < 3; i++) {
    const near = samples.filter((s) => place(...s, line).off < 1.5 * APART);
    if (near.length < samples.length / 4) break;
    line = fitLine(near);
  }
  return { background: line, night };
}

/** The colour that most of what is clearly not background has: sRGB 0 … 1. */
function objectColor(pixels: Float32Array, off: Float32Array): Rgb | undefined {
  const apart = off.filter((distance) => distance > APART).sort();
  if (apart.length === 0) return undefined;
  const clear = 0.8 * quantile(apart, 0.95);
  const picked: number[] = [];
  for (let i = 0; i < off.length; i++) if (off[i]! >= clear) picked.push(i);
  return [0, 1, 2].map((c) => quantile(Float32Array.from(picked, (i) => pixels[3 * i + c]!).sort(), 0.5)) as never;
}

/** The largest connected part of a frame's object pixels (8 neighbours), as flags; undefined where there is none. */
function largestPart(difference: Float32Array, width: number, height: number, level: number): Uint8Array | undefined {
  const labels = new Int32Array(width * height);
  const stack: number[] = [];
  let best = 0;
  let bestSize = 0;
  let label = 0;
  for (let start = 0; start < labels.length; start++) {
    if (labels[start] !== 0 || difference[start]! < level) continue;
    label++;
    let size = 0;
    labels[start] = label;
    stack.push(start);
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      size++;
      const x = at % width;
      const y = (at - x) / width;
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const next = ny * width + nx;
          if (labels[next] !== 0 || difference[next]! < level) continue;
          labels[next] = label;
          stack.push(next);
        }
      }
    }
    if (size <= bestSize) continue;
    best = label;
    bestSize = size;
  }
  if (bestSize < LEAST_AREA * height * height) return undefined;
  return Uint8Array.from(labels, (l) => (l === best ? 1 : 0));
}

/** How much of a pixel counts as the object, 0 … 1, by how far it is on the way to the object's colour. */
export const coverage = (difference: number, edge: Edge = EDGE): number =>
  Math.min(1, Math.max(0, (difference - edge.from) / (edge.to - edge.from)));

function sight(difference: Float32Array, width: number, height: number, edge: Edge): Sighting | undefined {
  const part = largestPart(difference, width, height, edge.from);
  if (!part) return undefined;
  const mask = new Float32Array(part.length);
  let mass = 0;
  let sumX = 0;
  let sumY = 0;
  for (let i = 0; i < part.length; i++) {
    if (!part[i]) continue;
    const soft = coverage(difference[i]!, edge);
    mask[i] = soft;
    mass += soft;
    sumX += soft * ((i % width) + 0.5);
    sumY += soft * (Math.floor(i / width) + 0.5);
  }
  return {
    x: (sumX / mass - width / 2) / height,
    y: (sumY / mass - height / 2) / height,
    area: mass / height ** 2,
    mask,
  };
}

export function segment(clip: Clip): SegmentedClip {
  const { width, height, frames } = clip;
  const pixels = smoothed(clip);
  const { background, night } = learnBackground(pixels, clip);
  const difference = new Float32Array(frames * height * width);
  for (let i = 0; i < difference.length; i++)
    difference[i] = place(pixels[3 * i]!, pixels[3 * i + 1]!, pixels[3 * i + 2]!, background).off;
  const color = objectColor(pixels, difference);
  if (!color)
    return { pixels, background, night, color, difference, sightings: Array.from({ length: frames }, () => undefined) };
  const full = place(...color, background).off;
  for (let i = 0; i < difference.length; i++) difference[i] = difference[i]! / full;
  const edge = night ? EDGE_AT_NIGHT : EDGE;
  const sightings = Array.from({ length: frames }, (_, f) =>
    sight(difference.subarray(f * height * width, (f + 1) * height * width), width, height, edge),
  );
  return { pixels, background, night, color: bytesOf(color), difference, sightings };
}
