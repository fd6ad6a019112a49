// The learning rate over the steps: what a row of the table says, and the warm-up that all share.
// Definitions are transformers': https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/optimization.py
import type { z } from "zod";
import type { Choice, ChoiceRow } from "../../choices.ts";

/** A schedule in a run: plain data. */
export interface Schedule extends Choice {
  /** Steps in which the rate rises from 0. */
  warmup: number;
  /** Steps of the whole run. */
  steps: number;
}

export interface SchedulePlace extends Pick<Schedule, "warmup" | "steps"> {
  /** From 0. */
  step: number;
  /** 0 where the warm-up ends, 1 where the run does. */
  progress: number;
  /** The learning rate that was asked for. */
  highest: number;
}

/** A row of the table (index.ts). */
export interface ScheduleRow<S extends z.ZodObject = z.ZodObject> extends ChoiceRow<S> {
  /** The learning rate of a step after the warm-up. */
  rate(place: SchedulePlace, settings: z.infer<S>): number;
  /** That of a step within it; where absent, it rises from 0 in a straight line. */
  warmupRate?(place: SchedulePlace, settings: z.infer<S>): number;
}
