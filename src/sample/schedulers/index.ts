// The samplers by name.
import { DpmSolverScheduler } from "./dpm-solver.ts";
import { EulerScheduler } from "./euler.ts";
import type { Scheduler, SchedulerKind, SchedulerOptions } from "./scheduler.ts";
import { UniPcScheduler } from "./unipc.ts";

export type { Scheduler, SchedulerKind, SchedulerOptions, SchedulerState } from "./scheduler.ts";

const makers = {
  unipc: (options) => new UniPcScheduler(options),
  "dpm++": (options) => new DpmSolverScheduler(options),
  euler: (options) => new EulerScheduler(options),
} satisfies Record<SchedulerKind, (options: SchedulerOptions) => Scheduler>;

export const schedulerKinds = Object.keys(makers) as readonly SchedulerKind[];

/** A sampler at its first step. Throws `scheduler.options` or `scheduler.too-many-steps`. */
export function createScheduler(kind: SchedulerKind, options: SchedulerOptions): Scheduler {
  return makers[kind](options);
}
