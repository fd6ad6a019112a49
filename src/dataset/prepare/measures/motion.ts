// Amount of motion: how fast things move on average. Too little teaches stills, too much teaches blur and jumps.
import { speedOf } from "../flow.ts";
import { type Measure, mean } from "./measure.ts";

export const motion: Measure = {
  name: "motion",
  title: "Amount of motion",
  unit: "% of the picture's width per second",
  limit: { min: 0.01, max: 60 },
  notice: { min: 0.1, max: 40 },
  low: "almost nothing moves",
  high: "moves too fast",
  filmsOnly: true,
  start({ fps }) {
    const speeds: number[] = [];
    return {
      add({ flow }) {
        if (flow) speeds.push(100 * fps * speedOf(flow));
      },
      result: () => mean(speeds),
    };
  },
};
