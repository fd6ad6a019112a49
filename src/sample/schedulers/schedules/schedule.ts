// A schedule as a row of the table (index.ts): the noise levels σ at which a sampler asks the model.
import type { z } from "zod";
import { type NamedRow, type RowSettings, settleRow } from "../../../base/table.ts";

export interface ScheduleRow<N extends string = string> extends NamedRow {
  readonly name: N;
  /** What it can be told beside steps and shift; each key has a default. */
  readonly options: z.ZodObject;
  /** A list of its own settles how many steps there are; else undefined. */
  steps(given?: RowSettings): number | undefined;
  /** Its settings, checked, the missing ones filled in. Throws `schedule.options`. */
  settle(given?: RowSettings): RowSettings;
  /** Falling levels, the last one 0. Mostly steps + 1 of them. Throws `schedule.options`. */
  sigmas(steps: number, shift: number, given?: RowSettings): number[];
}

/** Makes a row; its functions are handed its settings checked, the missing ones filled in. */
export function defineSchedule<const N extends string, O extends z.ZodObject>(row: {
  name: N;
  help: string;
  options: O;
  steps?(settings: z.output<O>): number | undefined;
  sigmas(steps: number, shift: number, settings: z.output<O>): number[];
}): ScheduleRow<N> {
  const settle = (given: RowSettings = {}) => settleRow(row, given, { code: "schedule.options", what: "schedule" });
  const { name, help, options } = row;
  return {
    ...{ name, help, options, settle },
    steps: (given) => row.steps?.(settle(given)),
    sigmas: (steps, shift, given) => row.sigmas(steps, shift, settle(given)),
  };
}

/** s·σ / (1 + (s − 1)·σ) */
export const shifted = (sigma: number, shift: number): number => (shift * sigma) / (1 + (shift - 1) * sigma);

/** Steps of training. */
const TABLE = 1000;

/** ComfyUI's table of a flow model: the level of training step k + 1 of 1000. */
export const tableSigma = (k: number, shift: number): number => Math.fround(shifted((k + 1) / TABLE, shift));

export const LAST_OF_TABLE = TABLE - 1;

/** `count` values from `start` to `end`, both included. */
export const evenly = (start: number, end: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (count === 1 ? start : start + ((end - start) * i) / (count - 1)));
