// ComfyUI's `linear_quadratic`, Mochi's: half of the steps for the first traces of the clip, the rest ever larger. It
// knows no shift. https://github.com/genmoai/models/blob/main/src/mochi_preview/infer.py
import { z } from "zod";
import { defineSchedule } from "./schedule.ts";

export const linearQuadratic = defineSchedule({
  name: "linear_quadratic",
  help: "Mochi's: half of the steps near pure noise; without shift",
  options: z.strictObject({ threshold_noise: z.number().positive().max(0.5).default(0.025) }),
  sigmas(steps, _shift, { threshold_noise: threshold }) {
    if (steps === 1) return [1, 0];
    const linear = Math.floor(steps / 2);
    const quadratic = steps - linear;
    const difference = linear - threshold * steps;
    const square = difference / (linear * quadratic ** 2);
    const slope = threshold / linear - (2 * difference) / quadratic ** 2;
    const fallen = (i: number) =>
      i < linear ? (i * threshold) / linear : square * i ** 2 + slope * i + square * linear ** 2;
    return [...Array.from({ length: steps }, (_, i) => 1 - fallen(i)), 0];
  },
});
