// Noise levels given one by one, as ComfyUI's ManualSigmas.
import { z } from "zod";
import { defineSchedule } from "./schedule.ts";

const levels = z
  .array(z.number().min(0).max(1))
  .min(2)
  .max(10_001)
  .refine((sigmas) => sigmas.at(-1) === 0, "0 at the end");

export const manual = defineSchedule({
  name: "manual",
  help: "the given noise levels, from 1 to 0",
  options: z.strictObject({ sigmas: levels.default([1, 0]) }),
  steps: ({ sigmas }) => sigmas.length - 1,
  sigmas: (_steps, _shift, { sigmas }) => sigmas,
});
