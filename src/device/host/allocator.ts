// Host memory for the devices that compute on the CPU: aligned blocks, reused instead of returned, counted exactly.
// It knows nothing of tensors: whoever allocates a block frees it.
//
// Fresh pages cost a fault each (touching a GiB: 0.13 s and more, against 0.04 s warm), so what is freed is kept for the
// next request of its size:
// - up to 16 KiB from slabs, each cut into slots of one size;
// - above that, one system map per block. Freed maps wait in a list whose bytes never pass
//   256 MiB + recent peak of transient bytes − transient bytes now: a step or a decode that repeats keeps its whole
//   working set warm (the 256 MiB are for sizes that are not in use at the peak), yet the process never holds more than
//   it really used lately, and 256 MiB.
// Weights and optimizer states come and go with phases of a program, not with its steps: they go straight back.
import { KinoraError } from "../../base/errors.ts";
import { type Address, releaseMemory, reserveMemory, viewBytes } from "../../ffi/host-memory.ts";
import type { Block, MemoryCategory, MemoryReport } from "../device.ts";
import { MemoryCounter } from "../memory-counter.ts";

const SMALLEST_SLOT = 64;
const LARGEST_SLOT = 16 * 1024;
const SLAB_BYTES = 256 * 1024;
const PAGE = 4096;
const IDLE_FLOOR = 256 * 2 ** 20;
/** Large requests after which a peak begins to be forgotten; it is gone after twice as many. */
const PEAK_WINDOW = 4096;

/** One system map and the one ArrayBuffer over it: a new one per block would press on the garbage collector. */
interface Region {
  readonly address: Address;
  readonly size: number;
  readonly buffer: ArrayBufferLike;
  released: boolean;
}

/** Where maps come from. */
export interface HostMemory {
  reserve(bytes: number): { address: Address; buffer: ArrayBufferLike };
  release(address: Address, bytes: number): void;
}

const systemMemory: HostMemory = {
  reserve(bytes) {
    const address = reserveMemory(bytes);
    return { address, buffer: viewBytes(address, bytes).buffer };
  },
  release: releaseMemory,
};

/** Memory that is not there: what the allocator holds is then only counted. */
export const noMemory: HostMemory = {
  reserve: () => ({ address: 0 as Address, buffer: new ArrayBuffer(0) }),
  release() {},
};

interface Slab {
  readonly region: Region;
  readonly slotBytes: number;
  readonly freeSlots: number[];
}

/** Where a block's memory lies and to whom it goes back. */
type Home =
  | { readonly kind: "slot"; readonly slab: Slab; readonly slot: number }
  | { readonly kind: "region"; readonly region: Region }
  | { readonly kind: "foreign" };

/** A block of host memory. `address` and `bytes` throw `memory.freed` once it is freed. */
export class HostBlock implements Block {
  readonly size: number;
  readonly owner: HostAllocator;
  readonly #address: Address;
  #category: MemoryCategory;
  #home: Home | undefined;
  #bytes: Uint8Array | undefined;

  constructor(owner: HostAllocator, size: number, category: MemoryCategory, address: Address, home: Home) {
    this.owner = owner;
    this.size = size;
    this.#category = category;
    this.#address = address;
    this.#home = home;
  }

  get category(): MemoryCategory {
    return this.#category;
  }

  get address(): Address {
    this.#use();
    return this.#address;
  }

  get bytes(): Uint8Array {
    const home = this.#use();
    this.#bytes ??=
      home.kind === "foreign"
        ? viewBytes(this.#address, this.size)
        : home.kind === "region"
          ? new Uint8Array(home.region.buffer, 0, this.size)
          : new Uint8Array(home.slab.region.buffer, home.slot * home.slab.slotBytes, this.size);
    return this.#bytes;
  }

  /** For its allocator only. */
  relabel(category: MemoryCategory): void {
    this.#use();
    this.#category = category;
  }

  /** Ends the block and says where its memory goes back to. For its allocator only. */
  retire(): Home {
    const home = this.#home;
    if (home === undefined) {
      throw new KinoraError("memory.double-free", `a block of ${this.size} bytes (${this.category}) was freed twice`);
    }
    this.#home = undefined;
    this.#bytes = undefined;
    return home;
  }

  #use(): Home {
    const home = this.#home;
    const region = home?.kind === "slot" ? home.slab.region : home?.kind === "region" ? home.region : undefined;
    if (home === undefined || region?.released) {
      throw new KinoraError("memory.freed", `a block of ${this.size} bytes (${this.category}) was used after free`);
    }
    return home;
  }
}

