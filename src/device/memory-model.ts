// What a device needs beyond its operands, for plans on the null device that must match it. Each device has one
// (its descriptor's `memoryModel`).
import type { MemoryCategory } from "./device.ts";
import type { Kernels, Operand } from "./kernels.ts";

/** An allocator that only counts. */
export interface MemoryKeeping {
  take(bytes: number, category: MemoryCategory): unknown;
  give(taken: unknown): void;
  /** Another purpose of the same kind. */
  recategorize(taken: unknown, category: MemoryCategory): void;
  trim(): void;
  /** Bytes that are held now, in use or not. */
  readonly bytes: number;
}

export interface MemoryModel {
  /** Bytes a kernel holds while it runs. */
  readonly workspace?: { readonly [K in keyof Kernels]?: (...args: Parameters<Kernels[K]>) => number };
  /** How the device keeps memory beyond what is in use: freed blocks for reuse, sizes rounded up. A new one for each plan. */
  readonly keeping?: () => MemoryKeeping;
  /** False where weights of files are copied to the device instead of read in place. */
  readonly mapsHost?: boolean;
  /** False where weights in blocks are widened as they are loaded. */
  readonly takesBlocks?: boolean;
  /** Bytes of the device's own form of a weight, or undefined where it keeps it plain. */
  packedBytes?(plain: Operand, rows?: number): number | undefined;
}
