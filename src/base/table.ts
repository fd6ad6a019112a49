// What is many is a table: rows with a name and a few words of help. Finding one, and saying which there are.
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
