// Number formats of blocks: some elements in some bytes that only make sense together, as quantised weights are stored.
// The formats themselves: ggml/, comfy-blocks.ts.

/** Widens one block: reads it at `at` of `bytes`, writes its elements from `to` of `out`. Arithmetic is float32's. */
export type WidenBlock = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

export interface BlockFormat {
  readonly name: string;
  /** Elements of a block; a power of two. */
  readonly elements: number;
  readonly bytes: number;
  readonly widen: WidenBlock;
}

/** Bytes that `elements` take; whole blocks. */
export const blockBytes = ({ elements, bytes }: BlockFormat, count: number): number => (count / elements) * bytes;

/** Widens whole blocks into `out`, which has room for all of them. */
export function widenBlocks(format: BlockFormat, bytes: Uint8Array, out: Float32Array): void {
  const { elements, bytes: size, widen } = format;
  for (let at = 0, to = 0; at + size <= bytes.length; at += size, to += elements) widen(bytes, at, out, to);
}
