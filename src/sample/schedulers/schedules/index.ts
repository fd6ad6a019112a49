// The schedules: a file and a line here for each. Names, help, request checks and recipes follow from this table.
import { KinoraError } from "../../../base/errors.ts";
import { findRow } from "../../../base/table.ts";
import { MAX_STEPS, TRAIN_TIMESTEPS } from "../noise-levels.ts";
import type { ScheduleOptions } from "../scheduler.ts";
import { beta } from "./beta.ts";
import { ddimUniform } from "./ddim-uniform.ts";
import { diffusers } from "./diffusers.ts";
import { distilled } from "./distilled.ts";
import { klOptimal } from "./kl-optimal.ts";
import { linearQuadratic } from "./linear-quadratic.ts";
import { manual } from "./manual.ts";
import { normal, sgmUniform } from "./normal.ts";
import { official, officialLevels } from "./official.ts";
import type { ScheduleRow } from "./schedule.ts";
import { simple } from "./simple.ts";

export const schedules = [
  official,
  simple,
  normal,
  sgmUniform,
  beta,
  ddimUniform,
  linearQuadratic,
  klOptimal,
  distilled,
  diffusers,
  manual,
] as const satisfies readonly ScheduleRow[];

export type ScheduleName = (typeof schedules)[number]["name"];

export const scheduleNames = schedules.map(({ name }) => name) as [ScheduleName, ...ScheduleName[]];

/** Throws `generate.unknown-schedule` with the nearest name. */
export function scheduleOf(name: string): (typeof schedules)[number] {
  return findRow(schedules, name, { code: "generate.unknown-schedule", what: "schedule" });
}

/** Where a sampler asks the model. */
export interface NoiseLevels {
  /** Falling, the last one 0. [steps + 1] */
  sigmas: Float32Array;
  /** 0…1000, as the model is told them. [steps] */
  timesteps: readonly number[];
}

/** What a sampler takes otherwise than most. */
export interface LevelsOptions {
  /** Where the official schedule starts. */
  start?: number;
  /** ComfyUI's KSampler makes a step more and leaves out the second to last level. */
  withoutPenultimate?: boolean;
  /** Before the levels are rounded; the model is told these. */
  adjust?: (sigmas: number[]) => number[];
}

/** The noise levels of a sampler's run. Throws `scheduler.options`, `scheduler.too-many-steps`, `schedule.options`. */
export function levelsOf(options: ScheduleOptions, special: LevelsOptions = {}): NoiseLevels {
  const { steps, shift, schedule: name = official.name, scheduleOptions } = options;
  checkSteps(steps, shift);
  const row = scheduleOf(name);
  row.settle(scheduleOptions);
  const listed = row.steps(scheduleOptions);
  if (listed !== undefined && listed !== steps) {
    throw new KinoraError("scheduler.options", `the list of ${name} has another number of steps`, {
      expected: `${listed}`,
      actual: `${steps}`,
      hint: "leave out the number of steps",
    });
  }
  const { start = 1, withoutPenultimate = false, adjust = (sigmas) => sigmas } = special;
  const extra = withoutPenultimate && listed === undefined;
  const count = extra ? steps + 1 : steps;
  const whole = row.name === official.name;
  const made = whole ? [...officialLevels(start, count, shift), 0] : row.sigmas(count, shift, scheduleOptions);
  const levels = adjust(extra ? made.filter((_, i) => i !== made.length - 2) : made);
  const sigmas = Float32Array.from(levels);
  for (let i = 0; i + 1 < sigmas.length; i++) {
    if (sigmas[i]! > sigmas[i + 1]!) continue;
    throw new KinoraError("scheduler.too-many-steps", "adjacent noise levels coincide in float32", {
      actual: `${steps} steps at shift ${shift}${whole ? "" : ` of ${name}`}`,
      hint: "use fewer steps or a smaller shift",
    });
  }
  // Wan's own are whole, by truncation of the float64 levels; the levels themselves are rounded to float32 afterwards.
  const timesteps = whole
    ? levels.slice(0, -1).map((sigma) => Math.trunc(sigma * TRAIN_TIMESTEPS))
    : Array.from(sigmas.subarray(0, -1), flowTime);
  return { sigmas, timesteps };
}

/** The time of a level as ComfyUI and diffusers tell it the model: not whole. */
export const flowTime = (sigma: number): number => Math.fround(Math.fround(sigma) * TRAIN_TIMESTEPS);

function checkSteps(steps: number, shift: number): void {
  if (Number.isInteger(steps) && steps >= 1 && steps <= MAX_STEPS && Number.isFinite(shift) && shift > 0) return;
  throw new KinoraError("scheduler.options", "these sampler settings give no valid schedule", {
    expected: `1 to ${MAX_STEPS} steps and a positive shift`,
    actual: `${steps} steps, shift ${shift}`,
    hint: "20 to 50 steps and a shift of 3 to 12 are usual",
  });
}
