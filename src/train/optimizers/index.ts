// The table of optimizers: one file and one row each. docs/extending.md shows how to add one.
import type { Choice, ChoiceTable } from "../choices.ts";
import { adafactor } from "./adafactor.ts";
import { adamw } from "./adamw.ts";
import { adamw8bit } from "./adamw8bit.ts";
import { came } from "./came.ts";
import { lion } from "./lion.ts";
import { muon } from "./muon.ts";
import type { Optimizer, OptimizerContext, OptimizerRow } from "./optimizer.ts";
import { prodigy } from "./prodigy.ts";
import { scheduleFree } from "./schedule-free.ts";

/** Every optimizer by the name that a configuration gives it. */
export const optimizers: ChoiceTable<OptimizerRow> = {
  adamw,
  adamw8bit,
  adafactor,
  lion,
  prodigy,
  came,
  adamw_schedulefree: scheduleFree,
  muon,
};

export const createOptimizer = (context: OptimizerContext, { kind, settings }: Choice): Optimizer =>
  optimizers[kind]!.create(context, settings);
