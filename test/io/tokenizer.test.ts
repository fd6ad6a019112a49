// The tokenizers against ids recorded from sentencepiece and Hugging Face tokenizers, and against broken files.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { graphemeEnds } from "../../src/io/tokenizer/graphemes.ts";
import { loadTokenizer, parseTokenizer } from "../../src/io/tokenizer/load.ts";
import { PieceTrie } from "../../src/io/tokenizer/piece-trie.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  addedToken,
  charsmapBlob,
  huggingfaceTokenizer,
  type PieceRow,
  type SentencepieceOptions,
  sentencepieceModel,
} from "../support/tokenizer-files.ts";

const path = temporaryFolder();

const charsmap = charsmapBlob({
  "\t": " ",
  "\r": " ",
  "\u3000": " ",
  "\u0007": "",
  ﬁ: "fi",
  é: "é",
  "e\u0301": "é",
  Ａ: "A",
  "½": "1⁄2",
});
const specials: PieceRow[] = [
  ["<pad>", 0, "control"],
  ["</s>", 0, "control"],
  ["<s>", 0, "control"],
  ["<unk>", 0, "unknown"],
];
const bytes: PieceRow[] = Array.from({ length: 256 }, (_, byte) => {
  return [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0, "byte"];
});
// Scores of "a", "aa" and "aaa" tie on purpose.
const words: PieceRow[] = Object.entries({
  ...{ "▁": -3, "▁the": -3.2, "▁cat": -5.5, "▁a": -3.9, a: -4.1, aa: -8.2, aaa: -12.3, t: -4.5, h: -4.8, e: -4.2 },
  ...{ c: -5.1, s: -4.9, "▁s": -5, f: -6, i: -6.1, fi: -7, é: -8, 猫: -9, 在: -9.2, 猫在: -11, "😀": -10 },
});
words.push(["1", -7], ["2", -7.5], ["⁄", -12], ["A", -7.1], [",", -5.2], ["n", -5]);
const vocabulary = [...specials, ...words];

const models: Record<string, SentencepieceOptions> = {
  plain: { pieces: vocabulary, charsmap },
  bytes: {
    pieces: [
      ...specials,
      ...bytes,
      ...words,
      ["<extra_id_0>", 0, "userDefined"],
      ["the", 0, "userDefined"],
      ["ﬁ", 0, "userDefined"],
      ["cat", -1, "unused"],
    ],
    charsmap,
    byteFallback: true,
  },
  suffix: { pieces: [...vocabulary, ["a▁", -3.5], ["cat▁", -5]], whitespaceAsSuffix: true, charsmap },
  spaces: { pieces: [...vocabulary, ["▁▁", -4]], removeExtraWhitespaces: false, dummyPrefix: false, charsmap },
  raw: { pieces: [...vocabulary, [" ", -4], [" the", -4]], escapeWhitespaces: false },
};

const precompiled = { type: "Precompiled", precompiled_charsmap: Buffer.from(charsmap).toString("base64") };
const metaspace = (settings: object) => ({ type: "Metaspace", replacement: "▁", ...settings });
const sequence = (key: string, steps: object[]) => ({ type: "Sequence", [key]: steps });
const usualTokens = [addedToken(0, "<pad>"), addedToken(1, "</s>"), addedToken(3, "<unk>")];

