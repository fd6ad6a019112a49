// The CUDA driver through koffi: libcuda.so.1, nvcuda.dll, or any library with the same interface. Addresses and handles
// are numbers, since those of user space and of a card's memory fit in 53 bits and numbers are the cheapest argument.
// https://docs.nvidia.com/cuda/cuda-driver-api/
import koffi, { type LibraryHandle } from "koffi";
import { KinoraError } from "../base/errors.ts";

export type CudaHandle = number;
/** An address in a card's memory. */
export type DeviceAddress = number & { readonly brand: "device address" };

export const CUDA_SUCCESS = 0;
export const CUDA_OUT_OF_MEMORY = 2;
export const CUDA_NOT_READY = 600;

/** CUdevice_attribute. */
export const attributes = {
  maxSharedPerBlockOptIn: 97,
  multiprocessors: 16,
  computeMajor: 75,
  computeMinor: 76,
  memoryPools: 115,
  clockKilohertz: 13,
  integrated: 18,
} as const;

/** The operating system refused. */
const NO_PERMISSION = 304;

/** CUfunction_attribute: dynamic shared memory beyond 48 KiB has to be asked for. */
const MAX_DYNAMIC_SHARED = 8;
/** The stream does not wait for the legacy default stream. */
const STREAM_NON_BLOCKING = 1;
const EVENT_DISABLE_TIMING = 2;

/** What every function returns is a CUresult. */
const signatures = {
  cuInit: "int cuInit(uint32_t)",
  cuDriverGetVersion: "int cuDriverGetVersion(_Out_ int*)",
  cuDeviceGetCount: "int cuDeviceGetCount(_Out_ int*)",
  cuDeviceGet: "int cuDeviceGet(_Out_ int*, int)",
  cuDeviceGetName: "int cuDeviceGetName(void*, int, int)",
  cuDeviceTotalMem: "int cuDeviceTotalMem_v2(_Out_ size_t*, int)",
  cuDeviceGetAttribute: "int cuDeviceGetAttribute(_Out_ int*, int, int)",
  cuDevicePrimaryCtxRetain: "int cuDevicePrimaryCtxRetain(_Out_ uintptr_t*, int)",
  cuDevicePrimaryCtxRelease: "int cuDevicePrimaryCtxRelease_v2(int)",
  cuCtxSetCurrent: "int cuCtxSetCurrent(uintptr_t)",
  cuCtxSynchronize: "int cuCtxSynchronize()",
  cuMemGetInfo: "int cuMemGetInfo_v2(_Out_ size_t*, _Out_ size_t*)",
  cuMemAlloc: "int cuMemAlloc_v2(_Out_ uint64_t*, size_t)",
  cuMemFree: "int cuMemFree_v2(uint64_t)",
  cuMemAllocAsync: "int cuMemAllocAsync(_Out_ uint64_t*, size_t, uintptr_t)",
  cuMemFreeAsync: "int cuMemFreeAsync(uint64_t, uintptr_t)",
  cuMemHostAlloc: "int cuMemHostAlloc(_Out_ uintptr_t*, size_t, uint32_t)",
  cuMemFreeHost: "int cuMemFreeHost(uintptr_t)",
  cuMemcpyHtoDAsync: "int cuMemcpyHtoDAsync_v2(uint64_t, uintptr_t, size_t, uintptr_t)",
  cuMemcpyDtoHAsync: "int cuMemcpyDtoHAsync_v2(uintptr_t, uint64_t, size_t, uintptr_t)",
  cuMemcpyDtoDAsync: "int cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t, uintptr_t)",
  cuMemsetD8Async: "int cuMemsetD8Async(uint64_t, uint8_t, size_t, uintptr_t)",
  cuStreamCreate: "int cuStreamCreate(_Out_ uintptr_t*, uint32_t)",
  cuStreamDestroy: "int cuStreamDestroy_v2(uintptr_t)",
  cuStreamSynchronize: "int cuStreamSynchronize(uintptr_t)",
  cuStreamWaitEvent: "int cuStreamWaitEvent(uintptr_t, uintptr_t, uint32_t)",
  cuEventCreate: "int cuEventCreate(_Out_ uintptr_t*, uint32_t)",
  cuEventRecord: "int cuEventRecord(uintptr_t, uintptr_t)",
  cuEventQuery: "int cuEventQuery(uintptr_t)",
  cuEventSynchronize: "int cuEventSynchronize(uintptr_t)",
  cuEventDestroy: "int cuEventDestroy_v2(uintptr_t)",
  cuModuleLoadData: "int cuModuleLoadData(_Out_ uintptr_t*, const void*)",
  cuModuleUnload: "int cuModuleUnload(uintptr_t)",
  cuModuleGetFunction: "int cuModuleGetFunction(_Out_ uintptr_t*, uintptr_t, str)",
  cuFuncSetAttribute: "int cuFuncSetAttribute(uintptr_t, int, int)",
  cuLaunchKernel:
    "int cuLaunchKernel(uintptr_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uintptr_t, uintptr_t, uintptr_t)",
  cuGetErrorName: "int cuGetErrorName(int, _Out_ const char**)",
  cuGetErrorString: "int cuGetErrorString(int, _Out_ const char**)",
} as const;