const transient: Readonly<Record<MemoryCategory, boolean>> = {
  weights: false,
  optimizer: false,
  gradients: true,
  activations: true,
  workspace: true,
};

/** `bytes` rounded up to a multiple of `unit` that is one of `steps` sizes per power of two. */
function sizeClass(bytes: number, unit: number, steps: number): number {
  if (bytes <= unit) return unit;
  const step = Math.max(unit, 2 ** (Math.ceil(Math.log2(bytes)) - 1) / steps);
  return Math.ceil(bytes / step) * step;
}

function listAt<T>(lists: Map<number, T[]>, key: number): T[] {
  let list = lists.get(key);
  if (!list) {
    list = [];
    lists.set(key, list);
  }
  return list;
}

export class HostAllocator {
  readonly #memory: HostMemory;
  readonly #counter = new MemoryCounter();
  /** Slabs with a free slot, by slot size. */
  readonly #slabs = new Map<number, Slab[]>();
  /** Freed regions, the longest idle first; the second holds the same by size. */
  readonly #idle = new Set<Region>();
  readonly #idleBySize = new Map<number, Region[]>();
  readonly #regions = new Set<Region>();
  #idleBytes = 0;
  #heldBytes = 0;
  #transientBytes = 0;
  #windowPeak = 0;
  #previousPeak = 0;
  #windowRequests = 0;
  #disposed = false;

  constructor(memory = systemMemory) {
    this.#memory = memory;
  }

  /** Uninitialised memory at a multiple of 64 bytes. Throws `memory.exhausted`. */
  alloc(bytes: number, category: MemoryCategory): HostBlock {
    if (this.#disposed) throw new KinoraError("device.disposed", "this device was disposed of");
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new KinoraError("memory.bad-size", "a block's size must be a whole number of bytes", {
        actual: String(bytes),
      });
    }
    const block = bytes <= LARGEST_SLOT ? this.#allocSlot(bytes, category) : this.#allocRegion(bytes, category);
    this.#counter.add(bytes, category);
    return block;
  }

  /** A block over memory that is someone else's and outlives it. Not counted; freeing it only ends its use. */
  wrap(address: Address, bytes: number): HostBlock {
    return new HostBlock(this, bytes, "weights", address, { kind: "foreign" });
  }

