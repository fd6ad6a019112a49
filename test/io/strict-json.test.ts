// The JSON reader of file headers beside JSON.parse: the same values of the same texts, and what it refuses beyond it.
import fc from "fast-check";
import { expect, it } from "vitest";
import { type Json, parseStrictJson } from "../../src/io/strict-json.ts";

const parse = (text: string) => parseStrictJson(new TextEncoder().encode(text), "test.json");

/** Maps as the objects that JSON.parse makes. */
function plain(value: Json): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

it("reads what JSON.parse reads, spaced in any way", () => {
  const objects = fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 4 }));
  fc.assert(
    fc.property(objects, fc.constantFrom(undefined, 1, "\t", "  \r\n"), (value, gap) => {
      const text = JSON.stringify(value, undefined, gap);
      expect(plain(parse(text))).toEqual(JSON.parse(text));
    }),
    { numRuns: 40 },
  );
  const odd = String.raw`{ "a\\" : "\\\"", "": [ ], "\u00e9": [1e2, -0.5E-1, {}, [[null, true, false]]], "__proto__": 1 }`;
  expect(Object.entries(plain(parse(odd)) as object)).toEqual(Object.entries(JSON.parse(odd) as object));
});

it("refuses every text that JSON.parse refuses", () => {
  const base = '{"a":[1,{"b":"x\\"y"},null],"c":-1.5e3,"d":true}';
  const marks = ["", "{", "}", "[", "]", ",", ":", '"', "\\", "0", "-", "e", ".", "t", "\u0000", "\n"];
  fc.assert(
    fc.property(fc.nat(base.length), fc.nat(2), fc.constantFrom(...marks), (at, cut, mark) => {
      const text = base.slice(0, at) + mark + base.slice(at + cut);
      let known: unknown;
      try {
        known = JSON.parse(text);
      } catch {
        expect(() => parse(text), text).toThrow(/invalid JSON/);
        return;
      }
      const keys = [...text.matchAll(/"([a-d])":/g)].map(([, key]) => key);
      if (known instanceof Object && !Array.isArray(known) && new Set(keys).size === keys.length)
        expect(plain(parse(text)), text).toEqual(known);
    }),
    { numRuns: 1000 },
  );
});

it.each([
  ["a key given twice", '{"a":1,"b":{"c":1,"\\u0063":2}}', /the key "c" is duplicated; got at character/],
  ["another top", "[1]", /an object at the top/],
  ["text after the value", "{} {}", /after the value/],
  ["a comma too many", '{"a":1,}', /expected a key/],
  ["no comma", '{"a":[1 2]}', /expected a comma or \]/],
  ["no colon", '{"a" 1}', /expected a colon/],
  ["half a word", '{"a":tru}', /unexpected character/],
  ["no end", '{"a":', /unexpected end/],
  ["a string without an end", '{"a":"b\\"}', /unterminated string/],
  ["a line break in a string", '{"a":"b\nc"}', /malformed string/],
  ["too deep", `{"a":${"[".repeat(40)}${"]".repeat(40)}}`, /nested deeper/],
  ["half a character", new Uint8Array([0x7b, 0xc3, 0x7d]), /not UTF-8/],
])("refuses %s", (_what, text, words) => {
  const read = () => (typeof text === "string" ? parse(text) : parseStrictJson(text, "test.json"));
  expect(read).toThrow(words);
  expect(read).toThrow(expect.objectContaining({ code: "test.json" }));
});
