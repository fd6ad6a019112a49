// Settings that choose a row of a table (an optimizer, a schedule …): which keys such a table of the configuration has, what
// is wrong with the values of the chosen row, and the choice settled.
import { z } from "zod";
import type { Row } from "../../base/rows.ts";
import { trainableKinds } from "../../lora/adapters/table.ts";
import { type Choice, type ChoiceRow, type ChoiceTable, settingNames } from "../choices.ts";
import { optimizers } from "../optimizers/index.ts";
import { schedules } from "../optimizers/schedules/index.ts";
import { losses, weightings } from "../step/losses.ts";
import { timeSamplings } from "../step/time-samplings.ts";
import type { Origin } from "./settings.ts";
import type { Settler } from "./settler.ts";

/** Where a choice stands in the configuration: `[table] key = "…"`. */
interface Choosing<R extends ChoiceRow> {
  table: "lora" | "optimizer" | "schedule" | "time" | "loss";
  key: "kind" | "sampling" | "weighting";
  rows: ChoiceTable<R>;
  fallback: string;
}

export const choosing = {
  adapter: { table: "lora", key: "kind", rows: trainableKinds, fallback: "lora" },
  optimizer: { table: "optimizer", key: "kind", rows: optimizers, fallback: "adamw" },
  schedule: { table: "schedule", key: "kind", rows: schedules, fallback: "constant" },
  time: { table: "time", key: "sampling", rows: timeSamplings, fallback: "shift" },
  loss: { table: "loss", key: "kind", rows: losses, fallback: "mse" },
  weighting: { table: "loss", key: "weighting", rows: weightings, fallback: "none" },
} as const satisfies Record<string, Choosing<ChoiceRow>>;

const all: readonly Choosing<ChoiceRow>[] = Object.values(choosing);

/** Keys that some row of a table's choices has of its own. */
export function choiceKeys(table: string): string[] {
  const rows = all.filter((one) => one.table === table).flatMap(({ rows }) => Object.values(rows));
  return [...new Set(rows.flatMap(settingNames))];
}

/** What is wrong with the choices of a configuration and with the settings of the rows that are chosen. */
export function choiceIssues(root: Row): z.core.$ZodIssue[] {
  return all.flatMap(({ table, key, rows, fallback }) => {
    const given = (root[table] ?? {}) as Row;
    const kind = z.enum(Object.keys(rows)).safeParse(given[key] ?? fallback);
    if (!kind.success) return placed(kind.error.issues, [table, key]);
    const { shape } = rows[kind.data]!.settings;
    return Object.entries(shape).flatMap(([name, schema]) => {
      if (given[name] === undefined) return [];
      const value = (schema as z.ZodType).safeParse(given[name]);
      return value.success ? [] : placed(value.error.issues, [table, name]);
    });
  });
}

const placed = (issues: readonly z.core.$ZodIssue[], path: readonly string[]): z.core.$ZodIssue[] =>
  issues.map((issue) => ({ ...issue, path: [...path, ...issue.path] }));

/** The names of the rows that have a setting. */
const owners = (rows: ChoiceTable<ChoiceRow>, name: string): string[] =>
  Object.keys(rows).filter((kind) => settingNames(rows[kind]!).includes(name));

/**
 * The chosen row and its settings. What `defaults` has comes before the row's own defaults and is told as the model's;
 * settings of other rows are told to do nothing. `given` was checked by {@link choiceIssues}.
 */
export function settleChoice<R extends ChoiceRow>(
  s: Settler,
  { table, key, rows, fallback }: Choosing<R>,
  given: Row,
  {
    defaults,
    from: origin = "model",
    idle,
    notes = {},
  }: {
    defaults?: (row: R) => Row | undefined;
    /** Where `defaults` come from. */
    from?: Origin;
    idle?: string | undefined;
    /** What a setting's value implies, by its name. */
    notes?: Readonly<Record<string, (value: unknown) => string | undefined>>;
  } = {},
): { row: R; choice: Choice } {
  const kind = s.take(`${table}.${key}`, given[key] as string | undefined, fallback, {
    note: (value) => rows[value]!.help,
    idle,
  });
  const row = rows[kind]!;
  const special = defaults?.(row) ?? {};
  const settings: Row = {};
  for (const [name, schema] of Object.entries(row.settings.shape) as [string, z.ZodType][]) {
    const from = name in special ? origin : ("default" as const);
    const value = given[name] === undefined ? undefined : schema.parse(given[name]);
    const preset = value ?? (name in special ? special[name] : schema.parse(undefined));
    settings[name] = s.take(`${table}.${name}`, value, preset, {
      from,
      idle,
      ...(notes[name] ? { note: notes[name] } : {}),
    });
  }
  for (const name of Object.keys(given)) {
    const kinds = owners(rows, name);
    if (name in settings || kinds.length === 0) continue;
    s.take(`${table}.${name}`, given[name], undefined, { idle: `only with ${kinds.join(" or ")}` });
  }
  return { row, choice: { kind, settings } };
}
