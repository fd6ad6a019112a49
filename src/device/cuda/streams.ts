// Streams, events and pinned memory of a card: copies that run beside the kernels, in order, without a wait of the host.
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../../base/errors.ts";
import { CUDA_NOT_READY, type CudaDriver, type CudaHandle, type DeviceAddress } from "../../ffi/cuda-driver.ts";
import { type Address, viewBytes } from "../../ffi/host-memory.ts";
import type { Block, DeviceEvent, UploadStream } from "../device.ts";
import { cudaBlock } from "./memory.ts";

/** Pinned memory through which copies pass, in two halves: one is filled while the other is on its way. */
const STAGING = 16 * 2 ** 20;
/** Pinned memory that downloads keep for the next one; pinning takes longer than most copies. */
const MOST_KEPT = 64 * 2 ** 20;
const SMALLEST_KEPT = 64 * 2 ** 10;
/** Polls of an event before the process lets go of its core. */
const EAGER_POLLS = 50;

/** Bytes `[offset, offset + bytes)` of a block as an address. Throws `memory.out-of-range`. */
export function place(block: Block, offset: number, bytes: number): DeviceAddress {
  const { address, size } = cudaBlock(block);
  if (offset >= 0 && bytes >= 0 && offset + bytes <= size) return (address + offset) as DeviceAddress;
  throw new KinoraError("memory.out-of-range", "a range of bytes reaches beyond its block", {
    expected: `0 to ${size}`,
    actual: `${offset} to ${offset + bytes}`,
  });
}

