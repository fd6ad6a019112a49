// Rex (Chen et al., arXiv 2107.04197), as musubi-tuner computes it: stays high for long and falls late.
// https://github.com/kohya-ss/musubi-tuner/blob/30c658c/src/musubi_tuner/modules/lr_schedulers.py
import { z } from "zod";
import type { SchedulePlace, ScheduleRow } from "./schedule.ts";

const settings = z.strictObject({
  min_lr_ratio: z.number().min(0).max(1).default(0.01).describe("first and final rate as a share of the highest"),
  rex_alpha: z.number().positive().max(1).default(0.1).describe("with rex_beta, how late the rate decays"),
  rex_beta: z.number().min(0).max(1).default(0.9).describe("usually 1 − rex_alpha"),
});

/** The ramp begins at step 1 and ends with the warm-up; what musubi has before it is a wrong value of the fall. */
const ramp = ({ highest, step, warmup }: SchedulePlace, least: number): number =>
  highest * (least + ((1 - least) * Math.max(0, step - 1)) / Math.max(1, warmup - 1));

export const rex: ScheduleRow<typeof settings> = {
  help: "REX: slow decay at first, fast at the end",
  settings,
  rate(place, { min_lr_ratio, rex_alpha, rex_beta }) {
    if (place.warmup > 0 && place.step === place.warmup) return ramp(place, min_lr_ratio);
    const left = Math.max(0, 1 - place.progress);
    return place.highest * (min_lr_ratio + ((1 - min_lr_ratio) * left) / (rex_alpha + rex_beta * left));
  },
  warmupRate: (place, { min_lr_ratio }) => ramp(place, min_lr_ratio),
};
