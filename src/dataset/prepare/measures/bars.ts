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

/** The share of a line that may shine in a bar: ringing of the picture's edge, dust. */
const mostStray = 0.02;

/** The share of a line of pixels that is not black; 0 for one that may be a bar. Looks at about 160 of them. */
function litShare(data: Uint8Array, start: number, step: number, length: number): number {
  const every = Math.max(1, Math.floor(length / 160));
  let [low, high, lit, count] = [255, 0, 0, 0];
  for (let i = 0; i < length; i += every) {
    const value = data[start + i * step]!;
    count++;
    if (value > darkest) {
      lit++;
      continue;
    }
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (lit > mostStray * count) return lit / count;
  // Dark but uneven is picture.
  return high - low > spread ? 1 / count : 0;
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

/** Pixels about which frames may disagree where a bar ends. */
function softness(side: number): number {
  return Math.max(5, 0.01 * side);
}

/** What two frames together show: the larger picture, sure of an edge where one of them saw it about there. */
export function contentOfBoth(a: Content | undefined, b: Content | undefined): Content | undefined {
  if (!a || !b) return a ?? b;
  const [left, right] = edges("x", "width", a, b);
  const [top, bottom] = edges("y", "height", a, b);
  return {
    outer: { x: left.outer, y: top.outer, width: right.outer - left.outer, height: bottom.outer - top.outer },
    sure: { x: left.sure, y: top.sure, width: right.sure - left.sure, height: bottom.sure - top.sure },
  };
}

interface Edge {
  outer: number;
  sure: number;
}

function edges(start: "x" | "y", length: "width" | "height", a: Content, b: Content): [Edge, Edge] {
  const end = (rect: Rect) => rect[start] + rect[length];
  const soft = softness(Math.max(end(a.sure), end(b.sure)));
  const from = Math.min(a.outer[start], b.outer[start]);
  const to = Math.max(end(a.outer), end(b.outer));
  const sawFrom = [a, b].some(({ sure }) => Math.abs(sure[start] - from) <= soft);
  const sawTo = [a, b].some(({ sure }) => Math.abs(end(sure) - to) <= soft);
  return [
    { outer: from, sure: sawFrom ? from : Math.min(a.sure[start], b.sure[start]) },
    { outer: to, sure: sawTo ? to : Math.max(end(a.sure), end(b.sure)) },
  ];
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
  const [across, down] = [softness(width), softness(height)];
  const reachesOut =
    outer.x < taken.x - across ||
    outer.y < taken.y - down ||
    outer.x + outer.width > taken.x + taken.width + across ||
    outer.y + outer.height > taken.y + taken.height + down;
  const provesMore =
    proven.x > taken.x + across ||
    proven.y > taken.y + down ||
    proven.x + proven.width < taken.x + taken.width - across ||
    proven.y + proven.height < taken.y + taken.height - down;
  return reachesOut || provesMore ? proven : taken;
}
