// diffusion-pipe's schedules: they count from the end of the warm-up, over as many steps as the whole run has.
// https://github.com/tdrussell/diffusion-pipe/blob/8f83dbf/train.py
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

/** What its cosine ends at, as a rate of its own. */
const END = 1e-6;

const settings = z.strictObject({
  shape: z.enum(["constant", "linear", "cosine"]).default("constant").describe("what follows the warm-up"),
});

export const diffusionPipe: ScheduleRow<typeof settings> = {
  help: `diffusion-pipe's: warm-up from 1/steps, then a shape as long as the whole run; its cosine ends at ${END}`,
  settings,
  rate({ highest, step, steps, warmup }, { shape }) {
    const part = Math.min(1, (step - warmup) / steps);
    if (shape === "constant") return highest;
    if (shape === "linear") return highest * (1 - part);
    return END + ((highest - END) * (1 + Math.cos(Math.PI * part))) / 2;
  },
  warmupRate: ({ highest, step, warmup }) => highest * (1 / warmup + ((1 - 1 / warmup) * step) / warmup),
};
