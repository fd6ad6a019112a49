// The part of a run in which something acts, as its settings say it.
import { z } from "zod";
import { type Place, percentSigma } from "./guidance.ts";

const percent = z.number().min(0).max(1);

/** Settings of a part of the run; the defaults are those of the original. */
export const rangeSettings = (start: number, end: number, by: "sigma" | "steps" = "sigma") => ({
  start: percent.default(start),
  end: percent.default(end),
  /** `sigma`: percents of the noise, shifted, as ComfyUI's nodes. `steps`: shares of the steps, as the wrapper's. */
  by: z.enum(["sigma", "steps"]).default(by),
});

export interface Range {
  start: number;
  end: number;
  by: "sigma" | "steps";
}

export function within({ start, end, by }: Range, { sigma, step, steps, shift }: Place): boolean {
  if (by === "steps") return step / steps >= start && step / steps <= end;
  return sigma <= percentSigma(start, shift) && sigma >= percentSigma(end, shift);
}
