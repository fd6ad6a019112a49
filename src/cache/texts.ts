// The text encoder's answer to every caption and prompt, computed once for all runs.
import type { ContentHash } from "../io/content-hash.ts";
import { cleanText } from "../io/text-clean/index.ts";
import type { Tokenizer } from "../io/tokenizer/tokenizer.ts";
import { embedPrompt, promptTokens } from "../models/wan/prompt.ts";
import type { TextEncoder } from "../models/wan/text-encoder.ts";
import type { CacheEvent, CutText } from "./events.ts";
import { type CacheKey, type CacheStore, cacheKey } from "./store.ts";

export interface TextCacheOptions {
  store: CacheStore;
  encoder: { hash: ContentHash; dtype: "f32" | "bf16" };
  tokenizer: { hash: ContentHash; open: () => Promise<Tokenizer> };
  /** Opened where something is missing; disposed of at the end. */
  openEncoder: () => TextEncoder;
  /** Tokens that the model reads. */
  length: number;
  dtype?: "f32" | "bf16";
  signal?: AbortSignal;
}

const VERSION = 1;

/** The texts of more than `length` tokens; the tokenizer is opened where one may be. */
export async function cutTexts(
  texts: Iterable<string>,
  open: () => Promise<Tokenizer>,
  length: number,
): Promise<CutText[]> {
  // A token stands for a byte of the normalised text or more; one more may begin it and one ends it.
  const mayExceed = (text: string) => Buffer.byteLength(cleanText(text).normalize("NFKC")) + 2 > length;
  const long = [...new Set(texts)].filter(mayExceed);
  if (long.length === 0) return [];
  const tokenizer = await open();
  return long
    .map((text) => ({ text, tokens: promptTokens(tokenizer, text, length).total }))
    .filter(({ tokens }) => tokens > length);
}

/** Encodes what is missing. Returns the key of every distinct text. */
export async function* cacheTexts(
  texts: Iterable<string>,
  options: TextCacheOptions,
): AsyncGenerator<CacheEvent, Map<string, CacheKey>> {
  const { store, encoder, tokenizer, length, signal, dtype = "f32" } = options;
  const keys = new Map<string, CacheKey>();
  const missing = new Map<CacheKey, string>();
  const factsOf = (text: string) => ({
    kind: "texts",
    version: VERSION,
    text: cleanText(text),
    encoder: encoder.hash,
    tokenizer: tokenizer.hash,
    computed: encoder.dtype,
    length,
    stored: dtype,
  });
  const distinct = new Set(texts);
  let opened: Tokenizer | undefined;
  const open = async () => {
    opened ??= await tokenizer.open();
    return opened;
  };
  const cut = await cutTexts(distinct, open, length);
  if (cut.length > 0) yield { type: "cut", texts: cut, length };
  for (const text of distinct) {
    const key = cacheKey(factsOf(text));
    keys.set(text, key);
    const found = store.look("texts", key);
    if (found === "damaged") yield { type: "damaged", kind: "texts", name: text };
    if (found !== "sound") missing.set(key, text);
  }
  const reused = new Set(keys.values()).size - missing.size;
  yield { type: "cached", kind: "texts", done: 0, of: missing.size, reused, name: "" };
  if (missing.size === 0) return keys;
  const words = await open();
  using network = options.openEncoder();
  let done = 0;
  for (const [key, text] of missing) {
    signal?.throwIfAborted();
    const { values, tokens } = await embedPrompt(network, promptTokens(words, text, length));
    const embedding = { values, shape: [tokens, values.length / tokens] };
    await store.write("texts", key, { embedding }, dtype, factsOf(text));
    yield { type: "cached", kind: "texts", done: ++done, of: missing.size, reused, name: text };
  }
  return keys;
}
