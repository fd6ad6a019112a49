// The table of learning rate schedules, one file and one row each, and the rate of a step.

import type { ChoiceTable } from "../../choices.ts";
import type { TrainSettings } from "../../config/settings.ts";
import { constant } from "./constant.ts";
import { cosine } from "./cosine.ts";
import { cosineWarmupWithMinLr, cosineWithMinLr } from "./cosine-with-min-lr.ts";
import { cosineWithRestarts } from "./cosine-with-restarts.ts";
import { diffusionPipe } from "./diffusion-pipe.ts";
import { inverseSqrt } from "./inverse-sqrt.ts";
import { linear } from "./linear.ts";
import { polynomial } from "./polynomial.ts";
import { rex } from "./rex.ts";
import type { Schedule, ScheduleRow } from "./schedule.ts";
import { warmupStableDecay } from "./warmup-stable-decay.ts";

export const schedules: ChoiceTable<ScheduleRow> = {
  constant,
  linear,
  cosine,
  cosine_with_restarts: cosineWithRestarts,
  cosine_with_min_lr: cosineWithMinLr,
  cosine_warmup_with_min_lr: cosineWarmupWithMinLr,
  polynomial,
  inverse_sqrt: inverseSqrt,
  warmup_stable_decay: warmupStableDecay,
  rex,
  diffusion_pipe: diffusionPipe,
};

/** The learning rate of a step, counted from 0. */
export function learningRateAt({ kind, settings, warmup, steps }: Schedule, step: number, highest: number): number {
  const row = schedules[kind]!;
  const progress = (step - warmup) / Math.max(1, steps - warmup);
  const place = { step, steps, warmup, progress, highest };
  if (step >= warmup) return row.rate(place, settings);
  return row.warmupRate ? row.warmupRate(place, settings) : (highest * step) / Math.max(1, warmup);
}

/** The schedule of a run, its warm-up in steps. */
export function scheduleOf({ schedule }: Pick<TrainSettings, "schedule">, steps: number): Schedule {
  const { warmup, kind, settings } = schedule;
  return { kind, settings, warmup: "steps" in warmup ? warmup.steps : Math.floor(warmup.share * steps), steps };
}

/** Said where a run ends before its rate has risen; undefined for all others. */
export function warmupWarning({ warmup, steps }: Schedule): string | undefined {
  if (warmup < steps) return undefined;
  return `the learning rate never reaches its highest: its warm-up takes ${warmup} steps, the run ${steps} (schedule.warmup)`;
}
