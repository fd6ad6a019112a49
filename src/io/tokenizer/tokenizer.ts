// What every tokenizer offers, whichever file it came from: text to token ids, plain or padded to a length.
// The files are read in sentencepiece.ts and huggingface.ts; cleaning a prompt beforehand is ../text-clean.
import { KinoraError } from "../../base/errors.ts";

/** The text encoder takes 512 tokens; this only catches a mistyped length before it is allocated. */
const MAX_LENGTH = 1 << 20;

/** Ids with a role. Only `eos` is certain: the text encoder was trained with it behind every prompt. */
export interface SpecialIds {
  pad: number | undefined;
  eos: number;
  bos: number | undefined;
  unk: number | undefined;
}

/** What a file gives: ids for a text, and the ids its recipe puts around every text. */
export interface TokenizerModel {
  format: "huggingface" | "sentencepiece";
  vocabularySize: number;
  special: SpecialIds;
  /** Ids that go before and behind every text; the end-of-sequence id is among the latter. */
  prefix: readonly number[];
  suffix: readonly number[];
  /** Ids of well-formed `text` alone. */
  tokenize(text: string): number[];
}

export interface PaddedTokens {
  /** Token ids, padded on the right. [length] */
  ids: Int32Array;
  /** 1 for tokens, 0 for padding. [length] */
  mask: Uint8Array;
  /** Number of tokens before the padding, the closing one included. */
  length: number;
}

export class Tokenizer {
  readonly #model: TokenizerModel;

  constructor(model: TokenizerModel) {
    this.#model = model;
  }

  get format(): TokenizerModel["format"] {
    return this.#model.format;
  }

  get vocabularySize(): number {
    return this.#model.vocabularySize;
  }

  get special(): SpecialIds {
    return this.#model.special;
  }

  /** Token ids of `text`, the end-of-sequence id last. Lone surrogates become U+FFFD. */
  encode(text: string): number[] {
    const { prefix, suffix } = this.#model;
    return [...prefix, ...this.#model.tokenize(text.toWellFormed()), ...suffix];
  }

  /**
   * Ids of `text` cut or padded on the right to `length`; a cut text keeps its closing id, as
   * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/modules/tokenizers.py#L51 does with `max_length`.
   * Throws `tokenizer.no-pad` where the file has no padding id and `tokenizer.length` for an impossible length.
   */
  encodePadded(text: string, length: number): PaddedTokens {
    const { prefix, suffix, special } = this.#model;
    const room = length - prefix.length - suffix.length;
    if (!Number.isInteger(length) || room < 0 || length > MAX_LENGTH) {
      throw new KinoraError("tokenizer.length", "a padded length must hold the special tokens, and fit in memory", {
        expected: `an integer from ${prefix.length + suffix.length} to ${MAX_LENGTH}`,
        actual: String(length),
      });
    }
    if (special.pad === undefined) {
      throw new KinoraError("tokenizer.no-pad", "this tokenizer has no padding token", {
        hint: "Use the tokenizer that belongs to the text encoder (google/umt5-xxl).",
      });
    }
    const tokens = this.#model.tokenize(text.toWellFormed()).slice(0, room);
    const ids = new Int32Array(length).fill(special.pad);
    const mask = new Uint8Array(length);
    ids.set(prefix, 0);
    ids.set(tokens, prefix.length);
    ids.set(suffix, prefix.length + tokens.length);
    const used = prefix.length + tokens.length + suffix.length;
    mask.fill(1, 0, used);
    return { ids, mask, length: used };
  }
}
