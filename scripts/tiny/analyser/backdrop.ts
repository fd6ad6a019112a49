// What the background shows: its pattern, and how the camera moves over it. Works on its tone, where the object is not.

import { HALO } from "../world/neon.ts";
import type { Clip } from "../world/render.ts";
import type { Camera, Pattern } from "../world/scene.ts";
import { place, type SegmentedClip } from "./segment.ts";

/** One frame of the background: tone along its colour line (sRGB, 0 in the middle), and 1 where it can be seen. */
export interface Backdrop {
  tone: Float32Array;
  seen: Float32Array;
}

/** How far around the object the background is not trusted, in heights. */
const CLEARANCE = 0.04;
/** Pixels that differ this much from the background are not it: a share of the way to the object's colour. */
const UNLIKE = 0.25;

/** Largest value within `radius` pixels along both axes. */
function dilated(mask: Float32Array, width: number, height: number, radius: number): Float32Array {
  const across = new Float32Array(mask.length);
  const out = new Float32Array(mask.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let most = 0;
      for (let k = Math.max(0, x - radius); k <= Math.min(width - 1, x + radius); k++)
        most = Math.max(most, mask[y * width + k]!);
      across[y * width + x] = most;
    }
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let most = 0;
      for (let k = Math.max(0, y - radius); k <= Math.min(height - 1, y + radius); k++)
        most = Math.max(most, across[k * width + x]!);
      out[y * width + x] = most;
    }
  return out;
}

/** The backdrop of every frame. */
export function backdrops(found: SegmentedClip, { width, height, frames }: Clip): Backdrop[] {
  const size = width * height;
  const clearance = Math.max(1, Math.round((found.night ? HALO.reach : CLEARANCE) * height));
  return Array.from({ length: frames }, (_, f) => {
    const object = found.sightings[f]?.mask ?? new Float32Array(size);
    const near = dilated(object, width, height, clearance);
    const tone = new Float32Array(size);
    const seen = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      const p = f * size + i;
      if (near[i]! > 0 || (found.color && found.difference[p]! > UNLIKE)) continue;
      seen[i] = 1;
      const [r, g, b] = found.pixels.subarray(3 * p, 3 * p + 3);
      tone[i] = place(r!, g!, b!, found.background).along;
    }
    return { tone, seen };
  });
}

/**
 * Less spread of tone than this (standard deviation, sRGB 0 … 1) is a plain colour: half of what the faintest pattern of
 * the world has, and more than the ripples of a small autoencoder.
 */
const PLAIN = 0.034;

/** Frames that show less of their background than this share tell nothing of it. */
const LEAST_SEEN = 0.05;

/** The share of the tone's variance that each pattern explains in one frame. */
function explained({ tone, seen }: Backdrop, width: number, height: number) {
  let count = 0;
  let sum = 0;
  let sumY = 0;
  for (let i = 0; i < tone.length; i++) {
    count += seen[i]!;
    sum += seen[i]! * tone[i]!;
    sumY += seen[i]! * Math.floor(i / width);
  }
  const mean = sum / count;
  const meanY = sumY / count;
  const value = tone.map((t, i) => (t - mean) * seen[i]!);
  let variance = 0;
  let withY = 0;
  let varianceY = 0;
  for (let i = 0; i < value.length; i++) {
    const y = (Math.floor(i / width) - meanY) * seen[i]!;
    variance += value[i]! ** 2;
    withY += value[i]! * y;
    varianceY += y * y;
  }
  // The best field of the form columns(x)·rows(y): two rounds of alternating least squares settle it.
  const columns = Float64Array.from({ length: width }, (_, x) => value[Math.floor(height / 2) * width + x]!);
  const rows = new Float64Array(height);
  const solve = (out: Float64Array, other: Float64Array, at: (o: number, k: number) => number): void => {
    for (let o = 0; o < out.length; o++) {
      let top = 0;
      let bottom = 1e-12;
      for (let k = 0; k < other.length; k++) {
        const i = at(o, k);
        top += value[i]! * other[k]!;
        bottom += seen[i]! * other[k]! ** 2;
      }
      out[o] = top / bottom;
    }
  };
  for (let i = 0; i < 6; i++) {
    solve(rows, columns, (y, x) => y * width + x);
    solve(columns, rows, (x, y) => y * width + x);
  }
  let outside = 0;
  for (let i = 0; i < value.length; i++)
    outside += seen[i]! * (value[i]! - columns[i % width]! * rows[Math.floor(i / width)]!) ** 2;
  let striped = 0;
  for (let x = 0; x < width; x++) {
    let columnSum = 0;
    let columnCount = 1e-9;
    for (let y = 0; y < height; y++) {
      columnSum += value[y * width + x]!;
      columnCount += seen[y * width + x]!;
    }
    striped += columnSum ** 2 / columnCount;
  }
  return {
    deviation: Math.sqrt(variance / count),
    gradient: withY ** 2 / Math.max(1e-9, varianceY) / Math.max(1e-12, variance),
    striped: striped / Math.max(1e-12, variance),
    product: 1 - outside / Math.max(1e-12, variance),
  };
}

/** The pattern, and how sure: 0 … 1. */
export function patternOf(
  frames: readonly Backdrop[],
  { width, height }: Clip,
): { value: Pattern; confidence: number } {
  const shares = frames
    .filter(({ seen }) => seen.reduce((sum, s) => sum + s, 0) > LEAST_SEEN * seen.length)
    .map((frame) => explained(frame, width, height));
  if (shares.length === 0) return { value: "plain", confidence: 0 };
  const mean = (key: keyof (typeof shares)[number]) => shares.reduce((sum, s) => sum + s[key], 0) / shares.length;
  const deviation = mean("deviation");
  if (deviation < PLAIN) return { value: "plain", confidence: 1 - deviation / PLAIN };
  if (mean("gradient") > 0.6) return { value: "gradient", confidence: mean("gradient") };
  if (mean("striped") > 0.5) return { value: "striped", confidence: mean("striped") };
  const checkered = mean("product");
  return checkered > 0.4
    ? { value: "checkered", confidence: checkered }
    : { value: "plain", confidence: Math.min(1, PLAIN / deviation) };
}

