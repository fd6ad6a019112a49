// What every weight file looks like to a loader: names, shapes and bytes, wherever they lie.
// Not the formats themselves (safetensors.ts, torch-zip.ts) nor the choice between them (tensor-source.ts).

import { type BlockFormat, blockBytes } from "../base/block-format.ts";
import { bytesOf, type DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { elementCount } from "../base/shape.ts";
import type { Address } from "../ffi/host-memory.ts";

export interface TensorInfo {
  /** Of the bytes; u8 where they are blocks. */
  readonly dtype: DType;
  /** What the bytes hold, where they are blocks: `shape` counts their elements. */
  readonly blocks?: BlockFormat | undefined;
  /** Row-major; empty for a scalar. */
  readonly shape: readonly number[];
}

/** Bytes that a tensor takes. */
export function tensorBytes({ dtype, shape, blocks }: TensorInfo): number {
  const count = elementCount(shape);
  return blocks ? blockBytes(blocks, count) : count * bytesOf(dtype);
}

export type TensorFormat = "safetensors" | "safetensors (sharded)" | "torch zip" | "torch zip (sharded)" | "gguf";

/** A file, or a folder of shards, of named tensors. Dispose it to let go of the memory maps. */
export interface TensorSource {
  readonly path: string;
  readonly format: TensorFormat;
  /** In the order of their data, which is the cheap order to read them in. */
  readonly names: readonly string[];
  /** What the file says about itself, as strings; its prototype is null. */
  readonly metadata: Readonly<Record<string, string>>;
  has(name: string): boolean;
  /** Throws `tensors.unknown-name`. */
  info(name: string): TensorInfo;
  /**
   * The tensor's row-major little-endian bytes; a view of the file where they lie there as such (valid until the
   * source is disposed, at any alignment), else a copy.
   */
  bytes(name: string): Uint8Array;
  /** Where the tensor's bytes are mapped, or undefined where they had to be gathered or decompressed. */
  address(name: string): Address | undefined;
  /** Has the mapped pages of a tensor read from the disk, without waiting for them. */
  readAhead(name: string): void;
  /** Lets the system drop the mapped pages of a tensor that has been read. */
  discard(name: string): void;
  [Symbol.dispose](): void;
}

/** Among more names than any model has, looking for the nearest would take too long. */
const NEAREST_AMONG = 5000;

export function unknownTensor(path: string, name: string, names: readonly string[]): KinoraError {
  const near = names.length <= NEAREST_AMONG ? nearestName(name, names) : undefined;
  return new KinoraError("tensors.unknown-name", `no tensor ${JSON.stringify(name)} in ${path}`, {
    hint: near ? `did you mean ${near}?` : "kinora models inspect FILE --names lists what it holds",
  });
}
