// What the caches say while they are built.

/** A text with the tokens it has, its end included. */
export interface CutText {
  text: string;
  tokens: number;
}

export type CacheEvent =
  /** An entry was looked for; hashing new files takes its time. */
  | { type: "looked"; kind: "latents" | "texts"; done: number; of: number }
  /** Texts are longer than the `length` tokens that the model reads; the rest of them is not encoded. */
  | { type: "cut"; texts: readonly CutText[]; length: number }
  /** An entry was not as it was written (a flipped bit, a file cut off): it is made anew. */
  | { type: "damaged"; kind: "latents" | "texts"; name: string }
  /** Something that was missing was made; `reused` entries were there. */
  | { type: "cached"; kind: "latents" | "texts"; done: number; of: number; reused: number; name: string };
