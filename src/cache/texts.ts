// The text encoder's answer to every caption and prompt, computed once for all runs.
import type { ContentHash } from "../io/content-hash.ts";
import { cleanText } from "../io/text-clean/index.ts";
import type { Tokenizer } from "../io/tokenizer/tokenizer.ts";
import { embedPrompt, promptTokens } from "../models/wan/prompt.ts";
import type { TextEncoder } from "../models/wan/text-encoder.ts";
import type { CacheEvent } from "./events.ts";
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
  for (const text of new Set(texts)) {
    const key = cacheKey(factsOf(text));
    keys.set(text, key);
    if (!store.has("texts", key)) missing.set(key, text);
  }
  const reused = new Set(keys.values()).size - missing.size;
  yield { type: "cached", kind: "texts", done: 0, of: missing.size, reused, name: "" };
  if (missing.size === 0) return keys;
  const words = await tokenizer.open();
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
