// Cosines that end above 0; two of transformers', which differ in the warm-up and by one step.
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const shape = {
  min_lr_ratio: z.number().min(0).max(1).default(0).describe("final rate as a share of the highest"),
  num_cycles: z.number().positive().max(100_000).default(0.5).describe("cosine cycles; 0.5 decays once"),
};

type Fall = { min_lr_ratio: number; num_cycles: number };

const fall = (progress: number, { min_lr_ratio, num_cycles }: Fall): number =>
  Math.max(0, 0.5 * (1 + Math.cos(2 * Math.PI * num_cycles * progress)) * (1 - min_lr_ratio) + min_lr_ratio);

const settings = z.strictObject(shape);

export const cosineWithMinLr: ScheduleRow<typeof settings> = {
  help: "cosine decay to `min_lr_ratio` of the rate",
  settings,
  rate: ({ highest, progress }, own) => highest * fall(progress, own),
};

const warmed = z.strictObject({
  ...shape,
  warmup_lr_ratio: z.number().min(0).max(1).optional().describe("first rate as a share of the highest"),
});

export const cosineWarmupWithMinLr: ScheduleRow<typeof warmed> = {
  help: "the same with a warm-up that does not start at 0",
  settings: warmed,
  presets: { warmup_lr_ratio: "1/warm-up" },
  rate: ({ highest, step, steps, warmup }, own) =>
    highest * fall((step - warmup + 1) / Math.max(1, steps - warmup), own),
  warmupRate({ highest, step, warmup }, { warmup_lr_ratio: first }) {
    if (first === undefined) return (highest * (step + 1)) / warmup;
    return highest * (first + ((1 - first) * step) / Math.max(1, warmup - 1));
  },
};
