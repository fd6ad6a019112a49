// How a velocity comes from answers of the model: which passes an evaluation takes, and what they come to together.
// A guidance is a value: the run (film-run.ts) makes its passes and knows nothing of what it is.
import type { z } from "zod";
import { type NamedRow, type RowSettings, settleRow } from "../../base/table.ts";

export type TextRole = "positive" | "negative";

/** One pass of the transformer. Plain data, carried out in film-run.ts; none of it costs anything where it is absent. */
export interface Pass {
  readonly text: TextRole;
  /** Blocks of the transformer that are left out. */
  readonly skipBlocks?: readonly number[];
  /** Cross-attention is led away from the text that NAG has for its own, else from the negative one. */
  readonly nag?: { readonly scale: number; readonly tau: number; readonly alpha: number };
  /** Attention between frames is made stronger. */
  readonly enhance?: { readonly weight: number; readonly variant: "wrapper" | "wrapper-new" | "kj" };
}

/** The conditional pass itself, not one with blocks left out. */
export const isConditional = ({ text, skipBlocks }: Pass): boolean => text === "positive" && !skipBlocks;

/** Where in a run the model is asked. */
export interface Place {
  /** From 0. */
  readonly step: number;
  readonly steps: number;
  readonly expert: "high" | "low";
  /** How many of the steps are the high-noise expert's. */
  readonly highSteps: number;
  /** The run's timestep shift. */
  readonly shift: number;
  readonly timestep: number;
  readonly sigma: number;
  /** What the model is shown, without its conditions; not to be changed. [C, F, h, w] */
  readonly sample: Float32Array;
  /** The sample's [C, F, h, w] */
  readonly shape: readonly [channels: number, frames: number, height: number, width: number];
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
  /** It changes another guidance, that of its setting `over` (index.ts), instead of being one by itself. */
  readonly layer: boolean;
  /** Its settings, checked, the missing ones filled in. Throws `generate.bad-guidance`. */
  settle(given: RowSettings): RowSettings;
  /** `base`: what a layer changes. Throws `generate.bad-guidance`. */
  create(settings: RowSettings, base: Guidance): Guidance;
}

interface Definition<N extends string, O extends z.ZodObject> {
  name: N;
  help: string;
  options: O;
}

function makeRow<N extends string, O extends z.ZodObject>(
  { name, help, options }: Definition<N, O>,
  layer: boolean,
  create: (settings: z.output<O>, base: Guidance) => Guidance,
): GuidanceRow<N> {
  const hint = "a plain number is the CFG scale, e.g. 5; 1 disables guidance";
  const settle = (given: RowSettings) =>
    settleRow({ name, options }, given, { code: "generate.bad-guidance", what: "guidance", hint });
  return { name, help, options, layer, settle, create: (settings, base) => create(settle(settings), base) };
}

/** A row that is a guidance by itself. */
export interface BaseGuidanceRow<N extends string = string> extends GuidanceRow<N> {
  create(settings: RowSettings, base?: Guidance): Guidance;
}

/** Makes a row; `create` is handed its settings checked. */
export function defineGuidance<const N extends string, O extends z.ZodObject>(
  row: Definition<N, O> & { create(settings: z.output<O>): Guidance },
): BaseGuidanceRow<N> {
  return makeRow(row, false, (settings) => row.create(settings)) as BaseGuidanceRow<N>;
}

/** Makes a row that changes another guidance; `create` is handed that too. */
export function defineLayer<const N extends string, O extends z.ZodObject>(
  row: Definition<N, O> & { create(settings: z.output<O>, base: Guidance): Guidance },
): GuidanceRow<N> {
  return makeRow(row, true, (settings, base) => row.create(settings, base));
}

/** ComfyUI's percents of a run as noise levels: 0 is all of it, 1 its end. */
export function percentSigma(percent: number, shift: number): number {
  if (percent <= 0) return 1;
  if (percent >= 1) return 0;
  return Math.fround((shift * (1 - percent)) / (1 + (shift - 1) * (1 - percent)));
}
