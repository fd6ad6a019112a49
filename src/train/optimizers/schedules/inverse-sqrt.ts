// Falls with the root of the step, without an end (Vaswani et al., arXiv 1706.03762).
import { z } from "zod";
import type { ScheduleRow } from "./schedule.ts";

/** Where neither a warm-up nor a scale is given, as transformers has it. */
const SCALE = 10_000;

const settings = z.strictObject({
  timescale: z.int().min(1).max(1e7).optional().describe("time scale of the decay in steps"),
});

export const inverseSqrt: ScheduleRow<typeof settings> = {
  help: "decay with 1/√step; independent of the run's length",
  settings,
  presets: { timescale: `the warm-up, or ${SCALE}` },
  rate({ highest, step, warmup }, { timescale = warmup || SCALE }) {
    return highest / Math.sqrt((step + timescale - warmup) / timescale);
  },
};
