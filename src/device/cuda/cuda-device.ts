// The device on NVIDIA cards: the driver's memory and streams, our kernels, cuBLASLt's products. Asking for work returns at
// once; only `download` and `synchronize` wait.
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../../base/errors.ts";
import { CublasLt } from "../../ffi/cublaslt.ts";
import { CUDA_NOT_READY, CudaDriver, type CudaHandle, type DeviceAddress } from "../../ffi/cuda-driver.ts";
import { type Address, viewBytes } from "../../ffi/host-memory.ts";
import { checkedKernels } from "../check-operands.ts";
import type { Block, Device, DeviceEvent, UploadStream } from "../device.ts";
import type { Kernels } from "../kernels.ts";
import { CudaContext } from "./context.ts";
import { kernelImages } from "./images.ts";
import { cudaKernels } from "./kernels/all.ts";
import { Launcher } from "./launch.ts";
import { CudaMemory, cudaBlock } from "./memory.ts";

export interface CudaDeviceOptions {
  /** Libraries, as found on this machine. */
  driver: string;
  cublasLt: string;
  nvrtc?: string | undefined;
  /** A folder of compiled kernels that goes before compiling. */
  images?: string | undefined;
  cacheFolder: string;
  /** Which card. */
  index?: number;
  /** Bytes that may be taken; the card's own limit where absent. */
  budget?: number | undefined;
  compiling?: ((file: string) => void) | undefined;
  kernels?: (ctx: CudaContext) => Kernels;
}

/** Pinned memory through which copies pass, in two halves: one is filled while the other is on its way. */
const STAGING = 16 * 2 ** 20;
/** The oldest cards with bf16 tensor cores. */
const OLDEST = 80;
/** Polls of an event before the process lets go of its core. */
const EAGER_POLLS = 50;

export const capabilityOf = (driver: CudaDriver, device: number): number =>
  driver.attribute(device, "computeMajor") * 10 + driver.attribute(device, "computeMinor");

/** Bytes `[offset, offset + bytes)` of a block as an address. Throws `memory.out-of-range`. */
function place(block: Block, offset: number, bytes: number): DeviceAddress {
  const { address, size } = cudaBlock(block);
  if (offset >= 0 && bytes >= 0 && offset + bytes <= size) return (address + offset) as DeviceAddress;
  throw new KinoraError("memory.out-of-range", "a range of bytes reaches beyond its block", {
    expected: `0 to ${size}`,
    actual: `${offset} to ${offset + bytes}`,
  });
}

class CudaEvent implements DeviceEvent {
  readonly handle: CudaHandle;
  readonly #driver: CudaDriver;

