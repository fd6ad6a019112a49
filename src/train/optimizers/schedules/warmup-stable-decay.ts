// The highest rate for most of the run, and a fall at its end (Hu et al., arXiv 2404.06395).
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const shapes = ["linear", "cosine", "1-sqrt"] as const;

const settings = z.strictObject({
  decay: z
    .number()
    .min(0)
    .max(1e7)
    .default(0.1)
    .describe("decay steps: a whole number, or a share of all steps (below 1)"),
  min_lr_ratio: z.number().min(0).max(1).default(0).describe("first and final rate as a share of the highest"),
  warmup_type: z.enum(shapes).default("linear").describe("shape of the warm-up"),
  decay_type: z.enum(shapes).default("cosine").describe("shape of the decay"),
  num_cycles: z.number().positive().max(100_000).default(0.5).describe("cosine cycles; 0.5 decays once"),
});

const between = (low: number, part: number): number => Math.max(0, part * (1 - low) + low);

export const warmupStableDecay: ScheduleRow<typeof settings> = {
  help: "constant rate, then decay in the last `decay` steps",
  settings,
  rate({ highest, step, steps, warmup }, { decay, min_lr_ratio, decay_type, num_cycles }) {
    const length = decay < 1 ? Math.floor(decay * steps) : decay;
    const begin = Math.max(warmup, steps - length);
    if (step < begin) return highest;
    if (step >= begin + length) return highest * min_lr_ratio;
    const progress = (step - begin) / Math.max(1, length);
    const parts = {
      linear: 1 - progress,
      cosine: 0.5 * (1 + Math.cos(2 * Math.PI * num_cycles * progress)),
      "1-sqrt": 1 - Math.sqrt(progress),
    };
    return highest * between(min_lr_ratio, parts[decay_type]);
  },
  warmupRate({ highest, step, warmup }, { min_lr_ratio, warmup_type }) {
    const progress = step / Math.max(1, warmup);
    const parts = {
      linear: progress,
      cosine: 0.5 * (1 - Math.cos(Math.PI * progress)),
      "1-sqrt": 1 - Math.sqrt(1 - progress),
    };
    return highest * between(min_lr_ratio, parts[warmup_type]);
  },
};
