// Half a cosine down to 0 (Loshchilov & Hutter, arXiv 1608.03983, without restarts).
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const settings = z.strictObject({});

export const cosine: ScheduleRow<typeof settings> = {
  help: "cosine decay to 0",
  settings,
  rate: ({ highest, progress }) => highest * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress))),
};
