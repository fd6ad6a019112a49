// What is technically wrong with a generated film, found in its pictures: black or frozen frames, flicker, colours at the end
// of the range, seams. Classical measures, of which those of dataset/prepare are used as they are.
import { flowBetween } from "../dataset/prepare/flow.ts";
import { flicker } from "../dataset/prepare/measures/flicker.ts";
import { type ClipFrame, mean, percentile } from "../dataset/prepare/measures/measure.ts";
import { repeats } from "../dataset/prepare/measures/repeats.ts";
import { type SmallPicture, smallPicture, smallSize, toneOf } from "../dataset/prepare/small.ts";
import { openVideo, type RgbFrame } from "../io/video/read.ts";

export const faultNames = ["black", "frozen", "flicker", "saturated", "seam"] as const;
export type FaultName = (typeof faultNames)[number];

/** A measure of each fault, the larger the worse. */
export type FaultMeasures = Record<FaultName, number>;

/** Beyond these a film has the fault. */
export const faultLimits: Readonly<Record<FaultName, { limit: number; unit: string }>> = {
  black: { limit: 0, unit: "% of frames without light" },
  frozen: { limit: 45, unit: "% of frames that repeat the one before" },
  flicker: { limit: flicker.limit.max!, unit: flicker.unit },
  saturated: { limit: 60, unit: "% of the picture with a channel at the end of its range" },
  seam: { limit: 12, unit: "levels by which a line stands out across all frames" },
};

/** Mean luma below which a frame is black, and change below which it is a repetition, of white. */
const DARK = 0.02;
const STILL = 0.5;

/** Measures a film. Throws `media.*`. */
export async function measureFaults(path: string): Promise<FaultMeasures> {
  const context = { fps: 16, kind: "video", scale: 1 } as const;
  const [flickers, repeated] = [flicker.start(context), repeats.start(context)];
  const changes: number[] = [];
  const saturated: number[] = [];
  const seams = new SeamTally();
  let black = 0;
  let before: SmallPicture | undefined;
  let frames = 0;
  for await (const picture of openVideo(path)) {
    const small = smallOf(picture);
    const tone = toneOf(small);
    const flow = before && flowBetween(before, small);
    const frame: ClipFrame = { small, tone, flow, detail: undefined, marks: undefined };
    flickers.add(frame, frames);
    repeated.add(frame, frames);
    if (flow) changes.push(flow.changes.reduce((most, change) => Math.max(most, change), 0));
    if (tone.mean < DARK && tone.deviation < DARK) black++;
    saturated.push(saturatedShare(picture));
    seams.add(picture);
    before = small;
    frames++;
  }
  // Where nothing moves at all, repetitions cannot be told from rest: the film itself is frozen.
  const still = changes.length > 0 && Math.max(...changes) < STILL;
  return {
    black: (100 * black) / Math.max(1, frames),
    frozen: still ? 100 : (repeated.result() ?? 0),
    flicker: flickers.result() ?? 0,
    saturated: mean(saturated) ?? 0,
    seam: seams.result(),
  };
}

/** % of the pixels that have a channel at 255 while another is at 0: colours that an overdriven LoRA gives. */
function saturatedShare({ data }: RgbFrame): number {
  let count = 0;
  for (let i = 0; i < data.length; i += 3) {
    const [r, g, b] = [data[i]!, data[i + 1]!, data[i + 2]!];
    if (Math.max(r, g, b) >= 253 && Math.min(r, g, b) <= 2) count++;
  }
  return (100 * count) / (data.length / 3);
}

/** The picture at the size of the measures, in limited-range YUV: means where it shrinks, repeated pixels where it grows. */
function smallOf({ data, width, height }: RgbFrame): SmallPicture {
  const size = smallSize(width, height);
  const luma = size.width * size.height;
  const yuv = new Uint8Array((luma * 3) / 2);
  const small = smallPicture(yuv, size.width, size.height);
  fill(small.y, size.width, size.height, (r, g, b) => 16 + (219 / 255) * (0.2126 * r + 0.7152 * g + 0.0722 * b));
  fill(small.u, size.width / 2, size.height / 2, (r, g, b) => 128 + (224 / 255) * (-0.1146 * r - 0.3854 * g + 0.5 * b));
  fill(small.v, size.width / 2, size.height / 2, (r, g, b) => 128 + (224 / 255) * (0.5 * r - 0.4542 * g - 0.0458 * b));
  return small;

  function fill(plane: Uint8Array, across: number, down: number, of: (r: number, g: number, b: number) => number) {
    for (let y = 0; y < down; y++) {
      const top = Math.floor((y * height) / down);
      const bottom = Math.max(top + 1, Math.floor(((y + 1) * height) / down));
      for (let x = 0; x < across; x++) {
        const left = Math.floor((x * width) / across);
        const right = Math.max(left + 1, Math.floor(((x + 1) * width) / across));
        let [r, g, b] = [0, 0, 0];
        for (let row = top; row < bottom; row++) {
          for (let at = 3 * (row * width + left); at < 3 * (row * width + right); at += 3) {
            r += data[at]!;
            g += data[at + 1]!;
            b += data[at + 2]!;
          }
        }
        const count = (bottom - top) * (right - left);
        plane[y * across + x] = Math.round(of(r / count, g / count, b / count));
      }
    }
  }
}

/**
 * Lines at which the picture breaks over its full length and in every frame, as badly blended tiles leave them: the lower
 * quartile of the steps along a row or column, above the steps next to it. An object's edge covers part of a line only, or moves.
 */
class SeamTally {
  readonly #columns: number[][] = [];
  readonly #rows: number[][] = [];

  add({ data, width, height }: RgbFrame): void {
    const green = (x: number, y: number) => data[3 * (y * width + x) + 1]!;
    for (let x = 1; x < width; x++) {
      const steps = Array.from({ length: height }, (_, y) => Math.abs(green(x, y) - green(x - 1, y)));
      push(this.#columns, x, percentile(steps, 0.25)!);
    }
    for (let y = 1; y < height; y++) {
      const steps = Array.from({ length: width }, (_, x) => Math.abs(green(x, y) - green(x, y - 1)));
      push(this.#rows, y, percentile(steps, 0.25)!);
    }
  }

  result(): number {
    return Math.max(standingOut(this.#columns), standingOut(this.#rows));
  }
}

function push(lists: number[][], at: number, value: number): void {
  const list = lists[at];
  if (list) list.push(value);
  else lists[at] = [value];
}

/** The most that a line's step exceeds those near it, in the quarter of frames where it does least. */
function standingOut(lines: readonly (number[] | undefined)[]): number {
  const steps = lines.map((values) => percentile(values ?? [], 0.25) ?? 0);
  return steps.reduce((most, step, i) => {
    const near = [steps[i - 2], steps[i - 1], steps[i + 1], steps[i + 2]].filter((value) => value !== undefined);
    return Math.max(most, step - Math.max(0, ...near));
  }, 0);
}

/** The faults of a film that its counterpart, made without the LoRA, does not have as well. */
export function faultsOf(measures: FaultMeasures, base?: FaultMeasures): FaultName[] {
  return faultNames.filter((name) => {
    const { limit } = faultLimits[name];
    const own = measures[name] > limit;
    return own && !(base && base[name] > limit && measures[name] <= 1.5 * base[name]);
  });
}
