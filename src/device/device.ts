// What a device is: memory and time. No arithmetic here; that is kernels.ts.
import type { Address } from "../ffi/host-memory.ts";
import type { Kernels } from "./kernels.ts";

/** What memory is for; the planner and out-of-memory errors report by it. */
export type MemoryCategory = "weights" | "gradients" | "optimizer" | "activations" | "workspace";

export type DeviceName = "cpu" | "reference" | "null";

/** A piece of a device's memory. Plain data: whoever allocated it frees it, once. */
export interface Block {
  readonly size: number;
  readonly category: MemoryCategory;
  /** Host devices only: where the memory is, and a view of it. */
  readonly address?: Address;
  readonly bytes?: Uint8Array;
}

export interface MemoryReport {
  /** Bytes in use now and the most at once since `resetPeak`. Mapped host memory is not counted. */
  live: number;
  peak: number;
  byCategory: Readonly<Record<MemoryCategory, { live: number; peak: number }>>;
}

export interface Device {
  readonly name: DeviceName;
  readonly kernels: Kernels;
  /** Uninitialised memory. Throws `memory.exhausted` (with what to change) where there is no more. */
  alloc(bytes: number, category: MemoryCategory): Block;
  free(block: Block): void;
  /** Counts a block under another purpose: a gradient that a parameter took over. Both must be transient ones. */
  recategorize(block: Block, category: MemoryCategory): void;
  /** A block over host memory that outlives it (a file map), without a copy; undefined where the device cannot. */
  mapHost(address: Address, bytes: number): Block | undefined;
  upload(target: Block, offset: number, source: Uint8Array): void;
  /** Waits for the work before it, then copies out. */
  download(source: Block, offset: number, bytes: number): Promise<Uint8Array>;
  copy(source: Block, sourceOffset: number, target: Block, targetOffset: number, bytes: number): void;
  synchronize(): Promise<void>;
  /** Gives freed memory that is kept for reuse back to the system: where a network goes, what it computed with goes too. */
  trim(): void;
  memory(): MemoryReport;
  resetPeak(): void;
  [Symbol.dispose](): void;
}
