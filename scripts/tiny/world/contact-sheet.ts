// Pictures for people: several clips in rows, every frame (or every n-th) side by side.
import type { RgbImage } from "../../../src/io/image/read.ts";
import type { Clip } from "./render.ts";

export interface SheetOptions {
  /** At most so many frames of a clip, evenly spaced; 9 by default. */
  columns?: number;
  /** Each pixel becomes a square of so many; 2 by default. */
  magnify?: number;
  /** Pixels between frames; 4 by default. */
  gap?: number;
}

/** The frames shown of a clip: the first, the last and those evenly between. */
function shownFrames(frames: number, columns: number): number[] {
  const count = Math.min(frames, columns);
  return Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.round((i * (frames - 1)) / (count - 1))));
}

/** One row for each clip, on white. */
export function contactSheet(
  clips: readonly Clip[],
  { columns = 9, magnify = 2, gap = 4 }: SheetOptions = {},
): RgbImage {
  const rows = clips.map((clip) => ({ clip, shown: shownFrames(clip.frames, columns) }));
  const rowWidth = (row: (typeof rows)[number]) => row.shown.length * (row.clip.width * magnify + gap) + gap;
  const width = Math.max(...rows.map(rowWidth));
  const height = rows.reduce((sum, { clip }) => sum + clip.height * magnify + gap, gap);
  const data = new Uint8Array(width * height * 3).fill(255);
  let top = gap;
  for (const { clip, shown } of rows) {
    for (const [column, frame] of shown.entries()) {
      const left = gap + column * (clip.width * magnify + gap);
      const source = clip.data.subarray(frame * clip.height * clip.width * 3);
      for (let y = 0; y < clip.height * magnify; y++) {
        for (let x = 0; x < clip.width * magnify; x++) {
          const from = 3 * (Math.floor(y / magnify) * clip.width + Math.floor(x / magnify));
          data.set(source.subarray(from, from + 3), 3 * ((top + y) * width + left + x));
        }
      }
    }
    top += clip.height * magnify + gap;
  }
  return { width, height, data };
}
