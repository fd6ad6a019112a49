// Camera shake: how far the picture as a whole jumps about its own smooth path.
import type { Measure } from "./measure.ts";

export const shake: Measure = {
  name: "shake",
  title: "Camera shake",
  unit: "% of the picture's width",
  limit: { max: 1.2 },
  notice: { max: 1 },
  high: "the camera shakes",
  filmsOnly: true,
  start({ fps }) {
    const xs: number[] = [0];
    const ys: number[] = [0];
    let width = 1;
    return {
      add({ flow, small }) {
        if (!flow) return;
        width = small.width;
        xs.push(xs.at(-1)! + flow.globalX);
        ys.push(ys.at(-1)! + flow.globalY);
      },
      result() {
        const reach = Math.max(2, Math.round(fps / 4));
        if (xs.length < 2 * reach + 1) return undefined;
        // The path less its mean over half a second: pans and drifts stay out, jitter stays in.
        let squares = 0;
        let count = 0;
        for (let t = reach; t < xs.length - reach; t++) {
          let [x, y] = [0, 0];
          for (let i = t - reach; i <= t + reach; i++) {
            x += xs[i]!;
            y += ys[i]!;
          }
          const span = 2 * reach + 1;
          squares += (xs[t]! - x / span) ** 2 + (ys[t]! - y / span) ** 2;
          count++;
        }
        return (100 * Math.sqrt(squares / count)) / width;
      },
    };
  },
};
