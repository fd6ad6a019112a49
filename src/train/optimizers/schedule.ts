// The learning rate over the steps, as a factor of its highest value. The definitions of transformers' schedules:
// https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/optimization.py
import type { ScheduleKind } from "../../protocol/train-config.ts";
import type { TrainSettings } from "../config/settings.ts";

export interface Schedule {
  kind: ScheduleKind;
  /** Steps in which the rate rises from 0. */
  warmup: number;
  /** Steps of the whole run. */
  steps: number;
  cycles: number;
  power: number;
}

/** What `polynomial` ends at, as a rate of its own. */
const POLYNOMIAL_END = 1e-7;

/** The learning rate of a step, counted from 0. */
export function learningRateAt(schedule: Schedule, step: number, highest: number): number {
  const { kind, warmup, steps, cycles, power } = schedule;
  if (step < warmup) return (highest * step) / Math.max(1, warmup);
  const progress = (step - warmup) / Math.max(1, steps - warmup);
  switch (kind) {
    case "constant":
      return highest;
    case "cosine":
      return highest * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    case "cosine_with_restarts":
      return progress >= 1 ? 0 : highest * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * progress) % 1))));
    case "polynomial":
      if (step > steps) return POLYNOMIAL_END;
      return (highest - POLYNOMIAL_END) * (1 - progress) ** power + POLYNOMIAL_END;
  }
}

export function scheduleOf({ schedule }: Pick<TrainSettings, "schedule">, steps: number): Schedule {
  const { warmup, ...rest } = schedule;
  return { ...rest, warmup: "steps" in warmup ? warmup.steps : Math.floor(warmup.share * steps), steps };
}

/** Said where a run ends before its rate has risen; undefined for all others. */
export function warmupWarning({ warmup, steps }: Schedule): string | undefined {
  if (warmup < steps) return undefined;
  return `the learning rate never reaches its highest: its warm-up takes ${warmup} steps, the run ${steps} (schedule.warmup)`;
}
