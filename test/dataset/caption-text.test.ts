import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  beginsWithTrigger,
  cleanAnswer,
  cutToSentence,
  estimateTokens,
  isRefusal,
  withTrigger,
} from "../../src/dataset/caption/caption-text.ts";

describe("the trigger phrase", () => {
  const style = "Studio Ghibli style";

  test.each([
    ["A girl runs.", "Studio Ghibli style. A girl runs."],
    ["Studio Ghibli style. A girl runs.", "Studio Ghibli style. A girl runs."],
    ["In Studio Ghibli style, a girl runs.", "Studio Ghibli style. A girl runs."],
    ['"studio ghibli style": a girl runs.', "Studio Ghibli style. A girl runs."],
    ["Studio-Ghibli style - studio_ghibli STYLE. A girl runs.", "Studio Ghibli style. A girl runs."],
    ["A girl, drawn in the Studio Ghibli style, runs.", "Studio Ghibli style. A girl, runs."],
    ["A girl runs in the style of Studio Ghibli style.", "Studio Ghibli style. A girl runs."],
    ["A girl runs. Studio Ghibli style.", "Studio Ghibli style. A girl runs."],
    ["Studio Ghibli styles vary.", "Studio Ghibli style. Studio Ghibli styles vary."],
    ["Studio Ghibli style.", ""],
  ])("%j", (answer, caption) => {
    expect(withTrigger(answer, style)).toBe(caption);
  });

  test("a name inside a sentence leaves its last word", () => {
    expect(withTrigger("A tall ohwx man walks. Ohwx man smiles.", "ohwx man", { separator: ", " })).toBe(
      "ohwx man, a tall man walks. The man smiles.",
    );
  });

  test("an instruction that uses the trigger keeps it inside", () => {
    expect(withTrigger("ohwx man: an ohwx man walks.", "ohwx man", { inside: "keep" })).toBe(
      "ohwx man. An ohwx man walks.",
    );
  });

  test("a trigger with its own full stop needs no other", () => {
    expect(withTrigger("sks, a dog barks", "sks.")).toBe("sks. A dog barks");
    expect(withTrigger("a (very) $1 dog", "a+b (c)$1", { separator: " " })).toBe("a+b (c)$1 a (very) $1 dog");
  });

  test("triggers of signs only, and hostile answers, come to an end", () => {
    for (const trigger of ["_", "--", "...", "(", "a a a"])
      expect(withTrigger(`A ${trigger} dog. ${trigger} ${trigger}`, trigger).startsWith(trigger)).toBe(true);
    for (const piece of ["(", " ,", "in a ", "\n ", "**a", "* ", "\n#", "Studio ", "<think>"])
      expect(withTrigger(cleanAnswer(`${piece.repeat(20_000)}x`), style).startsWith(style)).toBe(true);
  });

  test("no trigger, no change", () => {
    expect(withTrigger(" A girl. ", "  ")).toBe("A girl.");
  });

  test("a longer word is not the trigger", () => {
    expect(beginsWithTrigger("sky is blue", "sk")).toBe(false);
    expect(beginsWithTrigger("sk, sky", "sk")).toBe(true);
    expect(beginsWithTrigger("sk. Sky", "sk.")).toBe(true);
  });

  const word = fc.stringMatching(/^[a-zäA-Z][a-z0-9]{0,5}$/);
  const signs = fc.constantFrom(".", ",", ":", "(", "-", "?");
  const triggers = ["sks", "ohwx man", "Studio Ghibli style", "a a a", "The The", "über Öl", "猫", "x-y_z", "sks."];

  test.each(triggers)("%s is first, as given, exactly once, and a second time changes nothing", (phrase) => {
    const core = phrase.replace(".", "");
    const echoes = [
      phrase,
      phrase.toUpperCase(),
      phrase.replaceAll(" ", "-"),
      `**${phrase}**`,
      `in ${phrase}`,
      `drawn in the ${core}`,
    ];
    const pieces = fc.array(fc.oneof(word, signs, fc.constantFrom(...echoes, ...core.split(" "))), {
      minLength: 1,
      maxLength: 14,
    });
    const mention = new RegExp(
      `(?<![\\p{L}\\p{M}\\p{N}_])${core.replaceAll(/[ _-]/g, "[\\s_-]+")}(?![\\p{L}\\p{M}\\p{N}_])`,
      "giu",
    );
    fc.assert(
      fc.property(pieces, fc.constantFrom(". ", ", ", " "), (answer, separator) => {
        const caption = withTrigger(answer.join(" "), phrase, { separator });
        if (caption === "") return;
        expect(caption.startsWith(phrase + (phrase === core ? separator : " "))).toBe(true);
        expect(caption.match(mention)).toHaveLength(1);
        expect(withTrigger(caption, phrase, { separator })).toBe(caption);
      }),
      { numRuns: 300 },
    );
  });
});

describe("what models wrap around a caption", () => {
  test.each([
    ['Sure! Here is the description:\n\n"A girl **runs** fast.\n\nShe *laughs*."', "A girl runs fast. She laughs."],
    ["<think>Let me see.\nA dog?</think>\n\nA dog barks.", "A dog barks."],
    ["hidden thoughts</think>A dog barks.", "A dog barks."],
    ["A dog <thinking>a cat?</thinking>barks <think>no</think>loudly.", "A dog barks loudly."],
    ["lost</think> <think>a</think>A dog barks.", "A dog barks."],
    ["### Caption\n- A dog barks.\n- It snows.", "A dog barks. It snows."],
    ["Caption: 'A dog isn't here.'", "A dog isn't here."],
    ["```text\nA dog.\n```", "A dog."],
    ['"No", says the sign that reads "Yes"', '"No", says the sign that reads "Yes"'],
    ["The video caption shop sells 2 * 3 * 4 signs.", "The video caption shop sells 2 * 3 * 4 signs."],
    ["Of course she runs: the dog follows.", "Of course she runs: the dog follows."],
    ["A \u001b[31mred\u001b[0m dog\u001b]0;title\u0007 ba\u0000rks\u202e.\r\nIt snows.", "A red dog barks. It snows."],
    ["  ", ""],
  ])("%j", (answer, text) => {
    expect(cleanAnswer(answer)).toBe(text);
  });

  test("refusals are told from captions", () => {
    expect(isRefusal("I'm sorry, but I can't assist with that.")).toBe(true);
    expect(isRefusal("I cannot describe the people in this image.")).toBe(true);
    expect(isRefusal("I’m unable to view videos.")).toBe(true);
    expect(isRefusal("Unfortunately, I do not see a picture.")).toBe(true);
    expect(isRefusal("A sorry dog sits where it can't be helped.")).toBe(false);
    expect(isRefusal(`I can't help but describe ${"a long scene ".repeat(60)}`)).toBe(false);
  });

  test("a cut caption ends with a sentence", () => {
    expect(cutToSentence("A dog barks. It snows on the fi")).toBe("A dog barks.");
    expect(cutToSentence("A. It snows on the field and on the ho")).toBe("A. It snows on the field and on the ho");
  });

  test("the estimate of tokens is near and not below what UMT5 makes of English and Chinese", () => {
    // 21 words and 2 signs; 15 letters and a sign.
    expect(
      estimateTokens(
        "A stick figure of coloured joints dances on a black background, while a grey cat watches it from a small red stool.",
      ),
    ).toBeGreaterThanOrEqual(24);
    expect(estimateTokens("一只黑色的大狗站在雪地的岩石上。")).toBeGreaterThanOrEqual(16);
    expect(estimateTokens("word ".repeat(600))).toBeGreaterThan(512);
  });
});
