// From a prompt to the embeddings the video models read: cleaned, tokenised, cut to their length, encoded.
import { KinoraError } from "../../base/errors.ts";
import { GgufFile } from "../../io/gguf.ts";
import { openTensorSource } from "../../io/tensor-source.ts";
import { cleanText } from "../../io/text-clean/index.ts";
import { ggufTokenizer } from "../../io/tokenizer/gguf.ts";
import { findTokenizerFile, loadTokenizer, parseTokenizer } from "../../io/tokenizer/load.ts";
import type { Tokenizer } from "../../io/tokenizer/tokenizer.ts";
import { openScope } from "../../tensor/scope.ts";
import type { WanModel } from "./params.ts";
import type { TextEncoder } from "./text-encoder.ts";

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/configs/shared_config.py#L20 */
const officialNegative =
  "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走";

/** What guidance leads away from unless told otherwise; the tiny models were trained with an empty text for it. */
export function defaultNegative(model: WanModel): string {
  return model.bundled ? "" : officialNegative;
}

/** The tensor under which ComfyUI's text encoder files keep their sentencepiece model. */
const INSIDE = "spiece_model";

/** True for a text encoder's file that carries its tokenizer inside. */
const isWeights = (path: string): boolean => /\.(?:safetensors|sft|pth|pt|bin|gguf)$/i.test(path);

/** The one file that `openTokenizer` reads for a path: what the result depends on. Throws `tokenizer.not-found`. */
export async function tokenizerFile(path: string): Promise<string> {
  return isWeights(path) ? path : findTokenizerFile(path);
}

/** A tokenizer's file or folder, or a text encoder file that carries its tokenizer inside. Throws `tokenizer.*`. */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  if (!isWeights(path)) return loadTokenizer(path);
  using source = openTensorSource(path);
  const listed = source instanceof GgufFile ? ggufTokenizer(source.values) : undefined;
  if (listed) return listed;
  if (!source.has(INSIDE)) {
    throw new KinoraError("tokenizer.not-found", `${path} contains no tokenizer`, {
      hint: "give the tokenizer's own folder or file (google/umt5-xxl of an official checkpoint)",
    });
  }
  return parseTokenizer(source.bytes(INSIDE).slice());
}

export interface PromptTokens {
  /** What the encoder reads; never more than the model's text length. */
  ids: Int32Array;
  /** Tokens of the whole text, its end included; more than `ids` where it was cut. */
  total: number;
}

/** https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/t5.py#L499-L513 */
export function promptTokens(tokenizer: Tokenizer, text: string, maxLength: number): PromptTokens {
  const cleaned = cleanText(text);
  const all = tokenizer.encode(cleaned);
  if (all.length <= maxLength) return { ids: Int32Array.from(all), total: all.length };
  const { ids, length } = tokenizer.encodePadded(cleaned, maxLength);
  return { ids: ids.slice(0, length), total: all.length };
}

/** Float32 [tokens, textDim] on the host. */
export interface TextEmbedding {
  values: Float32Array;
  tokens: number;
}

/** Throws `text.vocabulary` for ids that the encoder does not know: the tokenizer is another model's. */
export async function embedPrompt(encoder: TextEncoder, { ids }: PromptTokens): Promise<TextEmbedding> {
  const { vocabulary } = encoder.config;
  const highest = ids.reduce((most, id) => Math.max(most, id), 0);
  if (highest >= vocabulary) {
    throw new KinoraError("text.vocabulary", "the tokenizer does not match the text encoder", {
      expected: `ids below ${vocabulary}`,
      actual: `${highest}`,
      hint: "give the tokenizer of this text encoder",
    });
  }
  using _scope = openScope(encoder.device);
  return { values: await encoder.encode(ids).read(), tokens: ids.length };
}