  constructor(driver: CudaDriver, stream: CudaHandle) {
    this.#driver = driver;
    this.handle = driver.createEvent();
    driver.check("cuEventRecord", driver.calls.cuEventRecord(this.handle, stream));
    events.register(this, { driver, handle: this.handle });
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

/** Events are small and many, and nobody owns them for long. */
const events = new FinalizationRegistry<{ driver: CudaDriver; handle: CudaHandle }>(({ driver, handle }) => {
  driver.calls.cuEventDestroy(handle);
});

/** Copies host bytes to the card in order with a stream; the source may change when it returns. */
class Staging implements Disposable {
  readonly #driver: CudaDriver;
  readonly #stream: CudaHandle;
  readonly #address: Address;
  readonly #bytes: Uint8Array;
  readonly #sent: (CudaHandle | undefined)[] = [undefined, undefined];
  #half = 0;
  #at = 0;

  constructor(driver: CudaDriver, stream: CudaHandle) {
    this.#driver = driver;
    this.#stream = stream;
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
    const mark = this.#sent[this.#half] ?? this.#driver.createEvent();
    this.#driver.check("cuEventRecord", calls.cuEventRecord(mark, this.#stream));
    this.#sent[this.#half] = mark;
    this.#half = 1 - this.#half;
    this.#at = 0;
    const before = this.#sent[this.#half];
    if (before !== undefined) this.#driver.check("cuEventSynchronize", calls.cuEventSynchronize(before));
  }

  [Symbol.dispose](): void {
    for (const event of this.#sent) if (event !== undefined) this.#driver.calls.cuEventDestroy(event);
    this.#driver.calls.cuMemFreeHost(this.#address);
  }
}

class CudaUploads implements UploadStream {
  readonly #driver: CudaDriver;
  readonly #stream: CudaHandle;
  /** Of the kernels. */
  readonly #compute: CudaHandle;
  readonly #staging: Staging;

  constructor(driver: CudaDriver, compute: CudaHandle) {
    this.#driver = driver;
    this.#compute = compute;
    this.#stream = driver.createStream();
    this.#staging = new Staging(driver, this.#stream);
  }

  upload(target: Block, offset: number, source: Uint8Array): void {
    const block = cudaBlock(target);
    if (block.fresh) this.wait(new CudaEvent(this.#driver, this.#compute));
    block.fresh = false;
    this.#staging.copy(place(target, offset, source.byteLength), source);
  }

  event(): DeviceEvent {
    return new CudaEvent(this.#driver, this.#stream);
  }

  wait(event: DeviceEvent): void {
    const { handle } = event as CudaEvent;
    this.#driver.check("cuStreamWaitEvent", this.#driver.calls.cuStreamWaitEvent(this.#stream, handle, 0));
  }

  [Symbol.dispose](): void {
    this.#driver.calls.cuStreamSynchronize(this.#stream);
    this.#staging[Symbol.dispose]();
    this.#driver.calls.cuStreamDestroy(this.#stream);
  }
}

/** Opens a card. Throws `cuda.no-driver`, `cuda.no-device`, `cuda.too-old`, `cuda.no-cublas`. */
export function createCudaDevice(options: CudaDeviceOptions): Device {
  const driver = CudaDriver.open(options.driver);
  const index = options.index ?? 0;
  const count = driver.deviceCount();
  if (!(index >= 0 && index < count)) {
    throw new KinoraError("cuda.no-device", `there is no GPU ${index}`, {
      expected: count === 0 ? "a card" : `0 to ${count - 1}`,
      hint: count === 0 ? "CUDA_VISIBLE_DEVICES may be hiding it" : "kinora doctor lists them",
    });
  }
  const card = driver.device(index);
  const capability = capabilityOf(driver, card);
  if (capability < OLDEST) {
    throw new KinoraError("cuda.too-old", `${driver.name(card)} is too old for the cuda device`, {
      expected: "compute capability 8.0 (Ampere) or newer",
      actual: `${Math.floor(capability / 10)}.${capability % 10}`,
      hint: "use the cpu device",
    });
  }
  driver.check("cuCtxSetCurrent", driver.calls.cuCtxSetCurrent(driver.handle("cuDevicePrimaryCtxRetain", card)));
  const stream = driver.createStream();
  const staging = new Staging(driver, stream);
  const synchronize = () => driver.check("cuCtxSynchronize", driver.calls.cuCtxSynchronize());
  const memory = new CudaMemory(driver, synchronize, options.budget);
  const launcher = new Launcher(
    driver,
    stream,
    kernelImages({
      capability,
      folder: options.images,
      nvrtc: options.nvrtc,
      cacheFolder: options.cacheFolder,
      compiling: options.compiling,
    }),
  );
  const cublas = CublasLt.open(options.cublasLt);
  const ctx = new CudaContext({
    driver,
    cublas,
    launcher,
    memory,
    stream,
    capability,
    multiprocessors: driver.attribute(card, "multiprocessors"),
    uploadSmall: (target, bytes) => staging.copy(target, bytes),
  });
  let open = true;
  return {
    name: "cuda",
    computes: true,
    productTypes: ["bf16", "f32"],
    takesBlocks: false,
    kernels: checkedKernels((options.kernels ?? cudaKernels)(ctx)),
    alloc: (bytes, category) => memory.alloc(bytes, category),
    free: (block) => memory.free(block),
    recategorize: (block, category) => memory.recategorize(block, category),
    mapHost: () => undefined,
    upload: (target, offset, source) => staging.copy(place(target, offset, source.byteLength), source),
    async download(source, offset, bytes) {
      const from = place(source, offset, bytes);
      const result = new Uint8Array(bytes);
      if (bytes === 0) return result;
      const pinned = driver.handle("cuMemHostAlloc", bytes, 0) as Address;
      try {
        driver.check("cuMemcpyDtoHAsync", driver.calls.cuMemcpyDtoHAsync(pinned, from, bytes, stream));
        await new CudaEvent(driver, stream).passed();
        result.set(viewBytes(pinned, bytes));
        return result;
      } finally {
        driver.calls.cuMemFreeHost(pinned);
      }
    },
    copy(source, sourceOffset, target, targetOffset, bytes) {
      const [from, to] = [place(source, sourceOffset, bytes), place(target, targetOffset, bytes)];
      if (bytes > 0) driver.check("cuMemcpyDtoDAsync", driver.calls.cuMemcpyDtoDAsync(to, from, bytes, stream));
    },
    createStream: () => new CudaUploads(driver, stream),
    event: () => new CudaEvent(driver, stream),
    wait(event) {
      driver.check("cuStreamWaitEvent", driver.calls.cuStreamWaitEvent(stream, (event as CudaEvent).handle, 0));
    },
    async synchronize() {
      await new CudaEvent(driver, stream).passed();
      synchronize();
    },
    trim: () => memory.trim(),
    memory: () => memory.memory(),
    resetPeak: () => memory.resetPeak(),
    capacity() {
      const { free, total } = driver.memoryInfo();
      return { total, free: free + memory.keptBytes };
    },
    [Symbol.dispose]() {
      if (!open) return;
      open = false;
      driver.calls.cuCtxSynchronize();
      memory[Symbol.dispose]();
      staging[Symbol.dispose]();
      launcher[Symbol.dispose]();
      cublas[Symbol.dispose]();
      driver.calls.cuStreamDestroy(stream);
      driver.calls.cuDevicePrimaryCtxRelease(card);
    },
  };
}
