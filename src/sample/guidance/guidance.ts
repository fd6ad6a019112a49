// How a velocity comes from answers of the model: which passes an evaluation takes, and what they come to together.
// A guidance is a value: the run (film-run.ts) makes its passes and knows nothing of what it is.
import type { z } from "zod";
import { type NamedRow, type RowSettings, settleRow } from "../../base/table.ts";

export type TextRole = "positive" | "negative";

/** One pass of the transformer. Plain data; what a pass can be told beside its text is carried out in film-run.ts. */
export interface Pass {
  readonly text: TextRole;
}

/** Where in a run the model is asked. */
export interface Place {
  /** From 0. */
  readonly step: number;
  readonly steps: number;
  readonly expert: "high" | "low";
  readonly timestep: number;
  readonly sigma: number;
  /** What the model is shown, without its conditions; not to be changed. [C, F, h, w] */
  readonly sample: Float32Array;
}

/**
 * What a run remembers from step to step beside its sampler's state; it is saved and restored with it. Entries are
 * replaced, never written into. Names begin with that of their owner.
 */
export type RunMemory = Map<string, Float32Array>;

/** How the model's answers with and without the prompt become one velocity. */
export interface Guidance {
  /** True where some step asks for the negative text; else it is never encoded. */
  readonly negative: boolean;
  /** The passes of one evaluation, in their order. */
  passes(place: Place): readonly Pass[];
  /** The velocity that the passes' answers come to; neither they nor `place` are changed. All [C, F, h, w]. */
  combine(answers: readonly Float32Array[], place: Place, memory: RunMemory): Float32Array;
}

/** A kind of guidance as a row of the table (index.ts). */
export interface GuidanceRow<N extends string = string> extends NamedRow {
  readonly name: N;
  readonly options: z.ZodObject;
  /** Its settings, checked, the missing ones filled in. Throws `generate.bad-guidance`. */
  settle(given: RowSettings): RowSettings;
  /** Throws `generate.bad-guidance`. */
  create(settings: RowSettings): Guidance;
}

/** Makes a row; `create` is handed its settings checked. */
export function defineGuidance<const N extends string, O extends z.ZodObject>(row: {
  name: N;
  help: string;
  options: O;
  create(settings: z.output<O>): Guidance;
}): GuidanceRow<N> {
  const hint = "a plain number is the CFG scale, e.g. 5; 1 disables guidance";
  const settle = (given: RowSettings) =>
    settleRow(row, given, { code: "generate.bad-guidance", what: "guidance", hint });
  const { name, help, options } = row;
  return { name, help, options, settle, create: (settings) => row.create(settle(settings)) };
}
