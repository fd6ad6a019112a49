// The step lists of distilled models (lightx2v, self-forcing): whole steps of training, in the shifted table, so that the
// model is asked about the shifted times. https://github.com/ModelTC/LightX2V/blob/f8aee98/lightx2v/models/schedulers/wan/step_distill
import { z } from "zod";
import { defineSchedule, shifted } from "./schedule.ts";

const list = z
  .array(z.int().min(1).max(1000))
  .min(1)
  .max(1000)
  .refine((steps) => steps.every((step, i) => i === 0 || step < steps[i - 1]!), "decreasing steps");

export const distilled = defineSchedule({
  name: "distilled",
  help: "the step lists of lightx2v's distilled models, 1000, 750, 500, 250 at 4 steps",
  options: z.strictObject({ list: list.optional() }),
  steps: (settings) => settings.list?.length,
  sigmas: (steps, shift, settings) => {
    const every = settings.list ?? Array.from({ length: steps }, (_, i) => Math.round(1000 - (1000 * i) / steps));
    return [...every.map((step) => shifted(step / 1000, shift)), 0];
  },
});
