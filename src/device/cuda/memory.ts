// A card's memory: blocks from the driver, kept by size for reuse on the same stream, counted by what they are for.
// Work on a stream is in order, so a freed block may be handed out again while kernels that use it are still to run. Where
// the driver allocates in order with the stream too, memory goes back to it without a wait.
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import { CUDA_OUT_OF_MEMORY, type CudaDriver, type CudaHandle, type DeviceAddress } from "../../ffi/cuda-driver.ts";
import type { Block, MemoryCategory, MemoryReport } from "../device.ts";
import { MemoryCounter } from "../memory-counter.ts";

/** Small requests share sizes in steps of this; the driver aligns to 256 anyway. */
const STEP = 512;
/** From here on sizes are rounded to a sixteenth of their power of two, so that nearly equal requests meet. */
const LARGE = 2 ** 20;

export class CudaBlock implements Block {
  readonly size: number;
  category: MemoryCategory;
  readonly address: DeviceAddress;
  /** What was taken from the driver. */
  readonly reserved: number;
  freed = false;
  /** Kernels that used this memory before may still be to run: other streams wait for them before they write to it. */
  fresh = true;

  constructor(size: number, category: MemoryCategory, address: DeviceAddress, reserved: number) {
    this.size = size;
    this.category = category;
    this.address = address;
    this.reserved = reserved;
  }
}

/** Throws `memory.foreign-block` for a block of another device. */
function ofCuda(block: Block): CudaBlock {
  if (block instanceof CudaBlock) return block;
  throw new KinoraError("memory.foreign-block", "a block of another device was given to the cuda device");
}

/** A block as its memory. Throws `memory.foreign-block`, `memory.freed`. */
export function cudaBlock(given: Block): CudaBlock {
  const block = ofCuda(given);
  if (!block.freed) return block;
  throw new KinoraError("memory.freed", `a block of ${block.size} bytes (${block.category}) was used after free`);
}

function roundedSize(bytes: number): number {
  const wanted = Math.max(bytes, 1);
  if (wanted <= LARGE) return Math.ceil(wanted / STEP) * STEP;
  const step = 2 ** (Math.floor(Math.log2(wanted)) - 4);
  return Math.ceil(wanted / step) * step;
}

/** Where memory comes from: the driver, or for plans nowhere. */
export interface MemorySource {
  /** Undefined where there is no more. */
  take(bytes: number): DeviceAddress | undefined;
  /** In order with the kernels. Throws what the driver says. */
  give(address: DeviceAddress): void;
  /** Waits for what was given back to arrive. */
  settle(): void;
}

/** The driver's memory. `pooled`: it allocates in order with the stream, so that giving back waits for nothing. */
export function driverMemory(driver: CudaDriver, stream: CudaHandle, pooled: boolean): MemorySource {
  const { calls } = driver;
  const settle = () => driver.check("cuStreamSynchronize", calls.cuStreamSynchronize(stream));
  return {
    settle,
    take(bytes) {
      const out = [0n];
      const status = pooled ? calls.cuMemAllocAsync(out, bytes, stream) : calls.cuMemAlloc(out, bytes);
      if (status === CUDA_OUT_OF_MEMORY) return undefined;
      driver.check(pooled ? "cuMemAllocAsync" : "cuMemAlloc", status);
      return Number(out[0]) as DeviceAddress;
    },
    give(address) {
      if (pooled) driver.check("cuMemFreeAsync", calls.cuMemFreeAsync(address, stream));
      // Waits for all kernels by itself.
      else driver.check("cuMemFree", calls.cuMemFree(address));
    },
  };
}

export class CudaMemory {
  readonly #source: MemorySource;
  readonly #counter = new MemoryCounter();
  /** Freed memory by its size. */
  readonly #kept = new Map<number, DeviceAddress[]>();
  #keptBytes = 0;
  /** All that was taken and not given back: in use, kept, permanent. */
  readonly #own = new Set<DeviceAddress>();
  /** Bytes that may be taken; what the source has where absent. */
  readonly #budget: number | undefined;
  #taken = 0;

