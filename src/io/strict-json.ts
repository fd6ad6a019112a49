// A JSON reader for file headers: like JSON.parse, but a key given twice is an error and objects are maps, so that
// `__proto__` is a key like any other. Not for configuration files.
import { KinoraError } from "../base/errors.ts";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = ReadonlyMap<string, Json>;

/** Deeper than any header nests; keeps the recursion off the stack's end. */
const MAX_DEPTH = 32;

const space = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// A whole string without escapes or control characters; the common case, taken in one step.
const plainString = /"[^"\\\p{Cc}]*"/uy;

class Reader {
  readonly #text: string;
  readonly #code: string;
  #at = 0;

  constructor(text: string, code: string) {
    this.#text = text;
    this.#code = code;
  }

  fail(what: string): never {
    throw new KinoraError(this.#code, `invalid JSON: ${what}`, { actual: `at character ${this.#at}` });
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }

  /** The next character that is no white space, without taking it. */
  #peek(): string {
    this.#take(space);
    return this.#text.charAt(this.#at);
  }

  #string(): string {
    const plain = this.#take(plainString);
    if (plain !== undefined) return plain.slice(1, -1);
    let end = this.#at + 1;
    for (let slashes = 1; slashes % 2 === 1; end++) {
      end = this.#text.indexOf('"', end);
      if (end < 0) this.fail("an unterminated string");
      slashes = 0;
      while (this.#text[end - 1 - slashes] === "\\") slashes++;
    }
    try {
      const value = JSON.parse(this.#text.slice(this.#at, end)) as string;
      this.#at = end;
      return value;
    } catch {
      return this.fail("a malformed string");
    }
  }

  #object(depth: number): JsonObject {
    const result = new Map<string, Json>();
    this.#at++;
    if (this.#peek() === "}") {
      this.#at++;
      return result;
    }
    for (;;) {
      if (this.#peek() !== '"') this.fail("expected a key");
      const key = this.#string();
      if (this.#peek() !== ":") this.fail("expected a colon");
      this.#at++;
      if (result.has(key)) this.fail(`the key ${JSON.stringify(key.slice(0, 100))} is duplicated`);
      result.set(key, this.value(depth + 1));
      const next = this.#peek();
      this.#at++;
      if (next === "}") return result;
      if (next !== ",") this.fail("expected a comma or a closing brace");
    }
  }

  #array(depth: number): Json[] {
    const result: Json[] = [];
    this.#at++;
    if (this.#peek() === "]") {
      this.#at++;
      return result;
    }
    for (;;) {
      result.push(this.value(depth + 1));
      const next = this.#peek();
      this.#at++;
      if (next === "]") return result;
      if (next !== ",") this.fail("expected a comma or a closing bracket");
    }
  }

  #word<T extends Json>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.fail("an unknown word");
    this.#at += word.length;
    return value;
  }

  value(depth: number): Json {
    if (depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH} levels`);
    switch (this.#peek()) {
      case "{":
        return this.#object(depth);
      case "[":
        return this.#array(depth);
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      case "":
        return this.fail("unexpected end");
      default: {
        const digits = this.#take(number);
        return digits === undefined ? this.fail("unexpected character") : Number(digits);
      }
    }
  }

  end(): void {
    if (this.#peek() !== "") this.fail("unexpected text after the value");
  }
}

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
  const reader = new Reader(text, code);
  const value = reader.value(0);
  reader.end();
  if (!(value instanceof Map)) reader.fail("expected an object at the top");
  return value as JsonObject;
}
