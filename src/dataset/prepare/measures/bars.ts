// Black bars: where the picture in the frame begins and ends. They are cropped away; they drop nothing.
import type { Rect } from "../../../io/video/conversion.ts";
import type { LumaPlane } from "./measure.ts";

/** Darker than this, and even, may be a bar: 8-bit limited range, black is 16. */
const darkest = 26;
const spread = 10;
/** What is thinner than this share of the side is no bar. */
const leastShare = 0.01;
/** A black strip on one side only is cut where it is no wider than this share: old tape, a bad scan. */
const mostOneSided = 0.04;
/** The share of the line beside a bar that must be lit to prove the bar: a few lights in a black room prove nothing. */
const leastLit = 0.25;

/** What frames showed of the picture between bars, in their pixels. */
export interface Content {
  /** Outside of this everything was black. */
  outer: Rect;
  /** As `outer` where the picture's edge was seen for sure, the whole frame's edge where not. */
  sure: Rect;
}

/** The share of a line of pixels that is not black; 0 for one that may be a bar. Looks at about 160 of them. */
function litShare(data: Uint8Array, start: number, step: number, length: number): number {
  const every = Math.max(1, Math.floor(length / 160));
  let [low, high, lit, count] = [255, 0, 0, 0];
  for (let i = 0; i < length; i += every) {
    const value = data[start + i * step]!;
    if (value > darkest) lit++;
    if (value < low) low = value;
    if (value > high) high = value;
    count++;
  }
  // Dark but uneven is picture.
  return lit === 0 && high - low > spread ? 1 / count : lit / count;
}

/** What one frame shows; undefined for a frame that is black all over. */
export function contentOf({ data, width, height, stride }: LumaPlane): Content | undefined {
  const row = (y: number) => litShare(data, y * stride, 1, width);
  let top = 0;
  while (top < height && row(top) === 0) top++;
  if (top === height) return undefined;
  let bottom = height;
  while (row(bottom - 1) === 0) bottom--;
  const column = (x: number) => litShare(data, top * stride + x, stride, bottom - top);
  let left = 0;
  while (left < width && column(left) === 0) left++;
  let right = width;
  while (right > left && column(right - 1) === 0) right--;
  // A bar's edge may be soft: the line after it counts too.
  const seen = (share: (at: number) => number, at: number, inward: number) =>
    Math.max(share(at), share(at + inward)) >= leastLit;
  const sureLeft = left > 0 && right - left > 1 && seen(column, left, 1) ? left : 0;
  const sureRight = right < width && right - left > 1 && seen(column, right - 1, -1) ? right : width;
  const sureTop = top > 0 && bottom - top > 1 && seen(row, top, 1) ? top : 0;
  const sureBottom = bottom < height && bottom - top > 1 && seen(row, bottom - 1, -1) ? bottom : height;
  return {
    outer: { x: left, y: top, width: right - left, height: bottom - top },
    sure: { x: sureLeft, y: sureTop, width: sureRight - sureLeft, height: sureBottom - sureTop },
  };
}

/** What two frames together show: the larger picture, sure of an edge where the frame that reaches further out is. */
export function contentOfBoth(a: Content | undefined, b: Content | undefined): Content | undefined {
  if (!a || !b) return a ?? b;
  const side = (start: "x" | "y", length: "width" | "height") => {
    const from = Math.min(a.outer[start], b.outer[start]);
    const to = Math.max(a.outer[start] + a.outer[length], b.outer[start] + b.outer[length]);
    const sureFrom = [a, b].some(({ outer, sure }) => outer[start] === from && sure[start] === from) ? from : undefined;
    const end = (rect: Rect) => rect[start] + rect[length];
    const sureTo = [a, b].some(({ outer, sure }) => end(outer) === to && end(sure) === to) ? to : undefined;
    return {
      from,
      to,
      sureFrom: sureFrom ?? Math.min(a.sure[start], b.sure[start]),
      sureTo: sureTo ?? Math.max(end(a.sure), end(b.sure)),
    };
  };
  const [x, y] = [side("x", "width"), side("y", "height")];
  return {
    outer: { x: x.from, y: y.from, width: x.to - x.from, height: y.to - y.from },
    sure: { x: x.sureFrom, y: y.sureFrom, width: x.sureTo - x.sureFrom, height: y.sureTo - y.sureFrom },
  };
}

/** How much of each end of a side is bar. Bars stand on both ends alike; a dark room stands where it likes. */
function trim(before: number, after: number, side: number): [number, number] {
  const least = Math.max(2, side * leastShare);
  const alike = Math.min(before, after) >= 0.7 * Math.max(before, after) - 4;
  const isBar = (strip: number) => strip >= least && (alike || strip <= mostOneSided * side);
  // A pixel or two more, for the soft edge; even, for the chroma of YUV 4:2:0.
  const cut = (strip: number) => (isBar(strip) ? 2 * Math.ceil((strip + 1) / 2) : 0);
  return [cut(before), cut(after)];
}

/**
 * The picture to keep: bars whose edge was seen come off, black that is no bar stays. `taken` is what it was taken to
 * be before: it holds wherever what was seen does not contradict it (a dark scene of a film with bars).
 */
export function settleContent(seen: Content | undefined, width: number, height: number, taken?: Rect): Rect {
  const whole = { x: 0, y: 0, width, height };
  if (!seen) return taken ?? whole;
  const { outer, sure } = seen;
  const [left, right] = trim(sure.x, width - sure.x - sure.width, width);
  const [top, bottom] = trim(sure.y, height - sure.y - sure.height, height);
  const proven = { x: left, y: top, width: width - left - right, height: height - top - bottom };
  if (!taken) return proven;
  const soft = 3;
  const reachesOut =
    outer.x < taken.x - soft ||
    outer.y < taken.y - soft ||
    outer.x + outer.width > taken.x + taken.width + soft ||
    outer.y + outer.height > taken.y + taken.height + soft;
  const provesMore =
    proven.x > taken.x + soft ||
    proven.y > taken.y + soft ||
    proven.x + proven.width < taken.x + taken.width - soft ||
    proven.y + proven.height < taken.y + taken.height - soft;
  return reachesOut || provesMore ? proven : taken;
}
