// Noise levels as ComfyUI's nodes give them: BasicScheduler's, and those that KSampler makes of them.
import type { ScheduleOptions } from "../scheduler.ts";
import { scheduleOf } from "./index.ts";

/** calculate_sigmas: float32, the last one 0. */
export function comfySigmas({ schedule = "simple", steps, shift, scheduleOptions }: ScheduleOptions): Float32Array {
  return Float32Array.from(scheduleOf(schedule).sigmas(steps, shift, scheduleOptions));
}

/**
 * KSampler's: some samplers take a step more and leave out the second to last level; with `denoise` below 1 only the end
 * of a longer run is made.
 */
export function ksamplerSigmas(
  options: ScheduleOptions,
  { withoutPenultimate = false, denoise = 1 }: { withoutPenultimate?: boolean; denoise?: number },
): Float32Array {
  const { steps } = options;
  const whole = (count: number): Float32Array => {
    if (!withoutPenultimate) return comfySigmas({ ...options, steps: count });
    const longer = comfySigmas({ ...options, steps: count + 1 });
    return longer.filter((_, i) => i !== longer.length - 2);
  };
  return denoise > 0.9999 ? whole(steps) : whole(Math.trunc(steps / denoise)).slice(-(steps + 1));
}
