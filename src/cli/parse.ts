// Values of options that several commands read the same way.
import { KinoraError } from "../base/errors.ts";

/** `1280*720`, also `1280x720` and `1280×720`. */
export function parseSize(text: string): { width: number; height: number } {
  const match = /^(\d+)\s*[*x×]\s*(\d+)$/i.exec(text.trim());
  if (!match) {
    throw new KinoraError("cli.bad-size", "a size is wrong", { expected: "W*H, e.g. 1280*720", actual: text });
  }
  return { width: Number(match[1]), height: Number(match[2]) };
}

/** A whole number of at least `least`. */
export function parseWholeNumber(option: string, text: string, least = 1): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= least) return value;
  throw new KinoraError("cli.bad-number", `${option} is wrong`, {
    expected: `a whole number of at least ${least}`,
    actual: text,
  });
}
