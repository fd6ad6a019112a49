// The device on NVIDIA cards: the driver's memory and streams, our kernels, cuBLASLt's products. Asking for work returns at
// once; only `download`, `synchronize` and an event's `passed` wait.
import { KinoraError } from "../../base/errors.ts";
import { CublasLt } from "../../ffi/cublaslt.ts";
import { CudaDriver } from "../../ffi/cuda-driver.ts";
import { checkedKernels } from "../check-operands.ts";
import type { Device } from "../device.ts";
import type { Kernels } from "../kernels.ts";
import { CudaContext } from "./context.ts";
import { kernelImages } from "./images.ts";
import { cudaKernels } from "./kernels/all.ts";
import { Launcher } from "./launch.ts";
import { OLDEST_CUDA, releaseOf } from "./libraries.ts";
import { CudaMemory, driverMemory } from "./memory.ts";
import { type CudaEvent, CudaUploads, Downloads, Events, place, Staging } from "./streams.ts";

export interface CudaDeviceOptions {
  /** Libraries, as found on this machine. */
  driver: string;
  cublasLt: string;
  nvrtc?: string | undefined;
  /** A folder of compiled kernels that goes before compiling. */
  images?: string | undefined;
  cacheFolder: string;
  /** A folder of shipped kernels instead of the package's. */
  shippedIn?: string | undefined;
  /** Which card. */
  index?: number;
  /** Products of float32 on tensor cores, with factors of 10 bits of mantissa. Off: as exact as the other devices. */
  tf32?: boolean;
  /** Bytes that may be taken; what is free when it opens where absent. */
  budget?: number | undefined;
  compiling?: ((file: string) => void) | undefined;
  kernels?: (ctx: CudaContext) => Kernels;
}

/** The oldest cards with bf16 tensor cores. */
const OLDEST = 80;
/** Of free memory, what is left to the driver: code, its own buffers, and on a desktop what the screen needs next. */
const LEFT_FREE = { share: 1 / 32, most: 256 * 2 ** 20 };

export const capabilityOf = (driver: CudaDriver, device: number): number =>
  driver.attribute(device, "computeMajor") * 10 + driver.attribute(device, "computeMinor");

/** `8.6` for 86. */
export const capabilityName = (capability: number): string => `${Math.floor(capability / 10)}.${capability % 10}`;

/** A card of a driver that the device runs on. Throws `cuda.old-driver`, `cuda.no-device`, `cuda.too-old`. */
export function usableCard(driver: CudaDriver, index: number): { card: number; capability: number } {
  if (driver.version < OLDEST_CUDA * 1000) {
    throw new KinoraError("cuda.old-driver", "the NVIDIA driver is too old for the cuda device", {
      expected: `a driver for CUDA ${OLDEST_CUDA} or newer (525 or newer)`,
      actual: `CUDA ${releaseOf(driver.version)}`,
      hint: "update NVIDIA's driver",
    });
  }
  const count = driver.deviceCount();
  if (!(Number.isInteger(index) && index >= 0 && index < count)) {
    throw new KinoraError("cuda.no-device", `there is no GPU ${index}`, {
      expected: count === 0 ? "a GPU" : count === 1 ? "0" : `0 to ${count - 1}`,
      hint: count === 0 ? "CUDA_VISIBLE_DEVICES may be hiding it" : "kinora doctor lists them",
    });
  }
  const card = driver.device(index);
  const capability = capabilityOf(driver, card);
  if (capability >= OLDEST) return { card, capability };
  throw new KinoraError("cuda.too-old", `${driver.name(card)} is too old for the cuda device`, {
    expected: `compute capability ${capabilityName(OLDEST)} (Ampere) or newer`,
    actual: capabilityName(capability),
    hint: "use the cpu device",
  });
}

/** The card that is open in this thread: the driver's calls go to the one context that is current. */
let opened: { card: number; devices: number } | undefined;

