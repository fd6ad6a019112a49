// The small copy of every frame that scenes and most measures are judged on: about 160×90, luma and chroma.

/** Limited-range YUV 4:2:0, planes without padding. Sides are multiples of 8. */
export interface SmallPicture {
  width: number;
  height: number;
  /** [height, width] */
  y: Uint8Array;
  /** [height / 2, width / 2] */
  u: Uint8Array;
  v: Uint8Array;
}

const area = 160 * 88;

/** The small size for pictures of this aspect: sides multiples of 8, about 14,000 pixels. */
export function smallSize(width: number, height: number): { width: number; height: number } {
  const toEights = (value: number) => Math.max(16, Math.min(640, Math.round(value / 8) * 8));
  const w = toEights(Math.sqrt((area * width) / height));
  return { width: w, height: toEights(area / w) };
}

/** Splits a packed YUV 4:2:0 buffer into planes (views, no copy). */
export function smallPicture(packed: Uint8Array, width: number, height: number): SmallPicture {
  const luma = width * height;
  return {
    width,
    height,
    y: packed.subarray(0, luma),
    u: packed.subarray(luma, luma + luma / 4),
    v: packed.subarray(luma + luma / 4, luma + luma / 2),
  };
}

export interface Tone {
  /** Mean luma, 0 black to 1 white. */
  mean: number;
  /** Standard deviation of luma on the same scale. */
  deviation: number;
  /** Mean chroma, 8-bit levels from grey. */
  u: number;
  v: number;
}

/** Black is 16 and white 235 in limited range. */
export const lumaRange = 219;

export function meanOf(plane: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < plane.length; i++) sum += plane[i]!;
  return sum / plane.length;
}

export function toneOf({ y, u, v }: SmallPicture): Tone {
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < y.length; i++) {
    const value = y[i]!;
    sum += value;
    squares += value * value;
  }
  const mean = sum / y.length;
  const deviation = Math.sqrt(Math.max(0, squares / y.length - mean * mean));
  return {
    mean: Math.max(0, mean - 16) / lumaRange,
    deviation: deviation / lumaRange,
    u: meanOf(u) - 128,
    v: meanOf(v) - 128,
  };
}

/** Mean absolute difference of luma between two small pictures, in 8-bit levels; every second pixel of every row. */
export function difference(a: SmallPicture, b: SmallPicture): number {
  let sum = 0;
  for (let i = 0; i < a.y.length; i += 2) sum += Math.abs(a.y[i]! - b.y[i]!);
  return (2 * sum) / a.y.length;
}
