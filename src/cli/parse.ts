// Values of options that several commands read the same way.
import type { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";

/** `1280*720`, also `1280x720` and `1280×720`. */
export function parseSize(text: string): { width: number; height: number } {
  const match = /^(\d+)\s*[*x×]\s*(\d+)$/i.exec(text.trim());
  if (!match) {
    throw new KinoraError("cli.bad-size", "invalid size", {
      expected: "W*H",
      actual: text,
      hint: "e.g. 1280*720 or 1280x720",
    });
  }
  return { width: Number(match[1]), height: Number(match[2]) };
}

/** Any number. */
export function parseNumber(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  const decimal = text.trim().replace(",", ".");
  throw new KinoraError("cli.bad-number", `${option} is invalid`, {
    expected: "a number",
    actual: text,
    hint: /^[+-]?\d*\.\d+$/.test(decimal) ? `use a decimal point: ${option} ${decimal}` : `e.g. ${option} 1.5`,
  });
}

/** A whole number of at least `least`. */
export function parseWholeNumber(option: string, text: string, least = 1): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value >= least) return value;
  const near = Number.isFinite(value) ? Math.round(value) : least;
  throw new KinoraError("cli.bad-number", `${option} is invalid`, {
    expected: `an integer of at least ${least}`,
    actual: text,
    hint: `e.g. ${option} ${Math.max(least, near)}`,
  });
}

/** One of a few words. */
export function parseChoice<const C extends string>(option: string, text: string, choices: readonly C[]): C {
  const found = choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  const near = nearestName(text, choices);
  throw new KinoraError("cli.bad-value", `${option} is invalid`, {
    expected: new Intl.ListFormat("en-GB", { type: "disjunction" }).format(choices),
    actual: text,
    hint: near ? `did you mean ${near}?` : `e.g. ${option} ${choices[0]}`,
  });
}

/** A row of a table with settings of its own. */
export interface Named {
  name: string;
  settings: Record<string, z.core.util.JSONType>;
}

/** `NAME` or `NAME:key=value,key=value`; values are JSON where they can be, else text. Lists stand in brackets. */
export function parseNamed(option: string, text: string): Named {
  const colon = text.indexOf(":");
  if (colon < 0) return { name: text.trim(), settings: {} };
  const settings: Named["settings"] = {};
  // Commas inside brackets belong to a list.
  for (const part of text.slice(colon + 1).split(/,(?![^[]*\])/)) {
    const [, key, value] = /^\s*([\w-]+)\s*=\s*(.*?)\s*$/s.exec(part) ?? [];
    if (key === undefined || value === undefined || value === "") {
      throw new KinoraError("cli.bad-value", `${option}: ${JSON.stringify(part)} is not a setting`, {
        expected: "NAME:key=value,key=value",
        actual: text,
        hint: `e.g. ${option} ${text.slice(0, colon)}:key=1`,
      });
    }
    settings[key] = settingOf(value);
  }
  return { name: text.slice(0, colon).trim(), settings };
}

function settingOf(text: string): z.core.util.JSONType {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
