// One parameter as a file has it: plain numbers, numbers with scales, or whole blocks; and its values on the host.
import { type BlockFormat, blockBytes, widenBlocks } from "../base/block-format.ts";
import { bytesOf, type DType } from "../base/dtype.ts";
import { toFloat32 } from "../base/float-formats.ts";
import { elementCount, type Shape } from "../base/shape.ts";
import type { Address } from "../ffi/host-memory.ts";
import { isPlainFloat } from "./frozen-weight.ts";

/** A parameter under its official name and shape. Plain data. */
export interface StoredWeight {
  /** Of the bytes; u8 where they are blocks. */
  readonly dtype: DType;
  /** What the bytes hold where they are whole blocks in row-major order; then `shape` counts their elements. */
  readonly blocks?: BlockFormat | undefined;
  readonly shape: Shape;
  /** The bytes, row-major; a view that is valid while the reader is open. */
  bytes(): Uint8Array;
  /** Where the bytes are, if they are plain host memory that outlives the model: no copy is made then. */
  readonly address?: Address;
  /** Says that the bytes will be read soon, so that they can be on their way from the disk. */
  readAhead?(): void;
  /** Says that the bytes will not be read again soon, so that a file's pages need not stay in memory. */
  discard?(): void;
  /** Quantised weights: value = stored · scale; granularity by shape, see LinearWeight. */
  readonly scale?: { readonly values: Float32Array; readonly shape: Shape };
}

/** Whether the values take more than a cast: a scale, or bits that are no float by themselves. */
export const isQuantized = ({ dtype, scale, blocks }: StoredWeight): boolean =>
  scale !== undefined || blocks !== undefined || !isPlainFloat(dtype);

/** Bytes of a weight as it is stored, scales apart. */
export function storedBytes({ dtype, shape, blocks }: StoredWeight): number {
  const count = elementCount(shape);
  return blocks ? blockBytes(blocks, count) : count * bytesOf(dtype);
}

/** The shape that the stored bytes have as a tensor of their dtype: of blocks [N, bytes of a row], or all bytes in a row. */
export function dataShape(stored: StoredWeight): Shape {
  const { blocks, shape } = stored;
  if (!blocks) return shape;
  return inRows(stored) ? [shape[0]!, blockBytes(blocks, shape[1]!)] : [storedBytes(stored)];
}

/** Whether each row of a matrix is whole blocks. */
export const inRows = ({ shape, blocks }: StoredWeight): boolean =>
  shape.length === 2 && blocks !== undefined && shape[1]! % blocks.elements === 0;

/** The stored values as float32, scales applied: on the host, one weight at a time. */
export function storedValues(stored: StoredWeight): Float32Array {
  const { blocks, dtype, scale, shape } = stored;
  const values = blocks ? new Float32Array(elementCount(shape)) : toFloat32(stored.bytes(), dtype);
  if (blocks) widenBlocks(blocks, stored.bytes(), values);
  if (!scale) return values;
  const factors = scale.values;
  const span = values.length / factors.length;
  for (const [group, factor] of factors.entries()) {
    for (let i = group * span; i < (group + 1) * span; i++) values[i]! *= factor;
  }
  return values;
}

/** The same as a stored weight, for devices that take no blocks. */
export function widened(stored: StoredWeight): StoredWeight {
  return {
    dtype: "f32",
    shape: stored.shape,
    bytes() {
      const { buffer } = storedValues(stored);
      return new Uint8Array(buffer);
    },
    readAhead: () => stored.readAhead?.(),
    discard: () => stored.discard?.(),
  };
}

/** Some rows (along the first axis) of a weight whose rows are whole blocks. */
export function rowsOf(stored: StoredWeight, start: number, count: number): StoredWeight {
  const { dtype, blocks, scale, shape } = stored;
  const rows = shape[0]!;
  const size = storedBytes(stored) / rows;
  const bytes = () => stored.bytes().subarray(start * size, (start + count) * size);
  const part = { dtype, blocks, shape: [count, ...shape.slice(1)], bytes };
  if (!scale) return part;
  if (elementCount(scale.shape) === 1) return { ...part, scale };
  const { values } = scale;
  const perRow = values.length / rows;
  const own = values.subarray(start * perRow, (start + count) * perRow);
  return { ...part, scale: { shape: [count, perRow, 1], values: own } };
}
