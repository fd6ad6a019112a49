// A sampler as a row of the table (index.ts): its name, what it is in words, its own settings, and how it is made.
import type { z } from "zod";
import { type NamedRow, type RowSettings, settleRow } from "../../base/table.ts";
import type { ScheduleOptions, Scheduler } from "./scheduler.ts";

/** A sampler as a row of the table. */
export interface Sampler<N extends string = string> extends NamedRow {
  readonly name: N;
  /** What it can be told beside steps and shift; each key has a default. */
  readonly options: z.ZodObject;
  /** Its settings, checked, the missing ones filled in. Throws `sampler.options`. */
  settle(given?: RowSettings): RowSettings;
  /** At its first step. Throws `sampler.options`, `scheduler.options`, `scheduler.too-many-steps`. */
  create(schedule: ScheduleOptions, options?: RowSettings): Scheduler;
}

/** Makes a row; `create` is handed its settings checked, the missing ones filled in. */
export function defineSampler<const N extends string, O extends z.ZodObject>(row: {
  name: N;
  help: string;
  options: O;
  create(schedule: ScheduleOptions, options: z.output<O>): Scheduler;
}): Sampler<N> {
  const settle = (given: RowSettings = {}) => settleRow(row, given, { code: "sampler.options", what: "sampler" });
  const { name, help, options } = row;
  return { name, help, options, settle, create: (schedule, given) => row.create(schedule, settle(given)) };
}
