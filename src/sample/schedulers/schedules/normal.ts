// ComfyUI's `normal` and `sgm_uniform`: evenly spaced in time, which is shifted once more. `normal` ends at the lowest
// level of training, which `sgm_uniform` leaves out.
import { z } from "zod";
import { defineSchedule, evenly, shifted, tableSigma } from "./schedule.ts";

const inTime = (count: number, shift: number): number[] =>
  evenly(1, tableSigma(0, shift), count).map((time) => shifted(time, shift));

export const normal = defineSchedule({
  name: "normal",
  help: "ComfyUI's: evenly spaced in time, down to the lowest training level",
  options: z.strictObject({}),
  sigmas(steps, shift) {
    // Where the lowest level is nothing anyway, it is the end.
    if (shifted(tableSigma(0, shift), shift) < 1e-5) return [...inTime(steps + 1, shift).slice(0, -1), 0];
    return [...inTime(steps, shift), 0];
  },
});

export const sgmUniform = defineSchedule({
  name: "sgm_uniform",
  help: "ComfyUI's: like normal, without the lowest level",
  options: z.strictObject({}),
  sigmas: (steps, shift) => [...inTime(steps + 1, shift).slice(0, -1), 0],
});
