// A JSON reader for file headers: like JSON.parse, but a key given twice is an error and objects are maps, so that
// `__proto__` is a key like any other. Not for configuration files.
import { KinoraError } from "../base/errors.ts";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = ReadonlyMap<string, Json>;

/** Deeper than any header nests; keeps the recursion off the stack's end. */
const MAX_DEPTH = 32;

const space = /[ \t\n\r]*/y;
const literal = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/**
 * Parses UTF-8 JSON whose top is an object.
 * @param code the error's code for anything malformed, duplicate keys included
 */
export function parseStrictJson(bytes: Uint8Array, code: string): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new KinoraError(code, "invalid JSON: not UTF-8 text", { cause });
  }
  let at = 0;
  const fail = (what: string): never => {
    throw new KinoraError(code, `invalid JSON: ${what}`, { actual: `at character ${at}` });
  };
  /** The next character that is no white space, without taking it. */
  const peek = (): string => {
    space.lastIndex = at;
    space.test(text);
    at = space.lastIndex;
    return text.charAt(at);
  };
  const isEscaped = (quote: number): boolean => {
    let slashes = 0;
    while (text[quote - 1 - slashes] === "\\") slashes++;
    return slashes % 2 === 1;
  };
  const string = (): string => {
    let end = text.indexOf('"', at + 1);
    while (end >= 0 && isEscaped(end)) end = text.indexOf('"', end + 1);
    if (end < 0) fail("an unterminated string");
    try {
      const value = JSON.parse(text.slice(at, end + 1)) as string;
      at = end + 1;
      return value;
    } catch {
      return fail("a malformed string");
    }
  };
  const list = (close: string, take: () => void): void => {
    at++;
    if (peek() !== close) {
      take();
      for (; peek() === ","; take()) at++;
      if (peek() !== close) fail(`expected a comma or ${close}`);
    }
    at++;
  };
  const object = (depth: number): JsonObject => {
    const result = new Map<string, Json>();
    list("}", () => {
      if (peek() !== '"') fail("expected a key");
      const key = string();
      if (result.has(key)) fail(`the key ${JSON.stringify(key.slice(0, 100))} is duplicated`);
      if (peek() !== ":") fail("expected a colon");
      at++;
      result.set(key, value(depth + 1));
    });
    return result;
  };
  const array = (depth: number): Json[] => {
    const result: Json[] = [];
    list("]", () => result.push(value(depth + 1)));
    return result;
  };
  const value = (depth: number): Json => {
    if (depth > MAX_DEPTH) fail(`nested deeper than ${MAX_DEPTH} levels`);
    const first = peek();
    if (first === "{") return object(depth);
    if (first === "[") return array(depth);
    if (first === '"') return string();
    literal.lastIndex = at;
    const word = literal.exec(text)?.[0];
    if (word === undefined) return fail(first === "" ? "unexpected end" : "unexpected character");
    at += word.length;
    return JSON.parse(word) as Json;
  };
  const top = value(0);
  if (peek() !== "") fail("unexpected text after the value");
  return top instanceof Map ? top : fail("expected an object at the top");
}
