// How inputs are changed: at random, but aimed at what decides something: paths, sizes, counts, escapes, encodings.
import type { Draws } from "../../scripts/tiny/world/random.ts";
import { encodeText } from "../support/encode-text.ts";

/** What stands outside of the folder an input is read in; nothing may read, write or remove it. */
export const victim = { name: "victim.txt", text: "CANARY 4711: nobody may read this" } as const;

const numbers = [
  ...[0, -1, 1, 2, 3, 0.5, -0.5, 7, 255, 256, 4096, 65_535, 65_536, 1e6, 1e9, 1e12, 1e100, 1e308, -1e308],
  ...[2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 53), 5e-324],
];
const big = [
  0n,
  1n,
  0xffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 32n,
  1n << 40n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

const texts = [
  ...[
    "../outside/victim.txt",
    "..",
    ".",
    "",
    "/",
    "../outside",
    "videos/../../outside/victim.txt",
    "..\\outside\\victim.txt",
  ],
  ...[
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "C:\\x",
    "\\\\server\\share\\x",
    "con",
    "nul.txt",
    "a\0b",
    "a/b/",
    "./x",
  ],
  ...[
    "\u001b]0;title\u0007",
    "\u001b[2J\u001b[31m",
    "\u001b]8;;http://x.example\u0007here\u001b]8;;\u0007",
    "\u009b31m",
    "\u0085",
  ],
  ...[
    "\u202eeman",
    "\u2066x\u2069",
    "\u2028",
    "\r\nerror fake.code: no",
    "\ud800",
    "e\u0301",
    "\ufeff",
    "\u0000",
    "👩‍👩‍👧",
  ],
  ...[
    "x".repeat(5000),
    "9".repeat(400),
    "(a+)+$",
    "(.*a){25}",
    "[",
    "__proto__",
    "constructor",
    "toString",
    "NaN",
    "Infinity",
    "null",
  ],
  ...[
    "1e400",
    "-0",
    "0x10",
    "01",
    "1_000",
    "true",
    "18446744073709551616",
    "$HOME",
    "$(id)",
    "`id`",
    "%s%s%n",
    "<script>",
    "a=b",
  ],
];

/** Some inputs stay as they are, so that it shows whether they would be accepted. */
const unchanged = 0.08;

/** Below `count`. */
export const below = (draws: Draws, count: number): number => Math.min(count - 1, Math.floor(draws.unit() * count));

export const nastyNumber = (draws: Draws): number =>
  draws.chance(0.8) ? draws.pick(numbers) : Math.round(draws.between(-1e6, 1e6));

/** A text with a will of its own; sometimes the path of what may not be touched, where this machine has it. */
export function nastyText(draws: Draws, outside: string): string {
  if (draws.chance(0.1)) return `${outside}/${victim.name}`;
  if (draws.chance(0.05)) return `${outside}/pipe`;
  if (draws.chance(0.1))
    return String.fromCharCode(...Array.from({ length: 1 + below(draws, 12) }, () => below(draws, 0x3000)));
  return draws.pick(texts);
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function nasty(draws: Draws, outside: string): unknown {
  const kind = draws.unit();
  if (kind < 0.4) return nastyNumber(draws);
  if (kind < 0.85) return nastyText(draws, outside);
  return draws.pick<unknown>([null, true, false, [], {}, [[[[]]]], { x: 1e9 }, [1, "a", null], Array(2000).fill(0)]);
}

/** Every place of a value. */
function places(value: Json, path: (string | number)[] = []): (string | number)[][] {
  if (value === null || typeof value !== "object") return [path];
  const entries: [string | number, Json][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...entries.flatMap(([key, inner]) => places(inner, [...path, key]))];
}

/** A copy with `put` at one place; with nothing there where it is undefined. */
function replaced(value: Json, path: readonly (string | number)[], put: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return put;
  const inner = replaced((value as Record<string | number, Json>)[key]!, rest, put);
  if (Array.isArray(value))
    return value.flatMap((item, i) => (i !== key ? [item] : inner === undefined ? [] : [inner]));
  const entries = Object.entries(value as { [key: string]: Json }).map(([k, v]) => (k === key ? [k, inner] : [k, v]));
  return Object.fromEntries(entries.filter(([, v]) => v !== undefined));
}

/** JSON with one to three of its values replaced, renamed, removed or doubled. */
export function changedJson(draws: Draws, value: unknown, outside: string): unknown {
  if (draws.chance(unchanged)) return value;
  let changed = value;
  for (let times = 1 + below(draws, 3); times > 0; times--) {
    // Deep places are where the fields are.
    const all = places(changed as Json);
    if (all.length === 0) return changed;
    const path = draws.pick(all);
    const kind = draws.unit();
    if (kind < 0.75) changed = replaced(changed as Json, path, nasty(draws, outside));
    else if (kind < 0.9) changed = replaced(changed as Json, path, undefined) ?? null;
    else if (path.length > 0) {
      const parent = path.slice(0, -1);
      const at = parent.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown>)[key], changed);
      const more = Array.isArray(at)
        ? [...at, ...at]
        : { ...(at as object), [nastyText(draws, outside)]: nasty(draws, outside) };
      changed = replaced(changed as Json, parent, more);
    }
  }
  return changed;
}

