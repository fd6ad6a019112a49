// The table of optimizers: one file and one row each. docs/extending.md shows how to add one.
import type { Choice, ChoiceTable } from "../choices.ts";
import { adamw } from "./adamw.ts";
import { adamw8bit } from "./adamw8bit.ts";
import type { Optimizer, OptimizerContext, OptimizerRow } from "./optimizer.ts";

/** Every optimizer by the name that a configuration gives it. */
export const optimizers: ChoiceTable<OptimizerRow> = { adamw, adamw8bit };

export const createOptimizer = (context: OptimizerContext, { kind, settings }: Choice): Optimizer =>
  optimizers[kind]!.create(context, settings);
