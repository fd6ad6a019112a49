// The device that computes nothing: it counts the bytes, the arithmetic and the calls of whatever runs on it.
// The same code that would run elsewhere answers "will it fit, how much work is it" before anything starts.
import { KinoraError } from "../../base/errors.ts";
import { type AnyKernel, checkedKernels, type KernelName, kernelNames } from "../check-operands.ts";
import type { Block, Device, MemoryCategory } from "../device.ts";
import type { Kernels } from "../kernels.ts";
import { MemoryCounter } from "../memory-counter.ts";
import type { MemoryModel } from "../memory-model.ts";
import { synchronousWork } from "../synchronous.ts";
import { type KernelCost, kernelCost, operandsOf } from "./kernel-costs.ts";

export interface CallCount extends KernelCost {
  calls: number;
}

/** Sums since the device was made or `reset`. */
export class KernelCounters {
  readonly #byKernel = new Map<KernelName, CallCount>();

  add(name: KernelName, cost: KernelCost): void {
    const count = this.#byKernel.get(name) ?? { calls: 0, flops: 0, elementwiseOps: 0, bytes: 0 };
    this.#byKernel.set(name, {
      calls: count.calls + 1,
      flops: count.flops + cost.flops,
      elementwiseOps: count.elementwiseOps + cost.elementwiseOps,
      bytes: count.bytes + cost.bytes,
    });
  }

  get byKernel(): ReadonlyMap<KernelName, Readonly<CallCount>> {
    return this.#byKernel;
  }

  get total(): CallCount {
    const total = { calls: 0, flops: 0, elementwiseOps: 0, bytes: 0 };
    for (const count of this.#byKernel.values()) {
      total.calls += count.calls;
      total.flops += count.flops;
      total.elementwiseOps += count.elementwiseOps;
      total.bytes += count.bytes;
    }
    return total;
  }

  reset(): void {
    this.#byKernel.clear();
  }
}

export interface NullDevice extends Device {
  readonly name: "null";
  readonly counters: KernelCounters;
  /**
   * Bytes of `memory()` and, beside them, of the file pages that kernels have read in place: what a process on the host
   * holds for it, with what the device keeps for reuse. A mapped weight counts from its first use on; a table whose rows
   * are looked up does not.
   */
  resident(): { live: number; peak: number };
}

/** Bytes that are only counted. `size` is what every use of a block asks for, so it is what reports a use after free. */
class NullBlock implements Block {
  category: MemoryCategory;
  /** Over host memory that is someone else's. */
  readonly mapped: boolean;
  /** Counted as resident. */
  touched: boolean;
  /** What the memory model keeps for it. */
  kept: unknown;
  readonly #size: number;
  #live = true;

  constructor(size: number, category: MemoryCategory, { mapped }: { mapped: boolean }) {
    this.#size = size;
    this.category = category;
    this.mapped = mapped;
    this.touched = !mapped;
  }

  get size(): number {
    if (!this.#live) {
      throw new KinoraError("memory.freed", `a block of ${this.#size} bytes (${this.category}) was used after free`);
    }
    return this.#size;
  }

  retire(): number {
    if (!this.#live) {
      throw new KinoraError("memory.double-free", `a block of ${this.#size} bytes (${this.category}) was freed twice`);
    }
    this.#live = false;
    return this.#size;
  }
}

function own(block: Block): NullBlock {
  if (block instanceof NullBlock) return block;
  throw new KinoraError("memory.foreign-block", "a block was given to a device that did not allocate it");
}

function inside(block: Block, offset: number, bytes: number): void {
  const { size } = own(block);
  if (offset < 0 || bytes < 0 || offset + bytes > size) {
    throw new KinoraError("memory.out-of-range", "a range of bytes reaches beyond its block", {
      expected: `0 to ${size}`,
      actual: `${offset} to ${offset + bytes}`,
    });
  }
}

/** A device without memory or arithmetic. `model` makes it count what another device would need beside the operands. */
export function createNullDevice(model: MemoryModel = {}): NullDevice {
  const memory = new MemoryCounter();
  const keeping = model.keeping?.();
  const counters = new KernelCounters();
  let mappedBytes = 0;
  let residentPeak = 0;
  const residentNow = () => (keeping?.bytes ?? memory.live) + mappedBytes;
  const note = (): void => {
    residentPeak = Math.max(residentPeak, residentNow());
  };

  const take = (bytes: number, category: MemoryCategory): unknown => {
    memory.add(bytes, category);
    const kept = keeping?.take(bytes, category);
    note();
    return kept;
  };
  const give = (bytes: number, category: MemoryCategory, kept: unknown): void => {
    memory.remove(bytes, category);
    keeping?.give(kept);
  };
  const alloc = (bytes: number, category: MemoryCategory): Block => {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new KinoraError("memory.bad-size", "a block's size must be a whole number of bytes", {
        actual: String(bytes),
      });
    }
    const block = new NullBlock(bytes, category, { mapped: false });
    block.kept = take(bytes, category);
    return block;
  };
  const touch = (block: NullBlock): void => {
    if (block.touched) return;
    block.touched = true;
    mappedBytes += block.size;
    note();
  };

  const count = (name: KernelName): AnyKernel => {
    const workspace = model.workspace?.[name] as AnyKernel | undefined;
    return (...args) => {
      counters.add(name, kernelCost(name, args));
      if (name !== "embedding") for (const { block } of operandsOf(args)) touch(own(block));
      if (workspace) {
        const bytes = workspace(...args) as number;
        give(bytes, "workspace", take(bytes, "workspace"));
      }
    };
  };
  const counting = Object.fromEntries(kernelNames.map((name) => [name, count(name)])) as unknown as Kernels;

  return {
    name: "null",
    computes: false,
    productTypes: ["f32", "bf16"],
    takesBlocks: model.takesBlocks ?? true,
    counters,
    kernels: checkedKernels({
      ...counting,
      packWeight(plain, rows) {
        const bytes = model.packedBytes?.(plain, rows);
        if (bytes === undefined) return undefined;
        counting.packWeight(plain, rows);
        return { block: alloc(bytes, "weights"), layout: undefined };
      },
    }),
    alloc,
    free(block) {
      const { mapped, touched, kept } = own(block);
      const size = own(block).retire();
      if (!mapped) give(size, block.category, kept);
      else if (touched) mappedBytes -= size;
    },
    recategorize(block, category) {
      const ours = own(block);
      if (!ours.mapped) {
        keeping?.recategorize(ours.kept, category);
        memory.move(ours.size, ours.category, category);
      }
      ours.category = category;
    },
    mapHost: (_address, bytes) =>
      model.mapsHost === false ? undefined : new NullBlock(bytes, "weights", { mapped: true }),
    ...synchronousWork((target, offset, source) => inside(target, offset, source.byteLength)),
    async download(source, offset, bytes) {
      inside(source, offset, bytes);
      return new Uint8Array(bytes);
    },
    copy(source, sourceOffset, target, targetOffset, bytes) {
      inside(source, sourceOffset, bytes);
      inside(target, targetOffset, bytes);
    },
    trim: () => keeping?.trim(),
    memory: () => memory.report(),
    resident: () => ({ live: residentNow(), peak: residentPeak }),
    resetPeak() {
      memory.resetPeak();
      residentPeak = residentNow();
    },
    capacity: () => ({ total: Number.POSITIVE_INFINITY, free: Number.POSITIVE_INFINITY }),
    [Symbol.dispose]() {},
  };
}
