// Choices by name, as requests and recipes carry them, made into the values that a run of one film works with.

import type { RowSettings } from "../base/table.ts";
import type { StepCache } from "./caches/cache.ts";
import type { FilmSettings } from "./film-run.ts";
import { createGuidance, type GuidanceChoice } from "./guidance/index.ts";
import { parseNoise } from "./noise/index.ts";
import { createScheduler } from "./schedulers/index.ts";
import type { ScheduleOptions } from "./schedulers/scheduler.ts";

export interface SamplingChoices {
  sampler: string;
  samplerOptions?: RowSettings | undefined;
  schedule?: string | undefined;
  scheduleOptions?: RowSettings | undefined;
  steps: number;
  shift: number;
  noise: string;
  seed: bigint;
  guidance: { low: GuidanceChoice; high: GuidanceChoice };
  boundary?: number | undefined;
  cache?: StepCache | undefined;
}

/** Throws what each table throws for names and settings that it does not know. */
export function filmSettings(choices: SamplingChoices): FilmSettings {
  const { sampler, samplerOptions, steps, shift, schedule, scheduleOptions } = choices;
  const { noise, seed, guidance, boundary, cache } = choices;
  return {
    scheduler: createScheduler(sampler, { steps, shift, schedule, scheduleOptions }, samplerOptions),
    noise: parseNoise(noise),
    seed,
    guidance: { low: createGuidance(guidance.low), high: createGuidance(guidance.high) },
    boundary,
    cache,
  };
}

/** The steps of a run: some schedules make fewer or more of those asked for. */
export function runSteps(choices: Pick<SamplingChoices, "sampler" | "samplerOptions" | keyof ScheduleOptions>): number {
  const { sampler, samplerOptions, steps, shift, schedule, scheduleOptions } = choices;
  return createScheduler(sampler, { steps, shift, schedule, scheduleOptions }, samplerOptions).timesteps.length;
}
