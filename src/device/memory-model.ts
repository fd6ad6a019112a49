// What a device needs beyond its operands, for plans on the null device that must match it. Each device has one
// (its descriptor's `memoryModel`).
import type { Kernels, Operand } from "./kernels.ts";

export interface MemoryModel {
  /** Bytes a kernel holds while it runs. */
  readonly workspace?: { readonly [K in keyof Kernels]?: (...args: Parameters<Kernels[K]>) => number };
  /** Freed memory that the device keeps for reuse, at most. */
  readonly idleBytes?: number;
  /** False where weights of files are copied to the device instead of read in place. */
  readonly mapsHost?: boolean;
  /** Bytes of the device's own form of a weight, or undefined where it keeps it plain. */
  packedBytes?(plain: Operand, rows?: number): number | undefined;
}
