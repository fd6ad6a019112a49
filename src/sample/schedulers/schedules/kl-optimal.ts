// ComfyUI's `kl_optimal`: evenly spaced in the arc tangent of the level (Align Your Steps, arXiv 2404.14507).
import { z } from "zod";
import { KinoraError } from "../../../base/errors.ts";
import { defineSchedule, evenly, tableSigma } from "./schedule.ts";

export const klOptimal = defineSchedule({
  name: "kl_optimal",
  help: "ComfyUI's: evenly spaced in the level's arc tangent",
  options: z.strictObject({}),
  sigmas(steps, shift) {
    if (steps < 2) {
      throw new KinoraError("schedule.options", "kl_optimal needs at least two steps", { actual: `${steps}` });
    }
    return [...evenly(Math.atan(1), Math.atan(tableSigma(0, shift)), steps).map(Math.tan), 0];
  },
});
