// Sharpness: how narrow the edges are at the size the item is trained at.
import { steepness } from "./edge-width.ts";
import { type Measure, mean, median } from "./measure.ts";

export const sharpness: Measure = {
  name: "sharpness",
  title: "Sharpness",
  unit: "0–1 (1 − edge width / 9 pixels)",
  limit: { min: 0.25 },
  low: "out of focus, or enlarged from something smaller",
  start() {
    const values: number[] = [];
    return {
      add({ detail }) {
        if (!detail) return;
        const { horizontal, vertical } = steepness(detail);
        const value = mean([horizontal, vertical].filter((part) => part !== undefined));
        if (value !== undefined) values.push(value);
      },
      result: () => median(values),
    };
  },
};