const files: Record<string, object> = {
  published: huggingfaceTokenizer(vocabulary, {
    normalizer: sequence("normalizers", [
      precompiled,
      { type: "Strip", strip_left: false, strip_right: true },
      { type: "Replace", pattern: { Regex: " {2,}" }, content: "▁" },
    ]),
    pre_tokenizer: metaspace({ add_prefix_space: true, prepend_scheme: "always", split: true }),
  }),
  older: huggingfaceTokenizer(vocabulary, {
    normalizer: precompiled,
    pre_tokenizer: sequence("pretokenizers", [{ type: "WhitespaceSplit" }, metaspace({ add_prefix_space: true })]),
  }),
  first: huggingfaceTokenizer(vocabulary, {
    normalizer: precompiled,
    pre_tokenizer: metaspace({ prepend_scheme: "first", split: false }),
  }),
  never: huggingfaceTokenizer(vocabulary, {
    normalizer: { type: "Lowercase" },
    pre_tokenizer: metaspace({ prepend_scheme: "never", add_prefix_space: false }),
  }),
  added: huggingfaceTokenizer(vocabulary, {
    normalizer: precompiled,
    added_tokens: [
      ...usualTokens,
      addedToken(31, "<extra_id_0>", { lstrip: true, rstrip: true }),
      addedToken(32, "cat", { single_word: true }),
      addedToken(33, "ﬁ", { normalized: true, special: false }),
      addedToken(34, "<extra"),
    ],
  }),
  bytes: huggingfaceTokenizer([...specials, ...bytes, ...words], {
    normalizer: precompiled,
    model: {
      type: "Unigram",
      unk_id: 3,
      byte_fallback: true,
      vocab: [...specials, ...bytes, ...words].map(([text, score]) => [text, score]),
    },
  }),
};

// Recorded by writing these very files and encoding the texts with sentencepiece 0.1.99 (plus its eos id) and
// Hugging Face tokenizers 0.23.3.
const recorded = JSON.parse(readFileSync(new URL("./tokenizer-ids.json", import.meta.url), "utf8")) as {
  texts: string[];
  sentencepiece: Record<string, string[]>;
  huggingface: Record<string, string[]>;
};
const json = (value: object): Uint8Array => Buffer.from(JSON.stringify(value));

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}

describe("ids", () => {
  test.each(Object.keys(models))("sentencepiece model %s", (name) => {
    const tokenizer = parseTokenizer(sentencepieceModel(models[name]!));
    expect(recorded.texts.map((text) => tokenizer.encode(text).join(" "))).toEqual(recorded.sentencepiece[name]);
  });

  test.each(Object.keys(files))("tokenizer.json %s", (name) => {
    const tokenizer = parseTokenizer(json(files[name]!));
    expect(recorded.texts.map((text) => tokenizer.encode(text).join(" "))).toEqual(recorded.huggingface[name]);
  });

  test("near ties fall as in each library: float32 sums compared unrounded, or float64 from serde's reading", () => {
    // All cuts of a run of "a" tie in exact arithmetic. Recorded like the rest.
    const tied: PieceRow[] = [...specials, ["▁", -1.1], ["a", -3.1], ["aa", -6.2], ["aaa", -9.3]];
    const sentencepiece = parseTokenizer(sentencepieceModel({ pieces: tied }));
    const huggingface = parseTokenizer(json(huggingfaceTokenizer(tied)));
    const lengths = [2, 3, 5, 8, 12, 20];
    const ids = (tokenizer: typeof sentencepiece) => lengths.map((n) => tokenizer.encode("a".repeat(n)).join(" "));
    expect(ids(sentencepiece)).toEqual([
      "4 6 1",
      "4 5 6 1",
      "4 5 6 6 1",
      "4 5 6 6 7 1",
      "4 5 6 6 7 7 5 1",
      "4 5 6 6 7 7 5 5 5 5 5 5 5 5 5 1",
    ]);
    expect(ids(huggingface)).toEqual([
      "4 6 1",
      "4 7 1",
      "4 6 7 1",
      "4 5 7 6 6 1",
      "4 5 7 6 7 7 1",
      "4 5 7 6 6 7 7 7 7 1",
    ]);
  });

  test("special ids come from the file", () => {
    const model = parseTokenizer(sentencepieceModel(models.plain!));
    expect(model.special).toEqual({ pad: 0, eos: 1, bos: 2, unk: 3 });
    const other: PieceRow[] = [
      ["<unk>", 0, "unknown"],
      ["</s>", 0, "control"],
      ["a", -1],
    ];
    const bare = parseTokenizer(sentencepieceModel({ pieces: other }));
    expect(bare.special).toEqual({ pad: undefined, eos: 1, bos: undefined, unk: 0 });
    expect(bare.vocabularySize).toBe(3);
    expect(codeOf(() => bare.encodePadded("a", 8))).toBe("tokenizer.no-pad");
  });

  test("lone surrogates count as U+FFFD", () => {
    const tokenizer = parseTokenizer(sentencepieceModel(models.bytes!));
    expect(tokenizer.encode("the\ud83d cat")).toEqual(tokenizer.encode("the\ufffd cat"));
  });
});

