// ComfyUI's `beta`: quantiles of a beta distribution over the steps of training (arXiv 2407.12173). Steps that fall on
// one level are made once, so that it may have fewer than asked.
import { z } from "zod";
import { betaQuantile } from "../../../base/beta-distribution.ts";
import { roundHalfEven } from "../../../base/round.ts";
import { defineSchedule, LAST_OF_TABLE, tableSigma } from "./schedule.ts";

export const beta = defineSchedule({
  name: "beta",
  help: "ComfyUI's: more steps at both ends; may take fewer than requested",
  options: z.strictObject({
    alpha: z.number().positive().max(50).default(0.6),
    beta: z.number().positive().max(50).default(0.6),
  }),
  sigmas(steps, shift, { alpha, beta: second }) {
    const levels = Array.from({ length: steps }, (_, i) =>
      roundHalfEven(betaQuantile(1 - i / steps, alpha, second) * LAST_OF_TABLE),
    );
    return [...levels.filter((level, i) => level !== levels[i - 1]).map((level) => tableSigma(level, shift)), 0];
  },
});
