// What the device tests share.
import { isKinoraError } from "../../src/base/errors.ts";

/** The code of the error that an action throws; "no error" where it throws none. */
export function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}
