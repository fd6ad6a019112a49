// kinora-tiny's tokenizer: the world's words as whole pieces, and letters for any other word, in the form of umt5-xxl's
// tokenizer.json.
import { captionVocabulary } from "./world/captions.ts";

/** Words beyond the world's that a LoRA's trigger phrase may want whole. */
export const spareWords = [
  "neon style look art film movie cartoon anime sketch pixel paint painting watercolor ink glass paper metal fire ice",
  "night day dark bright light glow glowing soft sharp old new my our his her very with and of for from by at it is are",
  "one two picture scene clip animation drawing render photo person man woman cat dog",
].flatMap((line) => line.split(" "));

const letters = [..."abcdefghijklmnopqrstuvwxyz"];
const signs = [...",.;:!?-'\"()0123456789"];

/** Pieces in the order of their ids. Special ones first, as in umt5-xxl. */
export function tinyVocabulary(): [piece: string, score: number][] {
  const words = [...new Set([...captionVocabulary(), ...spareWords])];
  return [
    ["<pad>", 0],
    ["</s>", 0],
    ["<unk>", 0],
    // A known word costs less than its letters, whatever they are.
    ...words.map((word): [string, number] => [`▁${word}`, -3]),
    ["▁", -6],
    ...letters.map((letter): [string, number] => [letter, -6]),
    ...signs.map((sign): [string, number] => [sign, -4]),
  ];
}

/** The file's text. */
export function tinyTokenizerJson(): string {
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const json = {
    version: "1.0",
    added_tokens: [special(0, "<pad>"), special(1, "</s>"), special(2, "<unk>")],
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "NFKC" }, { type: "Lowercase" }, { type: "Strip", strip_left: true, strip_right: true }],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "WhitespaceSplit" },
        { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
      ],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [],
      special_tokens: { "</s>": { id: "</s>", ids: [1], tokens: ["</s>"] } },
    },
    padding: null,
    model: { type: "Unigram", unk_id: 2, vocab: tinyVocabulary(), byte_fallback: false },
  };
  return `${JSON.stringify(json)}\n`;
}
