// Noise: grain in the flattest parts of the picture at the size the item is trained at.
import { type LumaPlane, type Measure, medianMeasure, percentile } from "./measure.ts";

const side = 8;

/**
 * Standard deviation of the grain in the flattest sixth of the blocks, 8-bit levels.
 * After: Immerkær, "Fast noise variance estimation" (1996), the mask that flat areas and straight edges leave at zero.
 */
function grainOf({ data, width, height, stride }: LumaPlane): number | undefined {
  const sigmas: number[] = [];
  for (let by = 0; by + side + 2 <= height; by += side * 3) {
    for (let bx = 0; bx + side + 2 <= width; bx += side * 2) {
      let sum = 0;
      let light = 0;
      for (let y = by + 1; y <= by + side; y++) {
        const row = y * stride;
        for (let x = bx + 1; x <= bx + side; x++) {
          const at = row + x;
          const up = at - stride;
          const below = at + stride;
          const value =
            data[up - 1]! +
            data[up + 1]! +
            data[below - 1]! +
            data[below + 1]! -
            2 * (data[up]! + data[below]! + data[at - 1]! + data[at + 1]!) +
            4 * data[at]!;
          sum += value < 0 ? -value : value;
          light += data[at]!;
        }
      }
      // Black and white swallow grain.
      const level = light / (side * side);
      if (level < 28 || level > 225) continue;
      sigmas.push((Math.sqrt(Math.PI / 2) * sum) / (6 * side * side));
    }
  }
  return sigmas.length < 20 ? undefined : percentile(sigmas, 0.16);
}

export const noise: Measure = medianMeasure(
  {
    name: "noise",
    title: "Noise",
    unit: "8-bit levels (standard deviation)",
    limit: { max: 5 },
    notice: { max: 4 },
    high: "noisy or grainy",
  },
  ({ detail }) => detail && grainOf(detail.luma),
);

export const colorNoise: Measure = medianMeasure(
  {
    name: "color_noise",
    title: "Color noise",
    unit: "8-bit levels (standard deviation)",
    limit: { max: 4 },
    notice: { max: 2 },
    high: "colors are noisy",
  },
  ({ detail }) => {
    if (!detail?.chroma) return undefined;
    const grains = detail.chroma.flatMap((plane) => grainOf(plane) ?? []);
    return grains.length === 0 ? undefined : Math.max(...grains);
  },
);