function claim(card: number): () => void {
  if (opened && opened.card !== card) {
    throw new KinoraError("cuda.one-card", "another GPU is open in this thread", {
      expected: `GPU ${opened.card}`,
      actual: `GPU ${card}`,
      hint: "close it first, or use one thread per GPU",
    });
  }
  opened = { card, devices: (opened?.devices ?? 0) + 1 };
  return () => {
    opened = opened && opened.devices > 1 ? { card, devices: opened.devices - 1 } : undefined;
  };
}

/** Opens a card. Throws `cuda.*` where it cannot be had, `memory.exhausted` where it has no room for anything. */
export function createCudaDevice(options: CudaDeviceOptions): Device {
  /** What undoes what was done so far, the last first. Nothing of it throws: a lost card refuses everything. */
  const undo: (() => void)[] = [];
  const close = () => {
    for (const step of undo.splice(0).reverse()) step();
  };
  const owned = <T extends Disposable>(made: T): T => {
    undo.push(() => made[Symbol.dispose]());
    return made;
  };
  try {
    return openCard(options, undo, owned, close);
  } catch (error) {
    close();
    throw error;
  }
}

function openCard(
  options: CudaDeviceOptions,
  undo: (() => void)[],
  owned: <T extends Disposable>(made: T) => T,
  close: () => void,
): Device {
  const driver = CudaDriver.open(options.driver);
  const { card, capability } = usableCard(driver, options.index ?? 0);
  undo.push(claim(card));
  const context = driver.handle("cuDevicePrimaryCtxRetain", card);
  undo.push(() => driver.calls.cuDevicePrimaryCtxRelease(card));
  driver.check("cuCtxSetCurrent", driver.calls.cuCtxSetCurrent(context));
  const { free } = driver.memoryInfo();
  const stream = driver.createStream();
  undo.push(() => driver.calls.cuStreamDestroy(stream));
  const events = owned(new Events(driver));
  const staging = owned(new Staging(driver, events, stream));
  const downloads = owned(new Downloads(driver, events, stream));
  const budget = options.budget ?? free - Math.min(LEFT_FREE.most, free * LEFT_FREE.share);
  const pooled = driver.attribute(card, "memoryPools") !== 0;
  const memory = owned(new CudaMemory(driverMemory(driver, stream, pooled), budget));
  const images = kernelImages({
    capability,
    folder: options.images,
    nvrtc: options.nvrtc,
    cacheFolder: options.cacheFolder,
    compiling: options.compiling,
    shippedIn: options.shippedIn,
  });
  const launcher = owned(new Launcher(driver, stream, images));
  const cublas = owned(CublasLt.open(options.cublasLt));
  const ctx = new CudaContext({
    cublas,
    launcher,
    memory,
    stream,
    capability,
    tf32: options.tf32 ?? false,
    multiprocessors: driver.attribute(card, "multiprocessors"),
    uploadSmall: (target, bytes) => staging.copy(target, bytes),
  });
  const streams = new Set<CudaUploads>();
  undo.push(() => {
    for (const one of streams) one[Symbol.dispose]();
    driver.calls.cuCtxSynchronize();
  });
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
    download: async (source, offset, bytes) => downloads.copy(place(source, offset, bytes), bytes),
    copy(source, sourceOffset, target, targetOffset, bytes) {
      const [from, to] = [place(source, sourceOffset, bytes), place(target, targetOffset, bytes)];
      if (bytes > 0) driver.check("cuMemcpyDtoDAsync", driver.calls.cuMemcpyDtoDAsync(to, from, bytes, stream));
    },
    createStream() {
      const made = new CudaUploads(driver, events, stream, (one) => streams.delete(one));
      streams.add(made);
      return made;
    },
    event: () => events.record(stream),
    wait(event) {
      driver.check("cuStreamWaitEvent", driver.calls.cuStreamWaitEvent(stream, (event as CudaEvent).handle, 0));
    },
    async synchronize() {
      const ends = [stream, ...[...streams].map((one) => one.stream)].map((one) => events.record(one));
      for (const end of ends) await end.passed();
    },
    trim: () => memory.trim(),
    memory: () => memory.memory(),
    resetPeak: () => memory.resetPeak(),
    capacity() {
      const info = driver.memoryInfo();
      return { total: info.total, free: info.free + memory.keptBytes };
    },
    [Symbol.dispose]: close,
  };
}
