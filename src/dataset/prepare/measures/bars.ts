// Black bars: where the picture in the frame begins and ends. They are cropped away; they drop nothing.
import type { Rect } from "../../../io/video/conversion.ts";
import type { LumaPlane } from "./measure.ts";

/** Darker than this, and even, is a bar: 8-bit limited range, black is 16. */
const darkest = 26;
const spread = 10;
/** What is thinner than this share of the side is no bar. */
const leastShare = 0.01;

/** True where the line of pixels is all black. Looks at about 160 of them. */
function isBlackLine(data: Uint8Array, start: number, step: number, length: number): boolean {
  const every = Math.max(1, Math.floor(length / 160));
  let [low, high] = [255, 0];
  for (let i = 0; i < length; i += every) {
    const value = data[start + i * step]!;
    if (value > darkest) return false;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high - low <= spread;
}

/** The part of one frame that is not black bars, in its pixels; undefined for a frame that is black all over. */
export function contentOf({ data, width, height, stride }: LumaPlane): Rect | undefined {
  let top = 0;
  while (top < height && isBlackLine(data, top * stride, 1, width)) top++;
  if (top === height) return undefined;
  let bottom = height;
  while (bottom > top && isBlackLine(data, (bottom - 1) * stride, 1, width)) bottom--;
  let left = 0;
  while (left < width && isBlackLine(data, top * stride + left, stride, bottom - top)) left++;
  let right = width;
  while (right > left && isBlackLine(data, top * stride + right - 1, stride, bottom - top)) right--;
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** The smallest rectangle around both. */
export function unionOf(a: Rect | undefined, b: Rect | undefined): Rect | undefined {
  if (!a || !b) return a ?? b;
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}

/** A black strip on one side only is cut where it is no wider than this share: old tape, a bad scan. */
const mostOneSided = 0.04;

/** How much of each end of a side is bar. Bars stand on both ends alike; a dark room stands where it likes. */
function trim(before: number, after: number, side: number): [number, number] {
  const least = Math.max(2, side * leastShare);
  const alike = Math.min(before, after) >= 0.7 * Math.max(before, after) - 4;
  const isBar = (strip: number) => strip >= least && (alike || strip <= mostOneSided * side);
  // A pixel or two more, for the soft edge; even, for the chroma of YUV 4:2:0.
  const cut = (strip: number) => (isBar(strip) ? 2 * Math.ceil((strip + 1) / 2) : 0);
  return [cut(before), cut(after)];
}

/** The picture to keep, given what was seen of it over a clip: bars come off, black that is no bar stays. */
export function settleContent(seen: Rect | undefined, width: number, height: number): Rect {
  if (!seen) return { x: 0, y: 0, width, height };
  const [left, right] = trim(seen.x, width - seen.x - seen.width, width);
  const [top, bottom] = trim(seen.y, height - seen.y - seen.height, height);
  return { x: left, y: top, width: width - left - right, height: height - top - bottom };
}
