// ComfyUI's `simple`: every nth level of training.
import { z } from "zod";
import { defineSchedule, LAST_OF_TABLE, tableSigma } from "./schedule.ts";

export const simple = defineSchedule({
  name: "simple",
  help: "ComfyUI's: evenly spaced training steps",
  options: z.strictObject({}),
  sigmas: (steps, shift) => [
    ...Array.from({ length: steps }, (_, i) =>
      tableSigma(LAST_OF_TABLE - Math.trunc(i * ((LAST_OF_TABLE + 1) / steps)), shift),
    ),
    0,
  ],
});
