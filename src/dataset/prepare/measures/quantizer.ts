// Quantizer: how coarsely the source's encoder rounded detail, told by its stream. It sees what a deblocking filter hides,
// and nothing of what was lost before the last encoding: compression.ts and blockiness.ts look for that.
import { type Measure, medianMeasure } from "./measure.ts";

export const quantizer: Measure = medianMeasure(
  {
    name: "quantizer",
    title: "Quantizer",
    unit: "H.264 quantiser, 0–51, minus 6 each time the picture is halved",
    limit: { max: 39 },
    notice: { max: 35 },
    high: "detail is lost to strong compression",
  },
  // Four pixels made one bring the error down by half, as would 6 less.
  ({ marks }, { scale }) =>
    marks?.quantizer === undefined ? undefined : marks.quantizer + 6 * Math.log2(Math.min(1, scale)),
);
