// The levels of samplers that work in the log signal-to-noise ratio, which pure noise has none of: the first level is put
// a ten-thousandth of the run lower. https://github.com/Comfy-Org/ComfyUI/blob/a125cd8/comfy/k_diffusion/sampling.py
import type { ScheduleOptions } from "./scheduler.ts";
import { levelsOf, type NoiseLevels } from "./schedules/index.ts";
import { shifted } from "./schedules/schedule.ts";

/** offset_first_sigma_for_snr's percent_offset. */
const OFFSET = 1e-4;

export function snrLevels(schedule: ScheduleOptions): NoiseLevels {
  return levelsOf(schedule, {
    adjust: ([first, ...rest]) => [
      Math.fround(first!) >= 1 && rest.length > 0 ? shifted(1 - OFFSET, schedule.shift) : first!,
      ...rest,
    ],
  });
}
