// A sampler as a row of the table (index.ts): its name, what it is in words, its own settings, and how it is made.
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import type { ScheduleOptions, Scheduler } from "./scheduler.ts";

/** A sampler's own settings as a request or a recipe carries them. */
export type SamplerOptions = Readonly<Record<string, unknown>>;

export interface Sampler<N extends string = string> {
  readonly name: N;
  /** A few words for help texts. */
  readonly help: string;
  /** What it can be told beside steps and shift; each key has a default. */
  readonly options: z.ZodObject;
  /** At its first step. Throws `sampler.options`, `scheduler.options`, `scheduler.too-many-steps`. */
  create(schedule: ScheduleOptions, options?: SamplerOptions): Scheduler;
}

/** Makes a row; `create` is handed its settings checked, the missing ones filled in. */
export function defineSampler<const N extends string, O extends z.ZodObject>(row: {
  name: N;
  help: string;
  options: O;
  create(schedule: ScheduleOptions, options: z.output<O>): Scheduler;
}): Sampler<N> {
  const { name, help, options } = row;
  return {
    name,
    help,
    options,
    create(schedule, given = {}) {
      const parsed = options.safeParse(given);
      if (parsed.success) return row.create(schedule, parsed.data);
      const known = Object.keys(options.shape);
      throw new KinoraError("sampler.options", `the sampler ${name} cannot be set like this`, {
        expected: known.length > 0 ? known.join(", ") : "no settings beside steps and shift",
        actual: z.prettifyError(parsed.error).replaceAll("\n", " "),
      });
    },
  };
}
