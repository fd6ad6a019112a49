// Compression: change that keeps to the 8×8 grid of the source's compression, also where a deblocking filter has made
// ramps of the steps. A picture of the world changes as much in the middle of the squares as at their edges.
import { type LumaPlane, type Measure, medianMeasure } from "./measure.ts";

const grid = 8;
/** Larger differences are edges of the picture. */
const mostStep = 10;
/** Differences that a stretch of 16 pixels may add up to: texture and edges hide the grid. */
const mostBusy = 40;
/** Rows and columns looked at. */
const lines = 72;

/** Sums of small differences by position in the grid, along rows or columns; undefined where there are few. */
function changeByPhase({ data, width, height, stride }: LumaPlane, rows: boolean): Float64Array | undefined {
  const sums = new Float64Array(grid);
  const step = rows ? stride : 1;
  const [length, across] = rows ? [height, width] : [width, height];
  const line = rows ? 1 : stride;
  const every = Math.max(1, Math.floor(across / lines));
  const differences = new Uint8Array(2 * grid);
  let taken = 0;
  for (let l = every >> 1; l < across; l += every) {
    for (let from = grid; from + 2 * grid <= length; from += 2 * grid) {
      let busy = 0;
      let at = l * line + from * step;
      let before = data[at - step]!;
      for (let i = 0; i < 2 * grid; i++, at += step) {
        const here = data[at]!;
        const d = here > before ? here - before : before - here;
        differences[i] = d;
        busy += d > mostStep ? mostBusy : d;
        if (busy >= mostBusy) break;
        before = here;
      }
      if (busy === 0 || busy >= mostBusy) continue;
      taken++;
      for (let i = 0; i < 2 * grid; i++) sums[i % grid]! += differences[i]!;
    }
  }
  return taken < 120 ? undefined : sums;
}

/** How unevenly change is spread over the grid, %: 0 for not at all, 100 for all of it on the grid's lines. */
export function compressionOf(plane: LumaPlane): number | undefined {
  const uneven: number[] = [];
  for (const rows of [false, true]) {
    const sums = changeByPhase(plane, rows);
    if (!sums) return undefined;
    const total = sums.reduce((a, b) => a + b, 0);
    // The first harmonic, as a share of the whole: what is centred on the line between two squares counts in full.
    let wave = 0;
    for (let i = 0; i < grid; i++) wave += sums[i]! * Math.cos((2 * Math.PI * i) / grid);
    uneven.push((100 * wave) / total);
  }
  return Math.min(...uneven);
}

export const compression: Measure = medianMeasure(
  {
    name: "compression",
    title: "Compression",
    unit: "% of slight changes that follow the compression grid",
    limit: { max: 12 },
    notice: { max: 10 },
    high: "detail is lost to compression",
  },
  ({ marks }) => marks?.compression,
);
