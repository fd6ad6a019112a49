// Values that configurations and requests have in common: one-line texts, paths, counts, seeds. Messages of configurations
// stand behind a setting's name (io/config/values.ts), so they begin with "must".
import { z } from "zod";
import { SEED_MAX, SEED_MIN } from "../base/rng/seed.ts";

export const text = z.string().min(1);

/** Text of one line. A tab or line break in it came from a backslash in double quotes: "C:\train\new". */
const oneLine = (what: string) =>
  text.regex(/^\P{Cc}*$/u, {
    error: ({ input }) =>
      `must be ${what}, but contains ${controlNames(String(input))}, which is what a backslash in double quotes makes`,
  });

export const line = oneLine("text of one line");

/** A file or folder. */
export const place = oneLine("a path");

/** A file or folder in a request, where any name that a file system allows may stand. */
export const requestPath = z
  .string()
  .min(1)
  .regex(/^[^\0]*$/, "must not contain a NUL character");

function controlNames(input: string): string {
  const names = new Map([
    ["\t", "a tab (\\t)"],
    ["\n", "a line break (\\n)"],
    ["\r", "a line break (\\r)"],
    ["\b", "a backspace (\\b)"],
    ["\f", "a form feed (\\f)"],
    ["\u001b", "an escape (\\e)"],
  ]);
  const found = [...new Set(input.match(/\p{Cc}/gu))].map((char) => names.get(char) ?? "a control character");
  return found.join(" and ");
}

/** More than any setting that counts something has: what is above it is a slip, and would be allocated. */
const MOST = 1_000_000_000;

export const count = z.int().min(1).max(MOST);
export const positive = z.number().positive();
export const share = z.number().min(0).max(1);

/** A picture's side in pixels. */
export const side = z.int().min(16).max(16_384);

/** The ending of files. */
export const extension = z.string().regex(/^\.[^/\\]+$/, 'must be an ending with its dot, e.g. ".txt"');

/** Digits, for what a number of JSON or TOML would round. */
const digits = z.string().regex(/^-?\d{1,20}$/, { abort: true });

const withinSeeds =
  (least: bigint) =>
  (value: number | bigint | string): boolean =>
    BigInt(value) >= least && BigInt(value) <= SEED_MAX;

const seedWords = `must be a whole number from 0 to ${SEED_MAX} (64 bits), in quotes where another program rounds it`;

/** A seed in a configuration: from 0, so that a slip is no seed. `BigInt()` makes one of each form. */
export const seed = z
  .union([z.int(), z.bigint(), digits], { error: seedWords })
  .refine(withinSeeds(0n), { error: seedWords });

const anySeed = "must be a whole number of at most 64 bits, above 2^53 as a string";

/** A seed in JSON: of 64 bits, signed or not. Beyond 2^53 it is digits, since JSON's numbers lose some. */
export const seedSchema = z.union([z.int(), digits], { error: anySeed }).refine(withinSeeds(SEED_MIN), anySeed);

/** The same as digits alone. */
export const seedDigits = digits.refine(withinSeeds(SEED_MIN), anySeed);
