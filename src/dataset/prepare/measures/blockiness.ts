// Blockiness: steps on the 8×8 grid that strong compression leaves in the source.
import { type LumaPlane, type Measure, median, medianMeasure } from "./measure.ts";

const grid = 8;

/** Sums of what a step adds to the slope around it, by position in the grid, along rows or columns. */
function stepsByPhase({ data, width, height, stride }: LumaPlane, rows: boolean): number[] {
  const sums = new Array<number>(grid).fill(0);
  const step = rows ? stride : 1;
  const [length, lines] = rows ? [height, width] : [width, height];
  const line = rows ? 1 : stride;
  const every = Math.max(1, Math.floor(lines / 50));
  let count = 0;
  for (let l = 0; l < lines; l += every) {
    count++;
    for (let i = 2; i < length - 2; i++) {
      const at = l * line + i * step;
      const here = Math.abs(data[at]! - data[at - step]!);
      const around = (Math.abs(data[at - step]! - data[at - 2 * step]!) + Math.abs(data[at + step]! - data[at]!)) / 2;
      // An edge of the picture is no block edge; those are low.
      if (here < 24) sums[i % grid]! += here - around;
    }
  }
  const places = (count * (length - 4)) / grid;
  return sums.map((sum) => sum / places);
}

/**
 * How much the steps on the worst phase of the grid stand above those on the others, 8-bit levels:
 * 0 for none. Measured at the source's own size, where the grid is.
 */
export function blockinessOf(plane: LumaPlane): number {
  const stands = [false, true].map((rows) => {
    const phases = stepsByPhase(plane, rows);
    const sorted = [...phases].sort((a, b) => a - b);
    return Math.max(0, sorted.at(-1)! - median(sorted)!);
  });
  // Both directions: a picture's own pattern may repeat every 8 pixels in one of them.
  return Math.min(...stands);
}

export const blockiness: Measure = medianMeasure(
  {
    name: "blockiness",
    title: "Compression blocks",
    unit: "8-bit levels, edge strength on the 8×8 grid",
    limit: { max: 0.7 },
    notice: { max: 0.5 },
    high: "visible compression blocks",
  },
  ({ marks }) => marks?.blockiness,
);
