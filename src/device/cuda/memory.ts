// A card's memory: blocks from the driver, kept by size for reuse on the same stream, counted by what they are for.
// Work on a stream is in order, so a freed block may be handed out again while kernels that use it are still to run.
import { KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import { CUDA_OUT_OF_MEMORY, type CudaDriver, type DeviceAddress } from "../../ffi/cuda-driver.ts";
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

export class CudaMemory {
  readonly #driver: CudaDriver;
  readonly #synchronize: () => void;
  readonly #counter = new MemoryCounter();
  /** Freed memory by its size. */
  readonly #kept = new Map<number, DeviceAddress[]>();
  #keptBytes = 0;
  readonly #permanent: DeviceAddress[] = [];
  /** Bytes that may be taken from the driver; the card's own where absent. */
  readonly #budget: number | undefined;
  #taken = 0;

  constructor(driver: CudaDriver, synchronize: () => void, budget?: number) {
    this.#driver = driver;
    this.#synchronize = synchronize;
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
    const block = new CudaBlock(bytes, "workspace", this.#take(reserved, bytes), reserved);
    this.#permanent.push(block.address);
    return block;
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
    const out = [0n];
    const within = () => this.#budget === undefined || this.#taken + reserved <= this.#budget;
    let status = within() ? this.#driver.calls.cuMemAlloc(out, reserved) : CUDA_OUT_OF_MEMORY;
    if (status === CUDA_OUT_OF_MEMORY && this.#keptBytes > 0) {
      this.trim();
      status = within() ? this.#driver.calls.cuMemAlloc(out, reserved) : CUDA_OUT_OF_MEMORY;
    }
    if (status === CUDA_OUT_OF_MEMORY) throw this.#exhausted(wanted);
    this.#driver.check("cuMemAlloc", status);
    this.#taken += reserved;
    return Number(out[0]) as DeviceAddress;
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

  /** Gives kept memory back to the driver. */
  trim(): void {
    if (this.#keptBytes === 0) return;
    this.#synchronize();
    for (const [size, addresses] of this.#kept) {
      for (const address of addresses) {
        this.#driver.check("cuMemFree", this.#driver.calls.cuMemFree(address));
        this.#taken -= size;
      }
    }
    this.#kept.clear();
    this.#keptBytes = 0;
  }

  [Symbol.dispose](): void {
    this.trim();
    for (const address of this.#permanent.splice(0)) this.#driver.calls.cuMemFree(address);
  }

  memory(): MemoryReport {
    return this.#counter.report();
  }

  /** Freed memory that is kept, which is free for whoever asks here. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  resetPeak(): void {
    this.#counter.resetPeak();
  }
}
