// The unigram language model: the most likely way to cut a text into pieces, by Viterbi search over a trie.
// Knows nothing of files, normalisation or special tokens.
import type { PieceTrie } from "./piece-trie.ts";

/** An unknown character costs this much more than the least likely piece, in both implementations. */
const UNKNOWN_PENALTY = 10;

export interface UnigramOptions {
  trie: PieceTrie;
  /** Log probability of every piece id. */
  scores: Float64Array;
  /** The least score among the pieces that count, from which the score of an unknown character follows. */
  minScore: number;
  /** Id of the unknown piece; -1 where the file names none (then `segment` reports unknown characters as -1). */
  unknownId: number;
  /** sentencepiece adds path scores in float32, Hugging Face in float64; near ties fall differently. */
  precision: "float32" | "float64";
}

/** One piece of a segmentation: `text.slice(start, end)` is piece `id`. */
export interface Segment {
  id: number;
  start: number;
  end: number;
}

export class Unigram {
  readonly #options: UnigramOptions;
  readonly #unknownScore: number;
  // Best path to every position: its score, the piece it ends with, and where that piece starts (-1: unreached).
  #best = new Float64Array(256);
  #piece = new Int32Array(256);
  #start = new Int32Array(256);

  constructor(options: UnigramOptions) {
    this.#options = options;
    const score = options.minScore - UNKNOWN_PENALTY;
    this.#unknownScore = options.precision === "float32" ? Math.fround(score) : score;
  }

  /**
   * Cuts `text` (well-formed, already normalised) into pieces. Time is linear in the text times the longest piece.
   * https://github.com/google/sentencepiece/blob/273449044caa593c2fd7eb7550cb3ab2cff93f1a/src/unigram_model.cc#L889
   */
  segment(text: string): Segment[] {
    const { trie, scores, unknownId, precision } = this.#options;
    const single = precision === "float32";
    this.#reserve(text.length + 1);
    const [best, piece, start] = [this.#best, this.#piece, this.#start];
    start.fill(-1, 0, text.length + 1);
    best[0] = 0;
    for (let from = 0; from < text.length; ) {
      const here = best[from]!;
      const next = from + (text.codePointAt(from)! > 0xffff ? 2 : 1);
      let singleFound = false;
      let node = 0;
      for (let i = from; i < text.length; i++) {
        node = trie.step(node, text.charCodeAt(i));
        if (node < 0) break;
        const id = trie.valueAt(node);
        if (id < 0) continue;
        const to = i + 1;
        // sentencepiece up to 0.2.0 compares the sum before rounding it (its score is a double by promotion); later
        // builds round first. Only exact ties differ; the published tokenizers date from before.
        const score = scores[id]! + here;
        if (start[to]! < 0 || score > best[to]!) {
          best[to] = single ? Math.fround(score) : score;
          piece[to] = id;
          start[to] = from;
        }
        if (to === next) singleFound = true;
      }
      if (!singleFound) {
        const sum = this.#unknownScore + here;
        const score = single ? Math.fround(sum) : sum;
        if (start[next]! < 0 || score > best[next]!) {
          best[next] = score;
          piece[next] = unknownId;
          start[next] = from;
        }
      }
      from = next;
    }
    const segments: Segment[] = [];
    for (let end = text.length; end > 0; end = start[end]!) segments.push({ id: piece[end]!, start: start[end]!, end });
    return segments.reverse();
  }

  #reserve(length: number): void {
    if (this.#best.length >= length) return;
    const size = Math.max(length, this.#best.length * 2);
    this.#best = new Float64Array(size);
    this.#piece = new Int32Array(size);
    this.#start = new Int32Array(size);
  }
}
