// SOURCE_DATE_EPOCH: one time for everything that is written, so that two runs alike leave the same bytes.
// https://reproducible-builds.org/specs/source-date-epoch/
import { KinoraError } from "./errors.ts";

/** Unix seconds; undefined where the environment sets none. Throws `env.source-date`. */
export function sourceDate(env: Readonly<Record<string, string | undefined>>): number | undefined {
  const text = env.SOURCE_DATE_EPOCH;
  if (text === undefined || text === "") return undefined;
  // The last second of the year 9999.
  if (/^\d{1,12}$/.test(text) && Number(text) <= 253_402_300_799) return Number(text);
  throw new KinoraError("env.source-date", "SOURCE_DATE_EPOCH is invalid", {
    expected: "whole seconds since 1970",
    actual: text,
    hint: "e.g. SOURCE_DATE_EPOCH=1700000000, or unset it",
  });
}