  constructor(source: MemorySource, budget?: number) {
    this.#source = source;
    this.#budget = budget;
  }

  alloc(bytes: number, category: MemoryCategory): CudaBlock {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new KinoraError("memory.bad-size", "a block's size must be a whole number of bytes", {
        actual: String(bytes),
      });
    }
    const reserved = roundedSize(bytes);
    const address = this.#kept.get(reserved)?.pop();
    if (address !== undefined) this.#keptBytes -= reserved;
    const block = new CudaBlock(bytes, category, address ?? this.#take(reserved, bytes), reserved);
    this.#counter.add(bytes, category);
    return block;
  }

  /** Memory that is the device's own until it closes, and is not counted. */
  permanent(bytes: number): CudaBlock {
    const reserved = roundedSize(bytes);
    return new CudaBlock(bytes, "workspace", this.#take(reserved, bytes), reserved);
  }

  free(given: Block): void {
    const block = ofCuda(given);
    if (block.freed) {
      throw new KinoraError("memory.double-free", `a block of ${block.size} bytes (${block.category}) was freed twice`);
    }
    block.freed = true;
    this.#counter.remove(block.size, block.category);
    const list = this.#kept.get(block.reserved);
    if (list) list.push(block.address);
    else this.#kept.set(block.reserved, [block.address]);
    this.#keptBytes += block.reserved;
  }

  recategorize(given: Block, category: MemoryCategory): void {
    const block = cudaBlock(given);
    this.#counter.move(block.size, block.category, category);
    block.category = category;
  }

  #take(reserved: number, wanted: number): DeviceAddress {
    const ask = (): DeviceAddress | undefined => {
      if (this.#budget !== undefined && this.#taken + reserved > this.#budget) return undefined;
      return this.#source.take(reserved);
    };
    let address = ask();
    if (address === undefined && this.#keptBytes > 0) {
      this.trim();
      address = ask();
      if (address === undefined) {
        this.#source.settle();
        address = ask();
      }
    }
    if (address === undefined) throw this.#exhausted(wanted);
    this.#taken += reserved;
    this.#own.add(address);
    return address;
  }

  #exhausted(wanted: number): KinoraError {
    const { live, byCategory } = this.memory();
    const parts = Object.entries(byCategory)
      .filter(([, { live: bytes }]) => bytes > 0)
      .map(([name, { live: bytes }]) => `${name} ${formatBytes(bytes)}`);
    return new KinoraError("memory.exhausted", `the GPU has less than ${formatBytes(wanted)} of free memory`, {
      actual: `${formatBytes(live)} in use: ${parts.join(", ") || "nothing by Kinora"}`,
      hint: "use a smaller size, fewer frames, block swap or a narrower base; other programs may be using the GPU's memory",
    });
  }

  /** Gives kept memory back. */
  trim(): void {
    for (const [size, addresses] of this.#kept) {
      for (const address of addresses.splice(0)) {
        this.#keptBytes -= size;
        this.#taken -= size;
        this.#own.delete(address);
        this.#source.give(address);
      }
    }
    this.#kept.clear();
  }

  /** Gives everything back, what is in use too. A lost card refuses; its driver takes it when the context goes. */
  [Symbol.dispose](): void {
    try {
      for (const address of this.#own) this.#source.give(address);
    } catch (error) {
      if (!isKinoraError(error)) throw error;
    }
    this.#own.clear();
    this.#kept.clear();
    this.#keptBytes = 0;
  }

  memory(): MemoryReport {
    return this.#counter.report();
  }

  /** Bytes that are held now, in use or not. */
  get heldBytes(): number {
    return this.#taken;
  }

  /** Freed memory that is kept, which is free for whoever asks here. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  resetPeak(): void {
    this.#counter.resetPeak();
  }
}
