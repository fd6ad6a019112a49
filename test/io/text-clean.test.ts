// Prompt cleaning against outputs recorded from the official code's libraries.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cleanText } from "../../src/io/text-clean/index.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";

// Recorded with ftfy 6.3.1, regex 2026.11 and Python 3.11's html, by the three lines of the official `basic_clean` and
// `whitespace_clean`, and its `canonicalize`. The first rows are written by hand; the rest is a sample of generated text:
// words of 24 languages misread in ten encodings, once or twice, whole or in part, with bytes lost; HTML references of
// every kind; control characters, typographic variants and random mixtures.
const recorded = JSON.parse(readFileSync(new URL("./text-clean-cases.json", import.meta.url), "utf8")) as [
  input: string,
  whitespace: string,
  canonical: string,
][];

describe("cleaning", () => {
  test("comes out as recorded, in every mode", () => {
    for (const [input, whitespace, canonical] of recorded) {
      expect(cleanText(input), JSON.stringify(input)).toBe(whitespace);
      expect(cleanText(input, "lower"), JSON.stringify(input)).toBe(whitespace.toLowerCase());
      expect(cleanText(input, "canonicalize"), JSON.stringify(input)).toBe(canonical);
    }
  });

  test("leaves ordinary text of any script alone", () => {
    for (const text of [
      "A wide shot of a river valley at dawn, mist rising.",
      "一只橘猫坐在窗台上。",
      "Ein großer Käfer läuft über die Straße",
      "L'œuvre naît à Noël, ça va ?",
      "Кот спит на окне",
      "مرحبا بالعالم",
      "안녕하세요 세계",
      "नमस्ते दुनिया",
      "emoji 😀👨‍👩‍👧‍👦 🇫🇷",
    ]) {
      expect(cleanText(text)).toBe(text);
    }
  });

  test("undoes UTF-8 misread as Windows-1252", () => {
    // What a browser makes of UTF-8 bytes in a page without a declared encoding.
    const misread = (text: string) => new TextDecoder("windows-1252").decode(Buffer.from(text));
    for (const text of ["schöne Grüße", "déjà vu, ça alors", "猫在窗台上", "Привет, мир", "10 € – so viel"]) {
      expect(cleanText(misread(text))).toBe(text);
      expect(cleanText(misread(misread(text)))).toBe(text);
    }
  });

  test("gives single spaces and none at the ends, for any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const clean = cleanText(text);
        expect(clean).not.toMatch(/^\p{White_Space}|\p{White_Space}$|\p{White_Space}{2}/u);
        expect(clean.isWellFormed()).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("takes time in proportion to the text, whatever it is made of", () => {
    for (const unit of ["a", " ", "&", "&amp", "&#x", "Ã©", "â€œ", "<", "\u001b[", "é́", "猫，", "Ã ", "\ud83d"]) {
      // Squared, it would not end within the test's time.
      expect(cleanText(unit.repeat(30_000)), unit).toBeTypeOf("string");
    }
  });
});

if (!sharedFolder) console.warn(`text-clean fixture: ${whySkipped}`);

describe.skipIf(!sharedFolder)("the published cases", () => {
  interface Fixture {
    cases: { input: string; output: string; lower: string; canonicalize: string }[];
    default_negative_prompt: { length_after: number; sha256_after: string };
  }

  test("in all three modes, and the default negative prompt", () => {
    const fixture = JSON.parse(readFileSync(`${sharedFolder}golden/text-clean.json`, "utf8")) as Fixture;
    for (const { input, output, lower, canonicalize } of fixture.cases) {
      expect(cleanText(input)).toBe(output);
      expect(cleanText(input, "lower")).toBe(lower);
      expect(cleanText(input, "canonicalize")).toBe(canonicalize);
    }
    const facts = readFileSync(`${sharedFolder}facts/wan-models.md`, "utf8");
    const negative = /^色调.*$/m.exec(facts)![0];
    const { length_after, sha256_after } = fixture.default_negative_prompt;
    expect([...cleanText(negative)].length).toBe(length_after);
    expect(createHash("sha256").update(cleanText(negative)).digest("hex")).toBe(sha256_after);
  });
});
