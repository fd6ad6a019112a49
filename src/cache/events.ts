// What the caches say while they are built.

export type CacheEvent =
  /** An entry was looked for; hashing new files takes its time. */
  | { type: "looked"; kind: "latents" | "texts"; done: number; of: number }
  /** Something that was missing was made; `reused` entries were there. */
  | { type: "cached"; kind: "latents" | "texts"; done: number; of: number; reused: number; name: string };
