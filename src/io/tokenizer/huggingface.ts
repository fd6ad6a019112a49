// Reads a Hugging Face `tokenizer.json` (unigram models) and tokenizes as the `tokenizers` library does.
// The pipeline: added tokens out, normalise, split at spaces, segment, put special ids around.
// https://github.com/huggingface/tokenizers/tree/3ba8ad0061a885baf052bbb7bbd22857e73e0c4e/tokenizers/src
import { z } from "zod";
import { KinoraError } from "../../base/errors.ts";
import { AddedTokens, addedTokenSchema } from "./added-tokens.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";
import { buildNormalizer, type Normalizer } from "./normalizers.ts";
import { PieceTrie } from "./piece-trie.ts";
import { buildPreTokenizer } from "./pre-tokenizers.ts";
import type { SpecialIds, TokenizerModel } from "./tokenizer.ts";
import { Unigram } from "./unigram.ts";

const unigramSchema = z.object({
  type: z.string().optional(),
  unk_id: z.int().nonnegative().nullish(),
  vocab: z.array(z.unknown()).min(1),
  byte_fallback: z.boolean().nullish(),
});

const fileSchema = z.object({
  added_tokens: z.array(addedTokenSchema).default([]),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  padding: z.looseObject({ pad_id: z.int().nonnegative() }).nullish(),
  model: z.looseObject({ type: z.string().optional() }),
});

const templateSchema = z.object({
  type: z.literal("TemplateProcessing"),
  single: z.array(
    z.union([
      z.object({ Sequence: z.object({ id: z.string() }) }),
      z.object({ SpecialToken: z.object({ id: z.string() }) }),
    ]),
  ),
  special_tokens: z.record(z.string(), z.object({ ids: z.array(z.int().nonnegative()) })),
});

/** The names the Wan text encoder's tokenizer and its relatives give their special tokens. */
const specialNames = { pad: "<pad>", eos: "</s>", bos: "<s>" } as const;

/** `json` is the parsed file. Throws `tokenizer.malformed` or `tokenizer.unsupported`. */
export function parseHuggingface(json: unknown): TokenizerModel {
  const file = check(fileSchema, json, "tokenizer.json");
  const vocabulary = readVocabulary(file.model);
  const normalizer = buildNormalizer(file.normalizer);
  const preTokenize = buildPreTokenizer(file.pre_tokenizer);
  const idOf = (token: string): number | undefined =>
    added.find((candidate) => candidate.content === token)?.id ?? vocabulary.trie.get(token);
  const added = file.added_tokens.filter((token) => token.content !== "");
  for (const token of added) {
    const id = vocabulary.trie.get(token.content);
    if (id !== undefined && id !== token.id) {
      throw malformed(`added token ${JSON.stringify(token.content)} is ${token.id}, but ${id} in the vocabulary`);
    }
  }
  const raw = new AddedTokens(added.filter((token) => !token.normalized));
  const normalized = new AddedTokens(
    added.filter((token) => token.normalized).map((token) => withNormalized(token, normalizer)),
  );
  const eosName = idOf(specialNames.eos);
  const template = readTemplate(file.post_processor, eosName);
  const eos = template.suffix.at(-1) ?? eosName;
  if (eos === undefined) throw malformed("it has no end-of-sequence token");
  const special: SpecialIds = {
    pad: file.padding?.pad_id ?? idOf(specialNames.pad),
    eos,
    bos: idOf(specialNames.bos),
    unk: vocabulary.unknown,
  };

  return {
    format: "huggingface",
    vocabularySize: added.reduce((size, { id }) => Math.max(size, id + 1), vocabulary.size),
    special,
    ...template,
    tokenize(text) {
      const ids: number[] = [];
      let first = true;
      for (const outer of raw.split(text)) {
        if (outer.id !== undefined) {
          ids.push(outer.id);
        } else {
          for (const inner of normalized.split(normalizer(outer.text))) {
            if (inner.id !== undefined) ids.push(inner.id);
            else for (const word of preTokenize({ text: inner.text, first })) vocabulary.append(word, ids);
            first = false;
          }
        }
        first = false;
      }
      return ids;
    },
  };
}

function malformed(message: string): KinoraError {
  return new KinoraError("tokenizer.malformed", `the tokenizer.json is broken: ${message}`, {
    hint: ANOTHER_TOKENIZER,
  });
}

/** Parses with zod; the first issue becomes the message. */
function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw malformed(`${[what, ...issue.path].join(".")}: ${issue.message}`);
}

function withNormalized<T extends { content: string }>(token: T, normalizer: Normalizer): T {
  return { ...token, content: normalizer(token.content) };
}

interface Vocabulary {
  trie: PieceTrie;
  size: number;
  unknown: number | undefined;
  /** Appends the ids of one word. */
  append(word: string, ids: number[]): void;
}

