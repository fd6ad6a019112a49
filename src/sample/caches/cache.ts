// A step cache: which passes of the transformer are answered from what was kept of steps before. It decides and learns from
// numbers; what is kept, and how it answers, is carried out in cached-passes.ts. Knows no model and no device.
import type { z } from "zod";
import { type NamedRow, type RowSettings, settleRow } from "../../base/table.ts";
import type { Pass, Place, RunMemory } from "../guidance/guidance.ts";
import type { CacheSubject } from "./coefficients.ts";

/** One evaluation of the model, before it is made. */
export interface CacheQuestion {
  readonly place: Place;
  readonly passes: readonly Pass[];
  /** The time's embedding or its projection, where the cache looks at one. */
  readonly time?: Float32Array;
}

export interface CacheDecision {
  /** Answered from what was kept. */
  skip: boolean;
  /** What was compared with the threshold; absent where nothing was. */
  value?: number;
}

export interface StepCache {
  /**
   * What is kept of a computed evaluation: what all blocks added to each pass's tokens, each pass's velocity less what the
   * model was shown, or the guided clip less that.
   */
  readonly keeps: "blocks" | "pass" | "guided";
  readonly looksAt?: "embedding" | "projection";
  /** What was kept of the high-noise expert also answers for the low-noise one. */
  readonly acrossExperts?: boolean;
  /** For each pass, or one for all of `guided`. May write into `memory`, under names of its own. */
  decide(question: CacheQuestion, memory: RunMemory): CacheDecision[];
  /** After an evaluation: velocities of the passes that were computed, or the guided clip. */
  learn?(question: CacheQuestion, outputs: readonly (Float32Array | undefined)[], memory: RunMemory): void;
  /** What a computed pass's blocks were given and what they added, [tokens, dim]; for `blocks` only. */
  observe?(
    call: { place: Place; pass: Pass; tokens: Float32Array; residual: Float32Array; dim: number },
    memory: RunMemory,
  ): void;
}

/** Before the names of all that a cache remembers. */
export const CACHE_MEMORY = "cache.";

/** Which passes are told apart. */
export const passName = ({ text, skipBlocks }: Pass): string => (skipBlocks ? `${text}-skip` : text);

/** The entry of what is kept of a pass. */
export const keptOf = (pass: Pass): string => `${CACHE_MEMORY}kept.${passName(pass)}`;

/** A number that a cache remembers. */
export const numberIn = (memory: RunMemory, name: string): number | undefined => memory.get(CACHE_MEMORY + name)?.[0];

export function remember(memory: RunMemory, name: string, value: number | Float32Array): void {
  memory.set(CACHE_MEMORY + name, typeof value === "number" ? Float32Array.of(value) : value);
}

/** A step cache as a row of the table (index.ts). */
export interface CacheRow<N extends string = string> extends NamedRow {
  readonly name: N;
  readonly options: z.ZodObject;
  /** Its settings, checked, the missing ones filled in. Throws `generate.bad-cache`. */
  settle(given: RowSettings): RowSettings;
  /** Throws `generate.bad-cache`, `generate.cache-coefficients`. */
  create(settings: RowSettings, subject: CacheSubject): StepCache;
}

/** Makes a row; `create` is handed its settings checked. */
export function defineCache<const N extends string, O extends z.ZodObject>(row: {
  name: N;
  help: string;
  options: O;
  create(settings: z.output<O>, subject: CacheSubject): StepCache;
}): CacheRow<N> {
  const { name, help, options } = row;
  const settle = (given: RowSettings) => settleRow(row, given, { code: "generate.bad-cache", what: "cache" });
  return { name, help, options, settle, create: (settings, subject) => row.create(settle(settings), subject) };
}

/** mean|a − b| */
export function meanChange(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}

export function meanSize(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += Math.abs(value);
  return sum / values.length;
}
