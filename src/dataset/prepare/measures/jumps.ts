// Jumps: everything that moves goes much further from one frame to the next than before and after, as where frames were dropped.
import type { Measure } from "./measure.ts";

const reach = 2;
/** Levels a block must change by, as a rule, to be one that moves. */
const leastChange = 0.6;
/** How many times as much it must change in a jump. */
const leastRatio = 1.4;
/** Of the blocks that move, how many must jump together. */
const leastTogether = 0.5;
const leastBlocks = 5;

export const jumps: Measure = {
  name: "jumps",
  title: "Jumps",
  unit: "a second",
  limit: { max: 2.5 },
  notice: { max: 0.9 },
  high: "frames are missing",
  filmsOnly: true,
  start({ fps }) {
    const frames: Float32Array[] = [];
    return {
      add({ flow }) {
        if (flow) frames.push(flow.changes);
      },
      result() {
        if (frames.length < 2 * reach + 1) return undefined;
        let found = 0;
        for (let t = 1; t < frames.length - 1; t++) {
          const around = frames.slice(Math.max(0, t - reach), t + reach + 1).filter((frame) => frame !== frames[t]);
          let [moving, jumping] = [0, 0];
          for (const [block, change] of frames[t]!.entries()) {
            if (change < 0) continue;
            // The most of them: films of other rates go by turns of one frame and two.
            let usual = 0;
            for (const frame of around) usual = Math.max(usual, frame[block]!);
            if (usual < leastChange) continue;
            moving++;
            if (change > leastRatio * usual) jumping++;
          }
          if (moving >= leastBlocks && jumping >= leastTogether * moving) found++;
        }
        return (fps * found) / frames.length;
      },
    };
  },
};