describe("padding", () => {
  const tokenizer = parseTokenizer(json(files.published!));

  test("short texts are padded, long ones cut before the closing id", () => {
    const short = tokenizer.encodePadded("the cat", 6);
    expect([...short.ids]).toEqual([5, 6, 1, 0, 0, 0]);
    expect([...short.mask]).toEqual([1, 1, 1, 0, 0, 0]);
    expect(short.length).toBe(3);
    const long = tokenizer.encodePadded("the the the the the", 4);
    expect([...long.ids]).toEqual([5, 5, 5, 1]);
    expect(long.length).toBe(4);
    expect([...tokenizer.encodePadded("the", 1).ids]).toEqual([1]);
  });

  test("impossible lengths are named", () => {
    for (const length of [0, -1, 2.5, Number.NaN, 1e12]) {
      expect(codeOf(() => tokenizer.encodePadded("a", length))).toBe("tokenizer.length");
    }
  });

  test("is the encoding, for any text and length", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 30 }), (text, length) => {
        const ids = tokenizer.encode(text);
        const padded = tokenizer.encodePadded(text, length);
        const kept = ids.length <= length ? ids : [...ids.slice(0, length - 1), 1];
        expect([...padded.ids.subarray(0, padded.length)]).toEqual(kept);
        expect(padded.mask.reduce((sum, bit) => sum + bit, 0)).toBe(padded.length);
      }),
    );
  });
});

describe("size", () => {
  test("a 256k vocabulary loads, and 10,000 characters are encoded, in moments", () => {
    const large: PieceRow[] = [...vocabulary];
    for (let i = 0; large.length < 256_000; i++) large.push([`▁0${i.toString(36)}`, -12 - i / 256_000]);
    const prompt = "the cat 12 猫在 Ａé ".repeat(700).slice(0, 10_000);
    for (const file of [
      sentencepieceModel({ pieces: large, charsmap }),
      json(huggingfaceTokenizer(large, { normalizer: precompiled })),
    ]) {
      expect(parseTokenizer(file).encode(prompt).length).toBeGreaterThan(4000);
    }
  });

  test("time grows with the length of a text, not its square", () => {
    const tokenizer = parseTokenizer(json(files.published!));
    for (const unit of ["a", "猫", "e\u0301", "  ", "<unk", "🇫🇷"]) {
      // Squared, it would not end within the test's time.
      expect(tokenizer.encode(unit.repeat(100_000)).at(-1), unit).toBe(tokenizer.special.eos);
    }
  });
});

describe("files", () => {
  test("a folder stands for its tokenizer.json, or else its model", async () => {
    mkdirSync(path("umt5"));
    writeFileSync(path("umt5/spiece.model"), sentencepieceModel(models.plain!));
    expect((await loadTokenizer(path("umt5"))).format).toBe("sentencepiece");
    writeFileSync(path("umt5/tokenizer.json"), json(files.published!));
    expect((await loadTokenizer(path("umt5"))).format).toBe("huggingface");
    expect((await loadTokenizer(path("umt5/spiece.model"))).format).toBe("sentencepiece");
  });

  test("a missing one is named", async () => {
    mkdirSync(path("nothing"));
    await expect(loadTokenizer(path("nothing"))).rejects.toMatchObject({ code: "tokenizer.not-found" });
    await expect(loadTokenizer(path("nowhere"))).rejects.toMatchObject({ code: "tokenizer.not-found" });
  });

  test("a broken one is named", async () => {
    writeFileSync(path("broken.json"), '{"model": 1');
    await expect(loadTokenizer(path("broken.json"))).rejects.toMatchObject({
      code: "tokenizer.malformed",
      message: expect.stringContaining("broken.json"),
    });
  });

  test("a byte-order mark and white space before the JSON do no harm", () => {
    expect(parseTokenizer(Buffer.from(`\ufeff\n ${JSON.stringify(files.published!)}`)).format).toBe("huggingface");
  });
});

