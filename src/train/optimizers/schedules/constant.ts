// The same rate all the time.
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const settings = z.strictObject({});

export const constant: ScheduleRow<typeof settings> = {
  help: "constant learning rate",
  settings,
  rate: ({ highest }) => highest,
};