/** What the camera did up to each frame: it looks at x (heights) and magnifies by zoom, relative to the first frame. */
export interface CameraPath {
  x: number[];
  zoom: number[];
}

/** Blurs the tone with the seen pixels' values only; three running means make nearly a Gaussian. */
function blurred({ tone, seen }: Backdrop, width: number, height: number, radius: number): Backdrop {
  const means = (values: Float32Array): Float32Array => {
    let current = values;
    for (let pass = 0; pass < 4; pass++) {
      const next = new Float32Array(values.length);
      const [outer, inner, outerStep, innerStep] =
        pass % 2 === 0 ? [height, width, width, 1] : [width, height, 1, width];
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          let sum = 0;
          const from = Math.max(0, i - radius);
          const to = Math.min(inner - 1, i + radius);
          for (let k = from; k <= to; k++) sum += current[o * outerStep + k * innerStep]!;
          next[o * outerStep + i * innerStep] = sum / (to - from + 1);
        }
      current = next;
    }
    return current;
  };
  const weight = means(seen);
  const sum = means(tone.map((t, i) => t * seen[i]!));
  // A pixel of whose neighbourhood much is hidden would seem to move with what hides it.
  return { tone: sum.map((s, i) => s / Math.max(weight[i]!, 1e-6)), seen: weight.map((w) => (w > 0.9 ? 1 : 0)) };
}

/** The step of view from one frame to the next: least squares on the change of tone, repeated from where it led. */
function step(before: Backdrop, after: Backdrop, width: number, height: number): { pan: number; zoom: number } {
  let pan = 0;
  let zoom = 0;
  for (let round = 0; round < 4; round++) {
    let xx = 1e-9;
    let xz = 0;
    let zz = 1e-9;
    let xt = 0;
    let zt = 0;
    for (let j = 1; j < height - 1; j++) {
      for (let i = 1; i < width - 1; i++) {
        const at = j * width + i;
        if (!after.seen[at]) continue;
        const x = (i + 0.5 - width / 2) / height;
        const y = (j + 0.5 - height / 2) / height;
        // Where this spot of the later frame was in the earlier one.
        const px = i + (pan - zoom * x) * height;
        const py = j - zoom * y * height;
        const column = Math.floor(px);
        const row = Math.floor(py);
        if (column < 1 || row < 1 || column >= width - 2 || row >= height - 2) continue;
        const p = row * width + column;
        if (!before.seen[p] || !before.seen[p + 1] || !before.seen[p + width] || !before.seen[p + width + 1]) continue;
        const right = px - column;
        const below = py - row;
        const sample = (q: number): number =>
          (before.tone[q]! * (1 - right) + before.tone[q + 1]! * right) * (1 - below) +
          (before.tone[q + width]! * (1 - right) + before.tone[q + width + 1]! * right) * below;
        const slopeX = ((sample(p + 1) - sample(p - 1)) / 2) * height;
        const slopeY = ((sample(p + width) - sample(p - width)) / 2) * height;
        const change = after.tone[at]! - sample(p);
        const byPan = slopeX;
        const byZoom = -(slopeX * x + slopeY * y);
        xx += byPan * byPan;
        xz += byPan * byZoom;
        zz += byZoom * byZoom;
        xt += byPan * change;
        zt += byZoom * change;
      }
    }
    const determinant = xx * zz - xz * xz;
    if (determinant < 1e-12) break;
    pan += (xt * zz - zt * xz) / determinant;
    zoom += (zt * xx - xt * xz) / determinant;
  }
  return { pan, zoom };
}

/** A pan is at least so long (heights), a zoom at least so strong (natural logarithm). Half of what the world shows. */
const LEAST = { pan: 0.13, zoom: 0.16 } as const;

/** The camera's path over a background with marks; on plain ones and gradients a move cannot be seen. */
export function cameraOf(
  frames: readonly Backdrop[],
  pattern: Pattern,
  { width, height }: Clip,
): { value: Camera; confidence: number; path: CameraPath } {
  const still = { x: frames.map(() => 0), zoom: frames.map(() => 1) };
  if (pattern !== "striped" && pattern !== "checkered") return { value: "still", confidence: 1, path: still };
  const soft = frames.map((frame) => blurred(frame, width, height, Math.max(1, Math.round(0.025 * height))));
  const path: CameraPath = { x: [0], zoom: [1] };
  for (let f = 1; f < soft.length; f++) {
    const { pan, zoom } = step(soft[f - 1]!, soft[f]!, width, height);
    const before = path.zoom[f - 1]!;
    path.x.push(path.x[f - 1]! + pan / before);
    path.zoom.push(before * (1 + zoom));
  }
  const pan = path.x.at(-1)!;
  const zoom = Math.log(Math.max(1e-3, path.zoom.at(-1)!));
  const strength = Math.max(Math.abs(pan) / LEAST.pan, Math.abs(zoom) / LEAST.zoom);
  if (strength < 1) return { value: "still", confidence: 1 - strength, path: still };
  const confidence = Math.min(1, strength - 1);
  const value: Camera =
    Math.abs(zoom) / LEAST.zoom > Math.abs(pan) / LEAST.pan
      ? zoom > 0
        ? "zoom-in"
        : "zoom-out"
      : pan > 0
        ? "pan-right"
        : "pan-left";
  return { value, confidence, path };
}