describe("files that are refused", () => {
  const spoiled = (changes: object): Uint8Array => json({ ...files.published!, ...changes });
  let nested: object = { type: "NFC" };
  for (let i = 0; i < 500; i++) nested = sequence("normalizers", [nested]);
  const cases: [string, string, () => Uint8Array][] = [
    ["an empty file", "tokenizer.malformed", () => new Uint8Array()],
    ["text", "protobuf.malformed", () => Buffer.from("hello there, this is no tokenizer")],
    ["cut JSON", "tokenizer.malformed", () => json(files.published!).subarray(0, 900)],
    ["another kind of model", "tokenizer.unsupported", () => json({ model: { type: "BPE", vocab: {}, merges: [] } })],
    ["no vocabulary", "tokenizer.malformed", () => spoiled({ model: { type: "Unigram" } })],
    [
      "an unknown id outside the vocabulary",
      "tokenizer.malformed",
      () => spoiled({ model: { type: "Unigram", unk_id: 9, vocab: [["a", 0]] } }),
    ],
    [
      "a vocabulary entry without score",
      "tokenizer.malformed",
      () => spoiled({ model: { type: "Unigram", unk_id: 0, vocab: [["a", 0], ["b"]] } }),
    ],
    ["an unknown normaliser", "tokenizer.unsupported", () => spoiled({ normalizer: { type: "Magic" } })],
    ["a normaliser nested without end", "tokenizer.unsupported", () => spoiled({ normalizer: nested })],
    [
      "a pattern that could run away",
      "tokenizer.unsupported",
      () => spoiled({ normalizer: { type: "Replace", pattern: { Regex: "(a+)+$" }, content: "" } }),
    ],
    ...["(a|b)c", "^ +", "a.b", "a+b*"].map((Regex): (typeof cases)[number] => [
      `the pattern ${Regex}`,
      "tokenizer.unsupported",
      () => spoiled({ normalizer: { type: "Replace", pattern: { Regex }, content: "" } }),
    ]),
    [
      "a broken character map",
      "tokenizer.malformed",
      () => spoiled({ normalizer: { type: "Precompiled", precompiled_charsmap: "AAAAAA==" } }),
    ],
    ["an unknown pre-tokenizer", "tokenizer.unsupported", () => spoiled({ pre_tokenizer: { type: "ByteLevel" } })],
    [
      "settings that contradict each other",
      "tokenizer.malformed",
      () => spoiled({ pre_tokenizer: metaspace({ add_prefix_space: false, prepend_scheme: "always" }) }),
    ],
    [
      "a template without its token",
      "tokenizer.malformed",
      () =>
        spoiled({
          post_processor: {
            type: "TemplateProcessing",
            single: [{ Sequence: { id: "A" } }, { SpecialToken: { id: "__proto__" } }],
            special_tokens: {},
          },
        }),
    ],
    [
      "an added token whose id the vocabulary disputes",
      "tokenizer.malformed",
      () => spoiled({ added_tokens: [addedToken(7, "</s>")] }),
    ],
    ["a BPE model", "tokenizer.unsupported", () => sentencepieceModel({ pieces: vocabulary, modelType: 2 })],
    ["a model without pieces", "tokenizer.malformed", () => sentencepieceModel({ pieces: [] })],
    ["a model without unknown piece", "tokenizer.malformed", () => sentencepieceModel({ pieces: words })],
    [
      "a model without end of sequence",
      "tokenizer.malformed",
      () => sentencepieceModel({ pieces: [["<unk>", 0, "unknown"], ...words] }),
    ],
    ["a piece given twice", "tokenizer.malformed", () => sentencepieceModel({ pieces: [...vocabulary, ["a", -1]] })],
    ["an empty piece", "tokenizer.malformed", () => sentencepieceModel({ pieces: [...vocabulary, ["", -1]] })],
    [
      "a score that is not a number",
      "tokenizer.malformed",
      () => sentencepieceModel({ pieces: [...vocabulary, ["x", Number.NaN]] }),
    ],
    [
      "byte fall-back without the bytes",
      "tokenizer.malformed",
      () => sentencepieceModel({ pieces: [...vocabulary, ...bytes.slice(0, 255)], byteFallback: true }),
    ],
    [
      "a character map larger than its file",
      "tokenizer.malformed",
      () => sentencepieceModel({ pieces: vocabulary, charsmap: Uint8Array.of(255, 255, 255, 127, 0, 0, 0, 0) }),
    ],
  ];

  test.each(cases)("%s", (_, code, make) => {
    expect(codeOf(() => parseTokenizer(make()))).toBe(code);
  });

  test("a replacement that would inflate prompts is refused when it is met", () => {
    const inflating = charsmapBlob({ x: "y".repeat(5000) });
    const tokenizer = parseTokenizer(sentencepieceModel({ pieces: vocabulary, charsmap: inflating }));
    expect(codeOf(() => tokenizer.encode("xxx"))).toBe("tokenizer.malformed");
  });

  test("a text that a vocabulary without unknown token cannot express", () => {
    const file = { ...files.published!, model: { type: "Unigram", vocab: vocabulary.map(([t, s]) => [t, s]) } };
    expect(codeOf(() => parseTokenizer(json(file)).encode("ж"))).toBe("tokenizer.no-unknown");
  });

  test("1,000 corruptions of both kinds either load or give a coded error", () => {
    const originals = [sentencepieceModel(models.bytes!), json(files.published!)];
    let refused = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...originals),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }),
        fc.option(fc.nat(), { freq: 1 }),
        (original, edits, cut) => {
          const file = original.slice(0, cut === null ? original.length : cut % original.length);
          for (const [at, value] of edits) if (file.length > 0) file[at % file.length] = value;
          const code = codeOf(() => {
            const tokenizer = parseTokenizer(file);
            for (const text of recorded.texts) tokenizer.encode(text);
          });
          if (code !== "no error") refused++;
          expect(code).toMatch(/^no error$|^(tokenizer|protobuf)\./);
        },
      ),
      { numRuns: 1000 },
    );
    expect(refused).toBeGreaterThan(100);
  });
});

