// Brightness of a clip, and how much it changes from one part to another.
import { type Measure, mean, percentile } from "./measure.ts";

export const brightness: Measure = {
  name: "brightness",
  title: "Brightness",
  unit: "% of white",
  limit: { min: 4, max: 94 },
  low: "too dark",
  high: "too bright",
  start() {
    const means: number[] = [];
    return {
      add: ({ tone }) => void means.push(100 * tone.mean),
      result: () => mean(means),
    };
  },
};

export const brightnessChange: Measure = {
  name: "brightness_change",
  title: "Brightness change inside the clip",
  unit: "% of white between the darkest and brightest parts",
  limit: { max: 30 },
  high: "the exposure changes within the clip",
  filmsOnly: true,
  start() {
    const means: number[] = [];
    return {
      add: ({ tone }) => void means.push(100 * tone.mean),
      result: () => (means.length < 2 ? undefined : percentile(means, 0.95)! - percentile(means, 0.05)!),
    };
  },
};