  /** Throws `memory.double-free`, or `memory.foreign-block` for a block of another device. */
  free(block: Block): void {
    if (!(block instanceof HostBlock) || block.owner !== this) {
      throw new KinoraError("memory.foreign-block", "a block was given to a device that did not allocate it");
    }
    const home = block.retire();
    if (home.kind === "foreign") return;
    this.#counter.remove(block.size, block.category);
    if (this.#disposed) return;
    if (home.kind === "slot") this.#freeSlot(home.slab, home.slot);
    else this.#freeRegion(home.region, block.category);
  }

  /** Throws `memory.category` between transient and lasting purposes: their memory is kept in different ways. */
  recategorize(block: Block, category: MemoryCategory): void {
    if (!(block instanceof HostBlock) || block.owner !== this) {
      throw new KinoraError("memory.foreign-block", "a block was given to a device that did not allocate it");
    }
    const { size, category: before } = block;
    if (before === category) return;
    if (transient[before] !== transient[category]) {
      throw new KinoraError("memory.category", `memory for ${before} cannot become memory for ${category}`);
    }
    block.relabel(category);
    this.#counter.move(size, before, category);
  }

  memory(): MemoryReport {
    return this.#counter.report();
  }

  resetPeak(): void {
    this.#counter.resetPeak();
  }

  /** Bytes held from the system, idle ones among them: what the process pays beyond `memory().live`. */
  held(): { bytes: number; idle: number } {
    return { bytes: this.#heldBytes, idle: this.#idleBytes };
  }

  /** Returns all idle memory to the system, and forgets the recent peak that it was kept for. */
  trim(): void {
    this.#windowRequests = 0;
    this.#previousPeak = 0;
    this.#windowPeak = this.#transientBytes;
    this.#evictDownTo(0);
  }

  /** Returns everything to the system, live blocks included: they cannot be used any more. */
  dispose(): void {
    this.#disposed = true;
    this.#idle.clear();
    this.#idleBySize.clear();
    this.#slabs.clear();
    this.#idleBytes = 0;
    for (const region of this.#regions) this.#release(region);
  }

  #allocSlot(bytes: number, category: MemoryCategory): HostBlock {
    const slotBytes = sizeClass(bytes, SMALLEST_SLOT, 4);
    const open = listAt(this.#slabs, slotBytes);
    if (open.length === 0) {
      const count = Math.floor(SLAB_BYTES / slotBytes);
      const freeSlots = Array.from({ length: count }, (_, index) => count - 1 - index);
      open.push({ region: this.#takeRegion(SLAB_BYTES), slotBytes, freeSlots });
    }
    const slab = open.at(-1)!;
    const slot = slab.freeSlots.pop()!;
    if (slab.freeSlots.length === 0) open.pop();
    const address = (slab.region.address + slot * slotBytes) as Address;
    return new HostBlock(this, bytes, category, address, { kind: "slot", slab, slot });
  }

  #freeSlot(slab: Slab, slot: number): void {
    const open = this.#slabs.get(slab.slotBytes)!;
    slab.freeSlots.push(slot);
    if (slab.freeSlots.length === 1) open.push(slab);
    // An empty slab goes back unless it is the last one open: alternating requests must not make slabs come and go.
    if (slab.freeSlots.length === Math.floor(SLAB_BYTES / slab.slotBytes) && open.length > 1) {
      open.splice(open.indexOf(slab), 1);
      this.#addIdle(slab.region);
    }
  }

  #allocRegion(bytes: number, category: MemoryCategory): HostBlock {
    // Eight sizes per power of two: near sizes share maps, at most an eighth is waste, and pages never touched are free.
    const size = transient[category] ? sizeClass(bytes, PAGE, 8) : Math.ceil(bytes / PAGE) * PAGE;
    const region = this.#takeRegion(size);
    if (transient[category]) this.#countTransient(size);
    return new HostBlock(this, bytes, category, region.address, { kind: "region", region });
  }

  #freeRegion(region: Region, category: MemoryCategory): void {
    if (!transient[category]) {
      this.#release(region);
      return;
    }
    this.#transientBytes -= region.size;
    this.#addIdle(region);
  }

  #countTransient(size: number): void {
    this.#transientBytes += size;
    if (++this.#windowRequests === PEAK_WINDOW) {
      this.#windowRequests = 0;
      this.#previousPeak = this.#windowPeak;
      this.#windowPeak = 0;
    }
    this.#windowPeak = Math.max(this.#windowPeak, this.#transientBytes);
    this.#evictDownTo(this.#idleLimit());
  }

  #idleLimit(): number {
    return IDLE_FLOOR + Math.max(this.#windowPeak, this.#previousPeak) - this.#transientBytes;
  }

  #takeRegion(size: number): Region {
    const region = this.#idleBySize.get(size)?.pop();
    if (region !== undefined) {
      this.#idle.delete(region);
      this.#idleBytes -= size;
      return region;
    }
    const fresh = this.#reserve(size);
    this.#regions.add(fresh);
    this.#heldBytes += size;
    return fresh;
  }

  #reserve(size: number): Region {
    let reserved: ReturnType<HostMemory["reserve"]>;
    try {
      reserved = this.#memory.reserve(size);
    } catch (error) {
      if (this.#idleBytes === 0) throw error;
      this.trim();
      reserved = this.#memory.reserve(size);
    }
    return { ...reserved, size, released: false };
  }

  #addIdle(region: Region): void {
    listAt(this.#idleBySize, region.size).push(region);
    this.#idle.add(region);
    this.#idleBytes += region.size;
    this.#evictDownTo(this.#idleLimit());
  }

  #evictDownTo(limit: number): void {
    if (this.#idleBytes <= limit) return;
    for (const region of this.#idle) {
      if (this.#idleBytes <= limit) return;
      const same = this.#idleBySize.get(region.size)!;
      same.splice(same.indexOf(region), 1);
      this.#idle.delete(region);
      this.#idleBytes -= region.size;
      this.#release(region);
    }
  }

  #release(region: Region): void {
    region.released = true;
    this.#regions.delete(region);
    this.#heldBytes -= region.size;
    this.#memory.release(region.address, region.size);
  }
}
