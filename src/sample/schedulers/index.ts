// The samplers: a file and a line here for each. Names, help, request checks and recipes follow from this table.
import { findRow, type RowSettings } from "../../base/table.ts";
import { dpmSolver } from "./dpm-solver.ts";
import { euler } from "./euler.ts";
import type { ScheduleOptions, Scheduler } from "./scheduler.ts";
import { unipc } from "./unipc.ts";

/** Every sampler, the default first. */
export const samplers = [unipc, dpmSolver, euler] as const;

/** The name of a sampler of the table. */
export type SamplerName = (typeof samplers)[number]["name"];

export const samplerNames = samplers.map(({ name }) => name) as [SamplerName, ...SamplerName[]];

/** generate.py's. */
export const DEFAULT_SAMPLER: SamplerName = "unipc";

/** Throws `generate.unknown-sampler` with the nearest name. */
export function samplerOf(name: string): (typeof samplers)[number] {
  return findRow(samplers, name, { code: "generate.unknown-sampler", what: "sampler" });
}

/** A sampler at its first step. Throws as {@link samplerOf} and the row's `create` do. */
export function createScheduler(name: string, schedule: ScheduleOptions, options?: RowSettings): Scheduler {
  return samplerOf(name).create(schedule, options);
}
