// Values of a configuration or a request that cannot be, in words: what each must be, what stands there, and what its writer
// most likely meant. zod's own messages never reach a person.
import type { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { nearestName } from "../../base/nearest.ts";
import { isRow } from "../../base/rows.ts";
import type { ConfigKind } from "./read.ts";
import { backslashHint } from "./toml-mistakes.ts";

const kinds: Readonly<Record<string, string>> = {
  number: "a number",
  int: "a whole number",
  bigint: "a whole number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  tuple: "a list",
  object: "a table",
  record: "a table",
};

/** A schema's own message that begins so stands behind a setting's name as it is. */
export const OWN_WORDS = "must ";

/** How much of a value is shown. */
const SHOWN = 60;

/** A value as its writer would know it again, e.g. `the text "4"`. */
export function shown(value: unknown): string {
  if (typeof value === "string")
    return `the text ${JSON.stringify(value.length > SHOWN ? `${value.slice(0, SHOWN)}…` : value)}`;
  if (value instanceof Date) return `the date ${value.toISOString()}`;
  if (Array.isArray(value)) {
    const plain = value.every((item) => ["number", "bigint", "string", "boolean"].includes(typeof item));
    const text = `[${value.map((item) => (typeof item === "string" ? JSON.stringify(item) : String(item))).join(", ")}]`;
    return plain && text.length <= SHOWN ? text : `a list of ${value.length}`;
  }
  return isRow(value) ? "a table" : String(value);
}

export interface ValueOptions {
  /** The table that the issues' paths begin in, e.g. `[[datasets]] number 2`. */
  within?: string;
  /** For settings whose right values are not obvious, by their keys. */
  advice?: Readonly<Record<string, string>>;
}

interface Told {
  /** Where the value is: `size.width`. */
  key: string;
  /** What is wrong, to stand behind the key. */
  words: string;
  hint: string | undefined;
}

/** A wrong option of a request: its words, with the option in backticks, and a hint where there is one. */
export function wrongOption(issue: z.core.$ZodIssue, root: unknown): Told {
  const { key, words, hint } = tell(issue, [], root, {});
  const plain = (text: string) => text.replace(/\ba table\b/g, "an object");
  // Other hints are about TOML.
  return { key, words: `\`${key}\` ${plain(words)}`, hint: hint?.startsWith("did you mean") ? hint : undefined };
}

/** `CODE.invalid` with every value that is wrong. `root` is what was checked. */
export function invalidValues(
  kind: ConfigKind,
  issues: readonly z.core.$ZodIssue[],
  root: unknown,
  { within, advice = {} }: ValueOptions = {},
): KinoraError {
  const told = issues.map((issue) => tell(issue, [], root, advice));
  const hint = told.find((one) => one.hint !== undefined)?.hint ?? kind.hint;
  const words = told.map(({ key, words }) => `${key} ${words}`).join("; ");
  return new KinoraError(`${kind.code}.invalid`, within ? `${within}: ${words}` : words, { hint });
}

function tell(
  issue: z.core.$ZodIssue,
  above: readonly PropertyKey[],
  root: unknown,
  advice: Readonly<Record<string, string>>,
): Told {
  const path = [...above, ...issue.path];
  const value = path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], root);
  const key = path.map(String).join(".");
  const own = issue.message.startsWith(OWN_WORDS) ? issue.message : undefined;
  if (issue.code === "invalid_union") {
    // The branch that is meant is one whose kind the value has, the more so where something inside it is wrong.
    const fitting = issue.errors.filter(
      (branch) => branch.length > 0 && !branch.some((inner) => isOfKind(inner, value)),
    );
    const meant =
      fitting.find((branch) => branch.some(({ path: inner }) => inner.length > 0)) ?? (own ? undefined : fitting[0]);
    if (meant?.[0]) return tell(meant[0], path, root, advice);
    if (own === undefined) {
      const wanted = issue.errors.flatMap((branch) =>
        branch[0] ? rule(branch[0], value).replace(/^must be /, "") : [],
      );
      return { key, words: `must be ${[...new Set(wanted)].join(" or ")}${given(value)}`, hint: advice[key] };
    }
  }
  return {
    key,
    words: `${own ?? rule(issue, value)}${given(value)}`,
    hint: hintFor(issue, key, value) ?? advice[key],
  };
}

/** Whether an issue is with the kind of the whole value, not with something inside or a bound of it. */
const isOfKind = (issue: z.core.$ZodIssue, value: unknown): boolean =>
  issue.path.length === 0 &&
  (issue.code === "invalid_type" ||
    (issue.code === "invalid_value" && !issue.values.some((one) => typeof one === typeof value)));

const given = (value: unknown): string => (value === undefined ? "" : ` (it is ${shown(value)})`);

/** What a value must be, to stand behind its name. */
function rule(issue: z.core.$ZodIssue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      if (value === undefined) return "is missing";
      return typeof value === "bigint" ? "is too large" : `must be ${kinds[issue.expected] ?? issue.expected}`;
    case "too_small":
      if (issue.origin === "string") return "must not be empty";
      if (issue.origin === "array")
        return issue.minimum === 1 ? "must not be empty" : `must have ${issue.minimum} values`;
      return `must be ${issue.inclusive === false ? "above" : "at least"} ${issue.minimum}`;
    case "too_big":
      if (issue.origin === "array")
        return `must have ${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum} values`;
      return `must be ${issue.inclusive === false ? "below" : "at most"} ${issue.maximum}`;
    case "invalid_value":
      return `must be ${issue.values.length > 1 ? "one of " : ""}${issue.values.map(String).join(", ")}`;
    case "unrecognized_keys":
      return `has the unknown key ${issue.keys[0]}`;
    default:
      return `is wrong: ${issue.message}`;
  }
}

/** What the writer most likely meant. */
function hintFor(issue: z.core.$ZodIssue, key: string, value: unknown): string | undefined {
  const name = key.split(".").at(-1)!;
  if (issue.code === "invalid_value") {
    const near = typeof value === "string" ? nearestName(value, issue.values.map(String)) : undefined;
    return near && `did you mean ${near}?`;
  }
  if (typeof value === "string" && /\p{Cc}/u.test(value)) return backslashHint;
  if (issue.code !== "invalid_type") return undefined;
  const wantsOne = ["number", "int", "bigint", "string", "boolean"].includes(issue.expected);
  if (Array.isArray(value) && wantsOne) return "give a single value, without [ ]";
  switch (issue.expected) {
    case "number":
    case "int":
      if (typeof value === "string" && /^\s*[+-]?[\d_]+(\.\d+)?(e[+-]?\d+)?\s*$/i.test(value))
        return `write it without quotes: ${name} = ${value.trim()}`;
      return undefined;
    case "boolean":
      if (typeof value === "string" && /^(true|false)$/i.test(value))
        return `write it without quotes: ${name} = ${value.toLowerCase()}`;
      return "write true or false, without quotes";
    case "string":
      return ["number", "bigint", "boolean"].includes(typeof value)
        ? `write it in quotes: ${name} = "${value}"`
        : undefined;
    case "array":
    case "tuple":
      return isRow(value)
        ? undefined
        : `write a list: ${name} = [${typeof value === "string" ? JSON.stringify(value) : value}]`;
    case "object":
      return isRow(value) || key.includes(".")
        ? undefined
        : `${name} is a table: write [${name}] on its own line, with its settings below`;
    default:
      return undefined;
  }
}
