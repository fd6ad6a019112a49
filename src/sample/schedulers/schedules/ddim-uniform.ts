// ComfyUI's `ddim_uniform`: whole strides over the levels of training from below, so that it may have more steps than asked.
import { z } from "zod";
import { defineSchedule, LAST_OF_TABLE, tableSigma } from "./schedule.ts";

export const ddimUniform = defineSchedule({
  name: "ddim_uniform",
  help: "ComfyUI's: whole strides over the training steps; may take a step or two more than requested",
  options: z.strictObject({}),
  sigmas(steps, shift) {
    const vanishing = tableSigma(1, shift) < 1e-5;
    const stride = Math.max(1, Math.floor((LAST_OF_TABLE + 1) / (vanishing ? steps + 1 : steps)));
    const rising = vanishing ? [] : [0];
    for (let k = 1; k <= LAST_OF_TABLE; k += stride) rising.push(tableSigma(k, shift));
    return rising.reverse();
  },
});
