// What a device is: memory, time, and copies beside its kernels. No arithmetic here; that is kernels.ts.
import type { DType } from "../base/dtype.ts";
import type { Address } from "../ffi/host-memory.ts";
import type { Kernels } from "./kernels.ts";

/** What memory is for; the planner and out-of-memory errors report by it. */
export const memoryCategories = ["weights", "gradients", "optimizer", "activations", "workspace"] as const;
/** What memory is used for; reports count each apart. */
export type MemoryCategory = (typeof memoryCategories)[number];

/** A piece of a device's memory, opaque to everyone but the device. Whoever allocated it frees it, once. */
export interface Block {
  readonly size: number;
  readonly category: MemoryCategory;
}

/** What a device holds. */
export interface MemoryReport {
  /** Bytes in use now and the most at once since `resetPeak`. Mapped host memory is not counted. */
  live: number;
  peak: number;
  byCategory: Readonly<Record<MemoryCategory, { live: number; peak: number }>>;
}

/** Bytes. */
export interface Capacity {
  total: number;
  /** Not in use by anyone, this process included. */
  free: number;
}

/** A point in a device's work: everything that was asked for before it. */
export interface DeviceEvent {
  /** Resolves when the device is past it. */
  passed(): Promise<void>;
}

/**
 * Copies into a device that run beside its kernels, in order. Two steps: `upload` and `event` on the stream, then
 * `device.wait(event)` before the kernels that read what came. A device whose copies are done when `upload` returns gives
 * events that have passed.
 */
export interface UploadStream extends Disposable {
  /**
   * Begins a copy. Until an event after it has passed, or the device waits for one, `source` must not change and `target`
   * must not be freed or used.
   */
  upload(target: Block, offset: number, source: Uint8Array): void;
  event(): DeviceEvent;
  /** Copies begun from now on start after `event`: where they overwrite what earlier kernels read. */
  wait(event: DeviceEvent): void;
}

/** A machine that owns memory and computes: its memory, its kernels, and how far its work is. */
export interface Device {
  /** The name of its descriptor (devices.ts). */
  readonly name: string;
  readonly kernels: Kernels;
  /** False where kernels only count: what is read back is zeros. */
  readonly computes: boolean;
  /** Formats that products run in, the fastest first. Operands in others are converted on the way. */
  readonly productTypes: readonly DType[];
  /** Whether `dequantize` and products take weights in blocks; where not, they are widened as they are loaded. */
  readonly takesBlocks: boolean;
  /** Uninitialised memory. Throws `memory.exhausted` (with what to change) where there is no more. */
  alloc(bytes: number, category: MemoryCategory): Block;
  free(block: Block): void;
  /** Counts a block under another purpose: a gradient that a parameter took over. Both must be transient ones. */
  recategorize(block: Block, category: MemoryCategory): void;
  /** A block over host memory that outlives it (a file map), without a copy; undefined where the device cannot. */
  mapHost(address: Address, bytes: number): Block | undefined;
  /** In order with the kernels; `source` may change afterwards. */
  upload(target: Block, offset: number, source: Uint8Array): void;
  /** Waits for the work before it, then copies out. */
  download(source: Block, offset: number, bytes: number): Promise<Uint8Array>;
  copy(source: Block, sourceOffset: number, target: Block, targetOffset: number, bytes: number): void;
  createStream(): UploadStream;
  /** The kernels and copies asked for so far, streams apart. */
  event(): DeviceEvent;
  /** Kernels and copies asked for from now on start after `event`. */
  wait(event: DeviceEvent): void;
  /** Waits for everything, streams too. */
  synchronize(): Promise<void>;
  /** Gives freed memory that is kept for reuse back to the system: where a network goes, what it computed with goes too. */
  trim(): void;
  memory(): MemoryReport;
  resetPeak(): void;
  capacity(): Capacity;
  [Symbol.dispose](): void;
}