/** The driver's events. They are small and many, and nobody owns them for long: used again once nobody refers to them. */
export class Events implements Disposable {
  readonly #driver: CudaDriver;
  readonly #all = new Set<CudaHandle>();
  #free: CudaHandle[] = [];
  #open = true;
  readonly #forgotten = new FinalizationRegistry<CudaHandle>((handle) => {
    if (this.#open) this.#free.push(handle);
  });

  constructor(driver: CudaDriver) {
    this.#driver = driver;
  }

  /** An event that is its owner's until the device closes. */
  create(): CudaHandle {
    const made = this.#free.pop() ?? this.#driver.createEvent();
    this.#all.add(made);
    return made;
  }

  /** What was asked of a stream so far. */
  record(stream: CudaHandle): CudaEvent {
    const handle = this.create();
    this.#driver.check("cuEventRecord", this.#driver.calls.cuEventRecord(handle, stream));
    const event = new CudaEvent(this.#driver, handle);
    this.#forgotten.register(event, handle);
    return event;
  }

  [Symbol.dispose](): void {
    this.#open = false;
    for (const handle of this.#all) this.#driver.calls.cuEventDestroy(handle);
    this.#all.clear();
    this.#free = [];
  }
}

export class CudaEvent implements DeviceEvent {
  readonly handle: CudaHandle;
  readonly #driver: CudaDriver;

  constructor(driver: CudaDriver, handle: CudaHandle) {
    this.#driver = driver;
    this.handle = handle;
  }

  async passed(): Promise<void> {
    const { calls } = this.#driver;
    for (let poll = 0; ; poll++) {
      const status = calls.cuEventQuery(this.handle);
      if (status !== CUDA_NOT_READY) {
        this.#driver.check("cuEventQuery", status);
        return;
      }
      if (poll < EAGER_POLLS) await nextTurn();
      else await delay(1);
    }
  }
}

/** Copies host bytes to the card in order with a stream; the source may change when it returns. */
export class Staging implements Disposable {
  readonly #driver: CudaDriver;
  readonly #stream: CudaHandle;
  readonly #address: Address;
  readonly #bytes: Uint8Array;
  /** When the copies out of each half are done. */
  readonly #sent: readonly [CudaHandle, CudaHandle];
  readonly #used = [false, false];
  #half = 0;
  #at = 0;

  constructor(driver: CudaDriver, events: Events, stream: CudaHandle) {
    this.#driver = driver;
    this.#stream = stream;
    this.#sent = [events.create(), events.create()];
    this.#address = driver.handle("cuMemHostAlloc", STAGING, 0) as Address;
    this.#bytes = viewBytes(this.#address, STAGING);
  }

  copy(target: DeviceAddress, source: Uint8Array): void {
    const half = STAGING / 2;
    for (let done = 0; done < source.length; ) {
      if (this.#at === half) this.#turn();
      const count = Math.min(source.length - done, half - this.#at);
      const at = this.#half * half + this.#at;
      this.#bytes.set(source.subarray(done, done + count), at);
      const { calls } = this.#driver;
      const status = calls.cuMemcpyHtoDAsync(target + done, this.#address + at, count, this.#stream);
      this.#driver.check("cuMemcpyHtoDAsync", status);
      done += count;
      // Whole cache lines, so that copies begin where the bus likes it.
      this.#at = Math.min(half, Math.ceil((this.#at + count) / 256) * 256);
    }
  }

  /** The other half, once what it held has been copied. */
  #turn(): void {
    const { calls } = this.#driver;
    this.#driver.check("cuEventRecord", calls.cuEventRecord(this.#sent[this.#half]!, this.#stream));
    this.#used[this.#half] = true;
    this.#half = 1 - this.#half;
    this.#at = 0;
    if (!this.#used[this.#half]) return;
    this.#driver.check("cuEventSynchronize", calls.cuEventSynchronize(this.#sent[this.#half]!));
  }

  /** Its stream must be idle. */
  [Symbol.dispose](): void {
    this.#driver.calls.cuMemFreeHost(this.#address);
  }
}

/** Copies to the host through pinned memory that is kept. */
export class Downloads implements Disposable {
  readonly #driver: CudaDriver;
  readonly #events: Events;
  readonly #stream: CudaHandle;
  readonly #kept = new Map<number, Address[]>();
  #keptBytes = 0;
  #open = true;

  constructor(driver: CudaDriver, events: Events, stream: CudaHandle) {
    this.#driver = driver;
    this.#events = events;
    this.#stream = stream;
  }

  async copy(from: DeviceAddress, bytes: number): Promise<Uint8Array> {
    const result = new Uint8Array(bytes);
    if (bytes === 0) return result;
    const size = Math.max(SMALLEST_KEPT, 2 ** Math.ceil(Math.log2(bytes)));
    const kept = this.#kept.get(size)?.pop();
    if (kept !== undefined) this.#keptBytes -= size;
    const pinned = kept ?? (this.#driver.handle("cuMemHostAlloc", size, 0) as Address);
    try {
      const { calls } = this.#driver;
      this.#driver.check("cuMemcpyDtoHAsync", calls.cuMemcpyDtoHAsync(pinned, from, bytes, this.#stream));
      await this.#events.record(this.#stream).passed();
      result.set(viewBytes(pinned, bytes));
      return result;
    } finally {
      this.#keep(pinned, size);
    }
  }

  #keep(pinned: Address, size: number): void {
    if (!this.#open || this.#keptBytes + size > MOST_KEPT) {
      this.#driver.calls.cuMemFreeHost(pinned);
      return;
    }
    this.#keptBytes += size;
    const alike = this.#kept.get(size);
    if (alike) alike.push(pinned);
    else this.#kept.set(size, [pinned]);
  }

  [Symbol.dispose](): void {
    this.#open = false;
    for (const pinned of [...this.#kept.values()].flat()) this.#driver.calls.cuMemFreeHost(pinned);
    this.#kept.clear();
    this.#keptBytes = 0;
  }
}

/** A stream of copies to the card. */
export class CudaUploads implements UploadStream {
  readonly stream: CudaHandle;
  readonly #driver: CudaDriver;
  readonly #events: Events;
  /** Of the kernels. */
  readonly #compute: CudaHandle;
  readonly #staging: Staging;
  readonly #closed: (stream: CudaUploads) => void;

  constructor(driver: CudaDriver, events: Events, compute: CudaHandle, closed: (stream: CudaUploads) => void) {
    this.#driver = driver;
    this.#events = events;
    this.#compute = compute;
    this.#closed = closed;
    this.stream = driver.createStream();
    try {
      this.#staging = new Staging(driver, events, this.stream);
    } catch (error) {
      driver.calls.cuStreamDestroy(this.stream);
      throw error;
    }
  }

  upload(target: Block, offset: number, source: Uint8Array): void {
    const block = cudaBlock(target);
    if (block.fresh) this.wait(this.#events.record(this.#compute));
    block.fresh = false;
    this.#staging.copy(place(target, offset, source.byteLength), source);
  }

  event(): DeviceEvent {
    return this.#events.record(this.stream);
  }

  wait(event: DeviceEvent): void {
    const { handle } = event as CudaEvent;
    this.#driver.check("cuStreamWaitEvent", this.#driver.calls.cuStreamWaitEvent(this.stream, handle, 0));
  }

  [Symbol.dispose](): void {
    this.#driver.calls.cuStreamSynchronize(this.stream);
    this.#staging[Symbol.dispose]();
    this.#driver.calls.cuStreamDestroy(this.stream);
    this.#closed(this);
  }
}