/** As text: sometimes cut off, with a value twice, or with bytes that are none. */
export function changedJsonText(draws: Draws, value: unknown, outside: string): Uint8Array {
  const text = JSON.stringify(changedJson(draws, value, outside), null, draws.chance(0.3) ? 2 : undefined) ?? "";
  return draws.chance(0.15) ? changedBytes(draws, Buffer.from(text), outside) : Buffer.from(text);
}

/** Bytes with one to four changes: flips, numbers of any width, cuts, insertions, doublings, nasty words over words. */
export function changedBytes(draws: Draws, bytes: Uint8Array, outside: string, where = bytes.length): Uint8Array {
  let changed = Buffer.from(bytes);
  for (let times = 1 + below(draws, 4); times > 0 && changed.length > 0; times--) {
    const at = below(draws, Math.min(changed.length, Math.max(1, where)));
    const kind = draws.unit();
    if (kind < 0.2) changed[at]! ^= 1 << below(draws, 8);
    else if (kind < 0.35) changed[at] = below(draws, 256);
    else if (kind < 0.65) {
      const number = Buffer.alloc(8);
      if (draws.chance(0.5)) number.writeBigUInt64LE(draws.pick(big));
      else number.writeBigUInt64BE(draws.pick(big));
      const width = draws.pick([1, 2, 4, 4, 8, 8]);
      // The low end of a number that is written the other way round is its last bytes.
      const part = number[0] === 0 && number[7] !== 0 ? number.subarray(8 - width) : number.subarray(0, width);
      part.copy(changed, at);
    } else if (kind < 0.72) changed = changed.subarray(0, at);
    else if (kind < 0.8)
      changed = Buffer.concat([changed.subarray(0, at), Buffer.from(nastyText(draws, outside)), changed.subarray(at)]);
    else if (kind < 0.87) changed = Buffer.concat([changed.subarray(0, at), changed.subarray(below(draws, at + 1))]);
    else if (kind < 0.93)
      changed.fill(draws.pick([0, 255, 32]), at, Math.min(changed.length, at + 1 + below(draws, 64)));
    else Buffer.from(nastyText(draws, outside)).copy(changed, at);
  }
  return changed;
}

/** Text of a person with one to three changes: numbers, quoted words, lines, signs that mean something. */
export function changedText(draws: Draws, text: string, outside: string): string {
  if (draws.chance(unchanged)) return text;
  let changed = text;
  for (let times = 1 + below(draws, 3); times > 0; times--) {
    const pick = (pattern: RegExp, put: (found: string) => string) => {
      const found = [...changed.matchAll(pattern)];
      if (found.length === 0) return;
      const { 0: word, index } = draws.pick(found);
      changed = changed.slice(0, index) + put(word) + changed.slice(index + word.length);
    };
    const kind = draws.unit();
    if (kind < 0.25) pick(/-?\d+(?:\.\d+)?/g, () => String(nastyNumber(draws)));
    else if (kind < 0.45) pick(/"[^"\n]*"/g, () => JSON.stringify(nastyText(draws, outside)));
    else if (kind < 0.55) pick(/"[^"\n]*"/g, () => `"${nastyText(draws, outside)}"`);
    else if (kind < 0.65) pick(/^[^\n]*\n/gm, (line) => (draws.chance(0.5) ? "" : line + line));
    else if (kind < 0.75)
      pick(/[\w-]+(?=\s*=)/g, (key) =>
        draws.pick([`${key}s`, key.toUpperCase(), "__proto__", `"${key}"`, key.slice(1)]),
      );
    else if (kind < 0.85) pick(/[[\]{}"=,:\n]/g, (sign) => draws.pick(["", sign + sign, "[", "}", '"', "\n", "#"]));
    else {
      const at = below(draws, changed.length + 1);
      changed = changed.slice(0, at) + nastyText(draws, outside) + changed.slice(at);
    }
  }
  return changed;
}

const encodings = [
  "utf-16le",
  "utf-16be",
  "gb18030",
  "big5",
  "shift_jis",
  "euc-kr",
  "windows-1251",
  "windows-1252",
] as const;

/** A text as some editor may save it: mostly UTF-8; also with a mark, in another encoding, or with a byte too many. */
export function savedText(draws: Draws, text: string, outside: string): Uint8Array {
  const kind = draws.unit();
  if (kind < 0.6) return Buffer.from(text);
  if (kind < 0.65) return Buffer.from(`\ufeff${text}`);
  if (kind < 0.7) return Buffer.from(`\ufeff${text}`, "utf16le");
  if (kind < 0.75) return Buffer.from(`\ufeff${text}`, "utf16le").swap16();
  if (kind < 0.8)
    return Buffer.from(
      [...text].flatMap((letter) => [0, 0, 0, 0].map((_, i) => (letter.codePointAt(0)! >> (8 * i)) & 255)),
    );
  if (kind < 0.95) {
    try {
      return encodeText(text, draws.pick(encodings));
    } catch {
      return Buffer.from(text, "latin1"); // It holds letters that the encoding has none for.
    }
  }
  return changedBytes(draws, Buffer.from(text), outside);
}
