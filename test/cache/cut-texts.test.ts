// Which texts are longer than a model reads: told without opening the tokenizer where none can be, and never missed.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cutTexts } from "../../src/cache/texts.ts";
import { loadTokenizer, parseTokenizer } from "../../src/io/tokenizer/load.ts";
import type { Tokenizer } from "../../src/io/tokenizer/tokenizer.ts";
import { promptTokens } from "../../src/models/wan/prompt.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";
import { letterTokenizer } from "../support/tiny-checkpoint.ts";

async function neverMisses(tokenizer: Tokenizer): Promise<void> {
  // Any character but halves of pairs; fast-check's own list of them takes seconds to make.
  const character = fc
    .integer({ min: 1, max: 0x10ffff })
    .filter((code) => code < 0xd800 || code > 0xdfff)
    .map((code) => String.fromCodePoint(code));
  const words = fc.oneof(fc.string(), fc.string({ unit: character }));
  await fc.assert(
    fc.asyncProperty(fc.array(words, { maxLength: 6 }), fc.integer({ min: 1, max: 24 }), async (texts, length) => {
      const cut = await cutTexts(texts, async () => tokenizer, length);
      const truly = [...new Set(texts)].filter((text) => promptTokens(tokenizer, text, length).total > length);
      expect(cut.map(({ text }) => text)).toEqual(truly);
    }),
    { numRuns: 200 },
  );
}

describe("texts that are cut", () => {
  it("are those of more tokens than the length, with a tokenizer of letters", async () => {
    const tokenizer = parseTokenizer(letterTokenizer());
    // A piece before the first letter, and an end behind the last.
    expect(await cutTexts(["abcdef", "abcdefg", "abcdefg"], async () => tokenizer, 8)).toEqual([
      { text: "abcdefg", tokens: 9 },
    ]);
    await neverMisses(tokenizer);
  });

  it.skipIf(!sharedFolder)(
    `are those of the published tokenizer${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`,
    async () => neverMisses(await loadTokenizer(`${sharedFolder}golden/tokenizer.json`)),
  );

  it("need no tokenizer where every text is short", async () => {
    const open = () => Promise.reject(new Error("opened"));
    expect(await cutTexts(["a red circle", ""], open, 512)).toEqual([]);
    await expect(cutTexts(["x".repeat(600)], open, 512)).rejects.toThrow("opened");
  });
});
