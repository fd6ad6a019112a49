// Which size an image or clip is trained at, and which part of it is kept: musubi's bucket rules.
// Not the resampling itself (io does that), and nothing about frames (frames.ts).
// Rules: https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/bucket.py

export interface Size {
  width: number;
  height: number;
}

export interface BucketRules {
  /** [width, height]; its product is the area a bucket's area stays near. */
  resolution: readonly [number, number];
  /** Sides are multiples of this: 16, or 32 for the 5B. */
  step: number;
  /** Never enlarge: what has no more area than `resolution` keeps its own size, floored to the step. */
  noUpscale?: boolean;
  /** False: everything goes to `resolution` itself. Default true. */
  enabled?: boolean;
}

export const floorTo = (value: number, step: number): number => value - (value % step);

const tables = new Map<string, readonly Size[]>();

/**
 * All bucket sizes of an area, in musubi's order (by width, then height): every width from half the
 * square's side to the square's side, in steps, with the tallest height that stays within the area,
 * and its transpose.
 * Where musubi would divide by zero (areas under 32×32) the sizes without a zero side are left.
 */
export function bucketSizes(resolution: readonly [number, number], step: number): readonly Size[] {
  const area = resolution[0] * resolution[1];
  const key = `${area}/${step}`;
  let sizes = tables.get(key);
  if (!sizes) {
    const square = Math.floor(Math.sqrt(area));
    const unique = new Map<string, Size>();
    for (let a = Math.max(step, floorTo(Math.floor(square / 2), step)); a < square + step; a += step) {
      const b = floorTo(Math.floor(area / a), step);
      if (b === 0) continue;
      unique.set(`${a}x${b}`, { width: a, height: b });
      unique.set(`${b}x${a}`, { width: b, height: a });
    }
    sizes = [...unique.values()].sort((p, q) => p.width - q.width || p.height - q.height);
    tables.set(key, sizes);
  }
  return sizes;
}

/**
 * The size a `width`×`height` picture is trained at: the bucket nearest in aspect ratio (the narrower
 * one on a tie). Undefined where the picture, or the resolution, is smaller than one step on a side.
 */
export function bucketFor(width: number, height: number, rules: BucketRules): Size | undefined {
  const { resolution, step, noUpscale = false, enabled = true } = rules;
  const whole = (w: number, h: number): Size | undefined => {
    const size = { width: floorTo(w, step), height: floorTo(h, step) };
    return size.width > 0 && size.height > 0 ? size : undefined;
  };
  if (!enabled) return whole(resolution[0], resolution[1]);
  if (noUpscale && width * height <= resolution[0] * resolution[1]) return whole(width, height);
  const aspect = width / height;
  let best: Size | undefined;
  let bestError = Number.POSITIVE_INFINITY;
  for (const size of bucketSizes(resolution, step)) {
    const error = Math.abs(size.width / size.height - aspect);
    if (error < bestError) {
      best = size;
      bestError = error;
    }
  }
  return best;
}

/** Pixels of a picture on its way to its bucket: only a sliver, enlarged until its short side fits, has more. */
const mostScaled = 2 ** 26;

/** Whether a picture would have to be enlarged beyond all measure before it is cropped. */
export function isSliver({ scaled }: Pick<CropGeometry, "scaled">): boolean {
  return scaled.width * scaled.height > mostScaled;
}

/** How a picture is scaled and cropped to a bucket; pixels. */
export interface CropGeometry {
  /** The picture's size after scaling, before the crop. Both sides cover the bucket. */
  scaled: Size;
  /** Where the bucket lies in the scaled picture (centred, rounded down), in its pixels. */
  left: number;
  top: number;
  /** The bucket. */
  size: Size;
  /** Scale factor; over 1 the picture is enlarged. */
  scale: number;
  /** The part of the source that is kept, in source pixels (fractional). */
  source: { x: number; y: number; width: number; height: number };
  /** Share of the source's area that is cut away, 0 to 1. */
  lost: number;
}

/**
 * Scale to cover the bucket, then crop the centre.
 * https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/dataset/media_utils.py (resize_image_to_bucket)
 */
export function cropFor(width: number, height: number, bucket: Size): CropGeometry {
  const scale = Math.max(bucket.width / width, bucket.height / height);
  const scaled = { width: Math.floor(width * scale + 0.5), height: Math.floor(height * scale + 0.5) };
  const left = Math.floor((scaled.width - bucket.width) / 2);
  const top = Math.floor((scaled.height - bucket.height) / 2);
  const source = {
    x: (left * width) / scaled.width,
    y: (top * height) / scaled.height,
    width: (bucket.width * width) / scaled.width,
    height: (bucket.height * height) / scaled.height,
  };
  const lost = 1 - (source.width * source.height) / (width * height);
  return { scaled, left, top, size: bucket, scale, source, lost };
}
