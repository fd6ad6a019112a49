// A power of what is left of the run; with power 1 a straight line.
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

/** What it ends at, as a rate of its own. */
const END = 1e-7;

const settings = z.strictObject({
  power: z.number().positive().max(1000).default(1).describe("exponent; 1 is linear"),
});

export const polynomial: ScheduleRow<typeof settings> = {
  help: `(1 − progress) to the power \`power\`, down to a rate of ${END}`,
  settings,
  rate: ({ highest, progress, step, steps }, { power }) =>
    step > steps ? END : (highest - END) * (1 - progress) ** power + END,
};
