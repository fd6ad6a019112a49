// Combing: rows that belong to two moments, as interlaced video has them that was taken for progressive.
import { type LumaPlane, type Measure, mean } from "./measure.ts";

/** Levels by which every other row must stand off its neighbours. */
const least = 10;

/** Whether five rows go to and fro at a place, and two beside each of its sides with it: +1 lighter, -1 darker, 0 not. */
function combAt(data: Uint8Array, at: number, stride: number): -1 | 0 | 1 {
  const here = data[at]!;
  const up = here - data[at - stride]!;
  const down = here - data[at + stride]!;
  const sign = up > least && down > least ? 1 : up < -least && down < -least ? -1 : 0;
  if (sign === 0) return 0;
  const smooth =
    Math.abs(data[at - stride]! - data[at + stride]!) +
    Math.abs(here - data[at - 2 * stride]!) +
    Math.abs(here - data[at + 2 * stride]!);
  return smooth < 1.2 * Math.min(Math.abs(up), Math.abs(down)) ? sign : 0;
}

/** Places where rows go to and fro, % of all looked at. */
export function combingOf({ data, width, height, stride }: LumaPlane): number {
  let combs = 0;
  let places = 0;
  const every = Math.max(1, Math.floor(width / 320));
  for (let y = 2; y < height - 2; y += 3) {
    const row = y * stride;
    for (let x = 2; x < width - 2; x += every) {
      places++;
      const at = row + x;
      const sign = combAt(data, at, stride);
      // The teeth of a comb are lines; fine texture has none.
      if (sign !== 0 && combAt(data, at - 2, stride) === sign && combAt(data, at + 2, stride) === sign) combs++;
    }
  }
  return (100 * combs) / places;
}

export const combing: Measure = {
  name: "combing",
  title: "Interlacing",
  unit: "% of the picture where rows alternate",
  limit: { max: 0.4 },
  notice: { max: 0.25 },
  high: "interlacing: rows of two moments are mixed",
  start() {
    const values: number[] = [];
    return {
      add({ marks }) {
        if (marks) values.push(marks.combing);
      },
      // Combs show where something moves.
      result: () => mean(values),
    };
  },
};
