// Added tokens of a tokenizer.json: strings that become one id wherever they stand in the text, before any splitting.
// https://github.com/huggingface/tokenizers/blob/3ba8ad0061a885baf052bbb7bbd22857e73e0c4e/tokenizers/src/tokenizer/added_vocabulary.rs#L424
import { z } from "zod";
import { PieceTrie } from "./piece-trie.ts";

export const addedTokenSchema = z.object({
  id: z.int().nonnegative().max(0x7fffffff),
  content: z.string(),
  /** Only where no word character touches it. */
  single_word: z.boolean().default(false),
  /** Swallow white space before, behind. */
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  /** Look for it in the normalised text rather than the raw one. */
  normalized: z.boolean().default(true),
});

type AddedToken = z.infer<typeof addedTokenSchema>;

/** A stretch of text: an added token where `id` is set. */
export interface Split {
  text: string;
  id: number | undefined;
}

const wordBehind = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const space = /\p{White_Space}/u;

export class AddedTokens {
  readonly #tokens: readonly AddedToken[];
  readonly #trie = new PieceTrie();

  constructor(tokens: readonly AddedToken[]) {
    this.#tokens = tokens;
    tokens.forEach((token, index) => {
      this.#trie.set(token.content, index);
    });
  }

  /** `text` in order, cut at the leftmost longest added tokens; empty stretches are left out. */
  split(text: string): Split[] {
    const splits: Split[] = [];
    let done = 0;
    for (let i = 0; i < text.length; ) {
      const match = this.#tokens.length === 0 ? undefined : this.#trie.longestMatch(text, i);
      if (match === undefined) {
        i++;
        continue;
      }
      let start = i;
      let end = match.end;
      i = match.end;
      const token = this.#tokens[match.value]!;
      if (
        token.single_word &&
        (wordBefore.test(charBefore(text, start)) || wordBehind.test(text.slice(end, end + 2)))
      ) {
        continue;
      }
      if (token.lstrip) while (start > done && space.test(text[start - 1]!)) start--;
      if (token.rstrip) while (end < text.length && space.test(text[end]!)) end++;
      if (done < start) splits.push({ text: text.slice(done, start), id: undefined });
      splits.push({ text: text.slice(start, end), id: token.id });
      done = end;
    }
    if (done < text.length) splits.push({ text: text.slice(done), id: undefined });
    return splits;
  }
}

/** The character that ends at `end`, both halves of a surrogate pair. */
function charBefore(text: string, end: number): string {
  const wide = end > 1 && text.codePointAt(end - 2)! > 0xffff;
  return text.slice(Math.max(0, end - (wide ? 2 : 1)), end);
}