function readVocabulary(model: { type?: string | undefined }): Vocabulary {
  if (model.type !== undefined && model.type !== "Unigram") {
    throw new KinoraError("tokenizer.unsupported", "this tokenizer.json does not hold a unigram model", {
      expected: "Unigram",
      actual: model.type,
      hint: "Wan's text encoder uses the tokenizer of google/umt5-xxl.",
    });
  }
  const { unk_id: unknown, vocab, byte_fallback: byteFallback } = check(unigramSchema, model, "model");
  const trie = new PieceTrie();
  const scores = new Float64Array(vocab.length);
  let minScore = Number.POSITIVE_INFINITY;
  // By hand: a schema over 256k pairs would take longer than all the rest.
  vocab.forEach((entry, id) => {
    const [piece, score]: unknown[] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof piece !== "string" || typeof score !== "number" || !Number.isFinite(score)) {
      throw malformed(`model.vocab.${id} is not a pair of a piece and its score`);
    }
    trie.set(piece, id);
    scores[id] = serdeFloat(score);
    minScore = Math.min(minScore, scores[id]!);
  });
  if (unknown != null && unknown >= vocab.length) throw malformed(`model.unk_id ${unknown} is outside the vocabulary`);
  const unknownId = unknown ?? -1;
  const unigram = new Unigram({ trie, scores, minScore, unknownId, precision: "float64" });
  const encoder = new TextEncoder();

  /** A piece that is in no vocabulary: its bytes where the model has them all, or the unknown id. */
  const appendUnknown = (piece: string, ids: number[]): void => {
    if (byteFallback) {
      const bytes = Array.from(encoder.encode(piece), (byte) => trie.get(byteName(byte)));
      if (bytes.every((id) => id !== undefined)) {
        for (const id of bytes) ids.push(id);
        return;
      }
    }
    if (unknown == null) {
      throw new KinoraError(
        "tokenizer.no-unknown",
        `${JSON.stringify(piece)} is not in a vocabulary that has no unknown token`,
        { hint: ANOTHER_TOKENIZER },
      );
    }
    ids.push(unknown);
  };

  return {
    trie,
    size: vocab.length,
    unknown: unknown ?? undefined,
    append(word, ids) {
      const segments = unigram.segment(word);
      for (let i = 0; i < segments.length; i++) {
        const { id, start } = segments[i]!;
        if (id !== unknownId) {
          ids.push(id);
          continue;
        }
        // Neighbouring unknown characters fuse into one piece, which is then looked up as a whole.
        while (segments[i + 1]?.id === unknownId) i++;
        const piece = word.slice(start, segments[i]!.end);
        const known = trie.get(piece);
        if (known === undefined) appendUnknown(piece, ids);
        else ids.push(known);
      }
    },
  };
}

/**
 * The library's JSON reader rounds twice (the digits to a double, then their quotient by a power of ten), which can be
 * one unit off in the last place and decides between segmentations of equal likelihood ("aaaa" as aa·a·a or a·aa·a).
 * https://github.com/serde-rs/json/blob/v1.0.140/src/de.rs (f64_from_parts)
 */
function serdeFloat(value: number): number {
  const [mantissa, exponent] = Math.abs(value).toExponential().split("e");
  const [whole, fraction = ""] = mantissa!.split(".");
  const digits = Number(BigInt(whole! + fraction));
  const power = Number(exponent) - fraction.length;
  const magnitude = power < 0 ? digits / Number(`1e${-power}`) : digits * Number(`1e${power}`);
  return value < 0 ? -magnitude : magnitude;
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** The ids around a single sequence. Without a post-processor, the end of sequence alone: the encoder needs it. */
function readTemplate(spec: unknown, eos: number | undefined): { prefix: number[]; suffix: number[] } {
  if (spec === null || spec === undefined) return { prefix: [], suffix: eos === undefined ? [] : [eos] };
  const type = check(z.looseObject({ type: z.string() }), spec, "post_processor").type;
  if (type !== "TemplateProcessing") {
    throw new KinoraError("tokenizer.unsupported", `post-processor ${JSON.stringify(type)} is not supported`, {
      expected: "TemplateProcessing",
      hint: ANOTHER_TOKENIZER,
    });
  }
  const { single, special_tokens: tokens } = check(templateSchema, spec, "post_processor");
  const template = { prefix: [] as number[], suffix: [] as number[] };
  let sequences = 0;
  for (const item of single) {
    if ("Sequence" in item) {
      sequences++;
      continue;
    }
    const name = item.SpecialToken.id;
    const token = Object.hasOwn(tokens, name) ? tokens[name] : undefined;
    if (token === undefined) throw malformed(`post_processor names ${JSON.stringify(name)} without its ids`);
    (sequences === 0 ? template.prefix : template.suffix).push(...token.ids);
  }
  if (sequences !== 1) throw malformed(`post_processor.single has ${sequences} sequences instead of one`);
  return template;
}
