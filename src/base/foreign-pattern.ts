// Regular expressions from files of others (a PEFT configuration, a recipe): they may be written to run for ever, so that
// those which repeat anything are given a time.
import { createContext, Script } from "node:vm";

/** Milliseconds for one look-up; a sane pattern takes less than one. */
const mostTime = 1000;

const context = createContext({ patterns: [], names: [] });
const look = new Script("patterns.findIndex((pattern) => names.some((name) => pattern.test(name)))");

/** The index of the first pattern that matches any of `names`, -1 where none does. @throws RangeError for one that runs on. */
export function firstMatch(patterns: readonly RegExp[], names: readonly string[]): number {
  const repeats = patterns.some(({ source }) => /[*+{]/.test(source));
  if (!repeats) return patterns.findIndex((pattern) => names.some((name) => pattern.test(name)));
  Object.assign(context, { patterns, names });
  try {
    return look.runInContext(context, { timeout: mostTime }) as number;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    throw new RangeError("takes too long to match");
  } finally {
    Object.assign(context, { patterns: [], names: [] });
  }
}
