// Repeats: frames that show the one before again, as in films of a lower rate, or where a recording hung.
import { type Measure, percentile } from "./measure.ts";

export const repeats: Measure = {
  name: "repeats",
  title: "Repeated frames",
  unit: "% of the frames",
  limit: { max: 45 },
  notice: { max: 20 },
  high: "frames are repeated, or the picture freezes",
  filmsOnly: true,
  start() {
    const changes: number[] = [];
    return {
      add({ flow }) {
        if (flow) changes.push(flow.changes.reduce((most, change) => Math.max(most, change), 0));
      },
      result() {
        const usual = percentile(changes, 0.9);
        // Nothing moves at all: that is for the amount of motion to say.
        if (usual === undefined || usual < 2) return undefined;
        const same = changes.filter((change) => change < 0.5 && change < 0.12 * usual).length;
        return (100 * same) / changes.length;
      },
    };
  },
};
