// A straight line down to 0.
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const settings = z.strictObject({});

export const linear: ScheduleRow<typeof settings> = {
  help: "linear decay to 0",
  settings,
  rate: ({ highest, progress }) => highest * Math.max(0, 1 - progress),
};
