// What is many is a table: optimizers, schedules, time samplings, losses. A row has a line of help and a zod shape of the
// settings that it alone has, with their defaults and words; the configuration, --explain and the docs derive from it.
import type { z } from "zod";

export interface ChoiceRow<S extends z.ZodObject = z.ZodObject> {
  /** In a line. */
  readonly help: string;
  /** By the configuration's own keys, each with `.default()` (unless `defaults` has it) and `.describe()`. */
  readonly settings: S;
  /** In words, defaults that the shape does not have; else they are the model's own. */
  readonly presets?: Readonly<Record<string, string>>;
}

export type ChoiceTable<R extends ChoiceRow = ChoiceRow> = Readonly<Record<string, R>>;

/** A row chosen and its settings, complete and valid: plain data. */
export interface Choice {
  kind: string;
  settings: Readonly<Record<string, unknown>>;
}

/** The names of a row's own settings. */
export const settingNames = ({ settings }: ChoiceRow): string[] => Object.keys(settings.shape);