describe("parts", () => {
  test("the trie is a map, and finds the longest key at a place", () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 5, unit: fc.constantFrom("a", "b", "é", "😀") })),
        fc.string(),
        (keys, text) => {
          const trie = new PieceTrie();
          const map = new Map<string, number>();
          keys.forEach((key, i) => {
            trie.set(key, i);
            if (key !== "") map.set(key, i);
          });
          for (const key of [...keys, text]) expect(trie.get(key)).toBe(map.get(key));
          const joined = keys.join("") + text;
          for (let at = 0; at < joined.length; at++) {
            const longest = [...map.keys()]
              .filter((key) => joined.startsWith(key, at))
              .sort((a, b) => b.length - a.length)[0];
            const found = trie.longestMatch(joined, at);
            expect(found && joined.slice(at, found.end)).toBe(longest);
          }
        },
      ),
    );
  });

  test("grapheme clusters are those of the platform's segmenter", () => {
    const segmenter = new Intl.Segmenter("und", { granularity: "grapheme" });
    const unit = fc.oneof(
      fc.constantFrom(
        "a",
        "e\u0301",
        "\r\n",
        "\r",
        "\n",
        "👨‍👩‍👧‍👦",
        "🇫🇷",
        "🇩",
        "\u200d",
        "क्‍ष",
        "한",
        "ᄒ",
        "ᅡ",
        "\u0301",
      ),
      fc.string({ unit: "binary", maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 40 }), fc.integer({ min: 1, max: 60 }), (parts, times) => {
        const text = parts.join("").repeat(times).toWellFormed();
        const expected = Array.from(segmenter.segment(text), ({ index, segment }) => index + segment.length);
        expect([...graphemeEnds(text)]).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });
});
