// From the picture inside a source to the size it is trained at: which bucket, how far scaled, which window is kept.
import { KinoraError } from "../../base/errors.ts";
import type { Rect } from "../../io/video/conversion.ts";
import { bucketFor, cropFor, floorTo, isSliver, type Size } from "../buckets.ts";
import type { PrepareSettings } from "./settings.ts";

export interface Geometry {
  /** The picture without bars, pixels as shown. */
  content: Rect;
  /** `content` is scaled to this size, which covers the bucket. */
  scaled: Size;
  bucket: Size;
  /** The factor that the target would need; over 1 the source is too small for it. */
  scaleToTarget: number;
}

function nearestInAspect(width: number, height: number, sizes: readonly (readonly [number, number])[]): Size {
  const off = ([w, h]: readonly [number, number]) => Math.abs(Math.log((w * height) / (h * width)));
  const [w, h] = sizes.reduce((best, size) => (off(size) < off(best) ? size : best));
  return { width: w, height: h };
}

/** What is said of a source that `planGeometry` finds no size for. */
export function tooSmall({ width, height }: Size, { sizeMultiple, model }: PrepareSettings): KinoraError {
  const least = `${sizeMultiple}×${sizeMultiple}`;
  return new KinoraError(
    "prepare.too-small",
    `is ${width}×${height} pixels, smaller than the model's step size (${model}: ${least})`,
    {
      hint: "it cannot be used for training",
    },
  );
}

/** Undefined where the picture is smaller than one step of the model on a side. */
export function planGeometry(content: Rect, settings: PrepareSettings): Geometry | undefined {
  const { width, height } = content;
  const { resolution, sizes, sizeMultiple: step, upscale } = settings;
  const target = sizes ? nearestInAspect(width, height, sizes) : bucketFor(width, height, { resolution, step });
  if (!target) return undefined;
  const scaleToTarget = cropFor(width, height, target).scale;
  const own = { width: floorTo(width, step), height: floorTo(height, step) };
  if (own.width === 0 || own.height === 0) return undefined;
  const asked = scaleToTarget <= 1 || upscale ? target : own;
  // A sliver stays as it is, whatever is asked.
  const bucket = isSliver(cropFor(width, height, asked)) ? own : asked;
  return { content, scaled: cropFor(width, height, bucket).scaled, bucket, scaleToTarget };
}

/** How many times larger the source's pixels become. */
export function scaleOf({ content, scaled }: Geometry): number {
  return scaled.width / content.width;
}

/** Where the bucket's window lies in the scaled picture; even, for the chroma of YUV 4:2:0. */
export interface Window {
  left: number;
  top: number;
}

export function centerWindow({ scaled, bucket }: Geometry): Window {
  const even = (room: number) => 2 * Math.floor(room / 4);
  return { left: even(scaled.width - bucket.width), top: even(scaled.height - bucket.height) };
}

/**
 * The window that holds most of `energy`, a grid of non-negative numbers over the picture; near ties go to the middle.
 */
export function busiestWindow(geometry: Geometry, energy: Float64Array, across: number, down: number): Window {
  const { scaled, bucket } = geometry;
  const center = centerWindow(geometry);
  const columns = new Float64Array(across);
  const rows = new Float64Array(down);
  for (let y = 0; y < down; y++)
    for (let x = 0; x < across; x++) {
      const value = energy[y * across + x]!;
      columns[x] = columns[x]! + value;
      rows[y] = rows[y]! + value;
    }
  const best = (sums: Float64Array, side: number, kept: number, middle: number): number => {
    const room = side - kept;
    if (room < 2) return 2 * Math.floor(room / 4);
    const cell = side / sums.length;
    // Energy in [offset, offset + kept), cells on the border by their share.
    const inside = (offset: number) => {
      let sum = 0;
      for (let i = 0; i < sums.length; i++) {
        const overlap = Math.min(offset + kept, (i + 1) * cell) - Math.max(offset, i * cell);
        if (overlap > 0) sum += (sums[i]! * overlap) / cell;
      }
      return sum;
    };
    let [at, most] = [middle, inside(middle) * 1.02];
    for (let offset = 0; offset <= room; offset += 2) {
      const sum = inside(offset);
      if (sum > most) [at, most] = [offset, sum];
    }
    return at;
  };
  return {
    left: best(columns, scaled.width, bucket.width, center.left),
    top: best(rows, scaled.height, bucket.height, center.top),
  };
}

/** The kept window in pixels of the source as shown. */
export function windowInSource({ content, scaled, bucket }: Geometry, { left, top }: Window): Rect {
  const [x, y] = [content.width / scaled.width, content.height / scaled.height];
  const round = (value: number) => Math.round(value * 1000) / 1000;
  return {
    x: round(content.x + left * x),
    y: round(content.y + top * y),
    width: round(bucket.width * x),
    height: round(bucket.height * y),
  };
}
