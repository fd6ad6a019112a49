// What is many is a table: rows with a name, a few words of help and settings of their own. Finding one, saying which there
// are, and checking what one is told.
import { z } from "zod";
import { KinoraError } from "./errors.ts";
import { nearestName } from "./nearest.ts";

export interface NamedRow {
  readonly name: string;
  /** A few words for help texts. */
  readonly help: string;
}

/** `a, b or c`, for help and errors. */
export function listNames(rows: readonly Pick<NamedRow, "name">[]): string {
  const names = rows.map(({ name }) => name);
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

/** The row of that name. Throws `code`, listing the names, with the nearest for a hint, else `hint`. */
export function findRow<R extends NamedRow>(
  rows: readonly R[],
  name: string,
  { code, what, hint }: { code: string; what: string; hint?: string },
): R {
  const found = rows.find((row) => row.name === name);
  if (found) return found;
  const near = nearestName(
    name,
    rows.map((row) => row.name),
  );
  throw new KinoraError(code, `unknown ${what} ${name}`, {
    expected: listNames(rows),
    hint: near ? `did you mean ${near}?` : hint,
  });
}

/** What a row is told as a request carries it. */
export type RowSettings = Readonly<Record<string, unknown>>;

/** A row's settings, checked, the missing ones filled in. Throws `code`, saying what can be set. */
export function settleRow<O extends z.ZodObject>(
  { name, options }: { name: string; options: O },
  given: RowSettings,
  { code, what, hint }: { code: string; what: string; hint?: string },
): z.output<O> {
  const parsed = options.safeParse(given);
  if (parsed.success) return parsed.data;
  const known = Object.keys(options.shape);
  throw new KinoraError(code, `the ${what} ${name} cannot be set like this`, {
    expected: known.length > 0 ? known.join(", ") : "no settings of its own",
    actual: z.prettifyError(parsed.error).replaceAll("\n", " "),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** A row with its settings in words: `dice (faces 6, fair true)`. */
export function describeRow(name: string, settings: RowSettings = {}): string {
  const words = Object.entries(settings).map(([key, value]) => `${key} ${String(value)}`);
  return words.length === 0 ? name : `${name} (${words.join(", ")})`;
}
