// The samplers: a file and a line here for each. Names, help, request checks and recipes follow from this table.
import { findRow, type RowSettings } from "../../base/table.ts";
import { deis } from "./deis.ts";
import { dpmSolver } from "./dpm-solver.ts";
import { dpmpp2m } from "./dpmpp-2m.ts";
import { dpmpp2sAncestral } from "./dpmpp-2s-ancestral.ts";
import { dpmpp2mSde, dpmpp2mSdeHeun, dpmpp3mSde } from "./dpmpp-multistep-sde.ts";
import { dpmppSde } from "./dpmpp-sde.ts";
import { erSde } from "./er-sde.ts";
import { ddim, euler } from "./euler.ts";
import { eulerAncestral } from "./euler-ancestral.ts";
import { heun } from "./heun.ts";
import { ipndm } from "./ipndm.ts";
import { lcm } from "./lcm.ts";
import { resMultistep, resMultistepAncestral } from "./res-multistep.ts";
import type { Sampler } from "./sampler.ts";
import type { ScheduleOptions, Scheduler } from "./scheduler.ts";
import { uniPc, uniPcBh2 } from "./uni-pc.ts";
import { unipc } from "./unipc.ts";

/** Every sampler, the default first. */
export const samplers = [
  unipc,
  dpmSolver,
  euler,
  eulerAncestral,
  heun,
  dpmpp2m,
  dpmpp2mSde,
  dpmpp2mSdeHeun,
  dpmpp3mSde,
  dpmppSde,
  dpmpp2sAncestral,
  uniPc,
  uniPcBh2,
  deis,
  ipndm,
  ddim,
  lcm,
  resMultistep,
  resMultistepAncestral,
  erSde,
] as const satisfies readonly Sampler[];

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
