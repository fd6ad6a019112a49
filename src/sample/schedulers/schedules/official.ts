// Wan's own schedule: evenly spaced before the shift. UniPC starts a training step lower than the others.
import { z } from "zod";
import { defineSchedule, shifted } from "./schedule.ts";

export const official = defineSchedule({
  name: "official",
  help: "Wan's own, with integer timesteps",
  options: z.strictObject({}),
  sigmas: (steps, shift) => [...officialLevels(1, steps, shift), 0],
});

/** `steps` levels from `start` towards 0, which is left out, in float64. */
export function officialLevels(start: number, steps: number, shift: number): number[] {
  // numpy.linspace's own order of operations: i·step + start.
  const spacing = (0 - start) / steps;
  return Array.from({ length: steps }, (_, i) => shifted(i * spacing + start, shift));
}