type Call = keyof typeof signatures;
// biome-ignore lint/suspicious/noExplicitAny: koffi's functions take what their signature says
type Calls = { readonly [K in Call]: (...args: any[]) => number };

/** The driver's library does not fit the kernel's module, as after an update without a restart. */
const outdated: ReadonlySet<number> = new Set([35, 803, 804]);

/** Failures after which the context is lost: every later call fails too. */
const fatal: Readonly<Record<number, string>> = {
  214: "the GPU reported an uncorrectable memory error",
  219: "an MPS connection was lost",
  700: "a kernel accessed memory out of bounds",
  702: "a kernel exceeded the display driver's time limit",
  710: "a kernel assertion failed",
  714: "a kernel raised a hardware exception",
  715: "a kernel executed an illegal instruction",
  716: "a kernel used a misaligned address",
  717: "a kernel used an address of the wrong memory space",
  718: "a kernel jumped outside its code",
  719: "a kernel failed",
};

export class CudaDriver {
  readonly path: string;
  /** e.g. 12040 for CUDA 12.4: the newest runtime the driver serves. */
  readonly version: number;
  readonly calls: Calls;
  readonly #library: LibraryHandle;

  private constructor(path: string, library: LibraryHandle) {
    this.path = path;
    this.#library = library;
    this.calls = Object.fromEntries(
      Object.entries(signatures).map(([name, signature]) => [name, library.func(signature)]),
    ) as unknown as Calls;
    this.check("cuInit", this.calls.cuInit(0));
    this.version = this.#int("cuDriverGetVersion");
  }

  /**
   * Loads the driver and starts it.
   * Throws `cuda.no-driver` where the library is not there or lacks what is needed, `cuda.no-device` where it finds no GPU.
   */
  static open(path: string): CudaDriver {
    let library: LibraryHandle;
    try {
      library = koffi.load(path);
    } catch (cause) {
      throw noDriver(`${path} cannot be loaded: ${(cause as Error).message}`, cause);
    }
    try {
      return new CudaDriver(path, library);
    } catch (cause) {
      if (cause instanceof KinoraError) throw cause;
      throw noDriver(`${path} lacks a function: ${(cause as Error).message}`, cause);
    }
  }

  /** Throws unless `status` is success. Every status of the driver goes through here. */
  check(call: Call, status: number): void {
    if (status !== CUDA_SUCCESS) throw this.failure(call, status);
  }

