// sentencepiece's precompiled character map: text normalisation rules (NFKC with a few additions) in a double array.
// Format: u32 size of the trie in bytes, the trie (darts-clone units over UTF-8), then NUL-terminated replacements.
// https://github.com/google/sentencepiece/blob/273449044caa593c2fd7eb7550cb3ab2cff93f1a/src/normalizer.cc#L224
import { KinoraError } from "../../base/errors.ts";
import { ANOTHER_TOKENIZER } from "./hint.ts";

/** The longest rule in the stock tables has 33 bytes; this only keeps a hostile file from inflating a prompt. */
const MAX_REPLACEMENT_BYTES = 1024;

const utf8 = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

/** Which rule wins where several match: sentencepiece takes the longest, Hugging Face's reader the shortest. */
export type RuleChoice = "longest" | "shortest";

/** A rule that matched: the text up to `end` becomes `replacement`. */
export interface RuleMatch {
  end: number;
  replacement: string;
}

export class Charsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;
  readonly #decoded = new Map<number, string>();

  /** Takes the table apart. Throws `tokenizer.malformed` where sizes do not fit. */
  constructor(blob: Uint8Array) {
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
    const trieBytes = blob.byteLength > 4 ? view.getUint32(0, true) : 0;
    if (trieBytes < 4 || trieBytes % 4 !== 0 || trieBytes > blob.byteLength - 4) {
      throw new KinoraError("tokenizer.malformed", "the precompiled character map is broken", {
        expected: "a trie of whole 32-bit units followed by its replacement strings",
        actual: `${blob.byteLength} bytes that announce a trie of ${trieBytes}`,
        hint: ANOTHER_TOKENIZER,
      });
    }
    this.#units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + i * 4, true));
    this.#replacements = blob.slice(4 + trieBytes);
  }

  /** The rule for a prefix of `text` from `start` on (ending on a whole character, at most at `limit`), if any. */
  match(text: string, start: number, limit: number, choice: RuleChoice): RuleMatch | undefined {
    const units = this.#units;
    let position = unitOffset(units[0]!);
    let rule: number | undefined;
    let ruleEnd = start;
    scan: for (let i = start; i < limit; ) {
      const codePoint = text.codePointAt(i)!;
      i += codePoint > 0xffff ? 2 : 1;
      const length = utf8Length(codePoint);
      for (let k = 0; k < length; k++) {
        const byte = utf8Byte(codePoint, length, k);
        position ^= byte;
        const unit = units[position];
        // The label sits in the low byte; a set top bit marks a value, which no byte equals.
        if (unit === undefined || (unit & 0x800000ff) !== byte) break scan;
        position ^= unitOffset(unit);
        if (k === length - 1 && (unit & 0x100) !== 0) {
          rule = (units[position] ?? 0) & 0x7fffffff;
          ruleEnd = i;
          if (choice === "shortest") break scan;
        }
      }
    }
    return rule === undefined ? undefined : { end: ruleEnd, replacement: this.#replacement(rule) };
  }

  #replacement(offset: number): string {
    const known = this.#decoded.get(offset);
    if (known !== undefined) return known;
    const end = this.#replacements.indexOf(0, offset);
    const stop = end < 0 ? this.#replacements.length : end;
    if (offset > this.#replacements.length || stop - offset > MAX_REPLACEMENT_BYTES) {
      throw new KinoraError(
        "tokenizer.malformed",
        "the precompiled character map points outside its replacement strings",
        {
          expected: `at most ${MAX_REPLACEMENT_BYTES} bytes within ${this.#replacements.length}`,
          actual: `offset ${offset}`,
          hint: ANOTHER_TOKENIZER,
        },
      );
    }
    const text = utf8.decode(this.#replacements.subarray(offset, stop));
    this.#decoded.set(offset, text);
    return text;
  }
}

function unitOffset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

function utf8Length(codePoint: number): number {
  return codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
}

/** Byte `k` of the `length`-byte UTF-8 form of `codePoint`. */
function utf8Byte(codePoint: number, length: number, k: number): number {
  if (length === 1) return codePoint;
  const bits = codePoint >>> (6 * (length - 1 - k));
  if (k > 0) return 0x80 | (bits & 0x3f);
  return (length === 2 ? 0xc0 : length === 3 ? 0xe0 : 0xf0) | bits;
}
