// Half a cosine down to 0, several times (Loshchilov & Hutter, arXiv 1608.03983).
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

const settings = z.strictObject({
  cycles: z.int().min(1).max(100_000).default(1).describe("number of cycles"),
});

export const cosineWithRestarts: ScheduleRow<typeof settings> = {
  help: "cosine decay to 0, restarted `cycles` times",
  settings,
  rate: ({ highest, progress }, { cycles }) =>
    progress >= 1 ? 0 : highest * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * progress) % 1)))),
};
