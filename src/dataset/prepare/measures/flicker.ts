// Flicker: brightness of the whole picture that goes up and down from frame to frame, as under bad lamps.
import type { SmallPicture } from "../small.ts";
import { lumaRange } from "../small.ts";
import { type Measure, mean, median } from "./measure.ts";

const across = 8;
const down = 4;

/** Mean luma of 8×4 cells, % of white. */
function cellsOf({ y, width, height }: SmallPicture): Float64Array {
  const cells = new Float64Array(across * down);
  const [w, h] = [Math.floor(width / across), Math.floor(height / down)];
  // Every second row and column: the mean of a cell needs no more.
  for (let row = 0; row < down * h; row += 2) {
    const line = Math.floor(row / h) * across;
    for (let cell = 0; cell < across; cell++) {
      let sum = 0;
      const from = row * width + cell * w;
      for (let i = from; i < from + w; i += 2) sum += y[i]!;
      cells[line + cell]! += sum;
    }
  }
  const scale = 100 / (Math.ceil(w / 2) * Math.ceil(h / 2) * lumaRange);
  for (let i = 0; i < cells.length; i++) cells[i] = cells[i]! * scale;
  return cells;
}

export const flicker: Measure = {
  name: "flicker",
  title: "Flicker",
  unit: "% of white from frame to frame",
  limit: { max: 0.8 },
  high: "the light flickers",
  filmsOnly: true,
  start() {
    const values: number[] = [];
    let [before, here]: (Float64Array | undefined)[] = [];
    return {
      add({ small }) {
        const next = cellsOf(small);
        if (before && here) {
          // What a cell is off the mean of its neighbours in time. Motion moves some cells, flicker all alike.
          const off = Array.from(next, (value, i) => here![i]! - (before![i]! + value) / 2);
          values.push(Math.abs(median(off)!));
        }
        [before, here] = [here, next];
      },
      result: () => mean(values),
    };
  },
};