  failure(call: Call, status: number): KinoraError {
    const text = this.#text(status);
    if (status === NO_PERMISSION) {
      return new KinoraError("cuda.no-permission", "you have no permission to use the GPU", {
        actual: text,
        hint: "the user needs access to /dev/nvidia* (mostly the groups video and render); in a container, pass the GPU through",
      });
    }
    if (status === 100 || status === 101) {
      return new KinoraError("cuda.no-device", "the NVIDIA driver finds no GPU", {
        actual: text,
        hint: "check nvidia-smi; in a container the GPU must be passed through, and CUDA_VISIBLE_DEVICES may be hiding it",
      });
    }
    if (status === CUDA_OUT_OF_MEMORY) {
      return new KinoraError("memory.exhausted", "the GPU is out of memory", { actual: text });
    }
    if (fatal[status] !== undefined) {
      return new KinoraError("cuda.lost", `the GPU stopped working for this process: ${fatal[status]}`, {
        actual: `${call}: ${text}`,
        hint: "run the command again (saved work is kept); if it happens again, run kinora doctor and report it",
      });
    }
    return new KinoraError("cuda.failed", `the NVIDIA driver refused ${call}`, {
      actual: text,
      ...(outdated.has(status)
        ? { hint: "the driver and its library are of different versions: restart or update the driver" }
        : {}),
    });
  }

  #text(status: number): string {
    const [name, words]: [string[], string[]] = [[""], [""]];
    if (this.calls.cuGetErrorName(status, name) !== 0 || this.calls.cuGetErrorString(status, words) !== 0) {
      return `status ${status}`;
    }
    return `${name[0]} (${status}): ${words[0]}`;
  }

  #int(call: Call, ...args: unknown[]): number {
    const out = [0];
    this.check(call, this.calls[call](out, ...args));
    return Number(out[0]);
  }

  /** Of a function that gives a handle or an address first. */
  handle(call: Call, ...args: unknown[]): CudaHandle {
    return this.#int(call, ...args);
  }

  deviceCount(): number {
    return this.#int("cuDeviceGetCount");
  }

  device(index: number): number {
    return this.#int("cuDeviceGet", index);
  }

  attribute(device: number, attribute: keyof typeof attributes): number {
    return this.#int("cuDeviceGetAttribute", attributes[attribute], device);
  }

  name(device: number): string {
    const bytes = new Uint8Array(256);
    this.check("cuDeviceGetName", this.calls.cuDeviceGetName(bytes, bytes.length, device));
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end));
  }

  totalMemory(device: number): number {
    return this.#int("cuDeviceTotalMem", device);
  }

  /** Of the current context. */
  memoryInfo(): { free: number; total: number } {
    const [free, total] = [[0], [0]];
    this.check("cuMemGetInfo", this.calls.cuMemGetInfo(free, total));
    return { free: Number(free[0]), total: Number(total[0]) };
  }

  createStream(): CudaHandle {
    return this.handle("cuStreamCreate", STREAM_NON_BLOCKING);
  }

  createEvent(): CudaHandle {
    return this.handle("cuEventCreate", EVENT_DISABLE_TIMING);
  }

  /** A kernel by name, which may use `shared` bytes of dynamic shared memory. */
  function(module: CudaHandle, name: string, shared: number): CudaHandle {
    const out = [0];
    this.check("cuModuleGetFunction", this.calls.cuModuleGetFunction(out, module, name));
    const made = Number(out[0]);
    if (shared > 48 * 1024) {
      this.check("cuFuncSetAttribute", this.calls.cuFuncSetAttribute(made, MAX_DYNAMIC_SHARED, shared));
    }
    return made;
  }

  [Symbol.dispose](): void {
    this.#library.unload();
  }
}

function noDriver(why: string, cause: unknown): KinoraError {
  return new KinoraError("cuda.no-driver", `no usable NVIDIA driver was found: ${why}`, {
    hint: "install NVIDIA's driver (it includes libcuda.so.1 or nvcuda.dll), or set KINORA_CUDA_DRIVER to its path",
    cause,
  });
}
