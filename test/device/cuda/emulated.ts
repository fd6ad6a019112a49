// The cuda device over the emulator, as a row that suites run like any other device.
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import { cudaDescriptor } from "../../../src/device/cuda/cuda-descriptor.ts";
import { type CudaDeviceOptions, createCudaDevice } from "../../../src/device/cuda/cuda-device.ts";
import type { DeviceDescriptor } from "../../../src/device/descriptor.ts";
import { buildEmulator, compiler, type Emulator } from "./emulator/build.ts";

let built: Emulator | undefined;

/** Builds on the first call. Throws where there is no compiler. */
export function emulator(): Emulator {
  const found = compiler();
  if ("missing" in found) throw new Error(found.missing);
  built ??= buildEmulator(found.command);
  return built;
}

export const openEmulated = (options: Partial<CudaDeviceOptions> = {}) => {
  const { driver, cublasLt, images } = emulator();
  return createCudaDevice({ driver, cublasLt, images, cacheFolder: join(tmpdir(), "kinora-cuda-test"), ...options });
};

/** Why tests over the emulator are skipped here; undefined where they run. */
export function emulatorMissing(): string | undefined {
  const found = compiler();
  return "missing" in found ? found.missing : undefined;
}

/** Which of the card's streams work only when something waits for them. */
export const orders = { atOnce: 0, kernelsLate: 1, copiesLate: 2, allLate: 3 } as const;

/** What the emulated driver does and tells beyond the real one's interface, for the tests of one process. */
export function emulatorControls() {
  const library = koffi.load(emulator().driver);
  const fail = library.func("int emulator_fail(str)");
  const calls = library.func("uint64_t emulator_calls(str)");
  const order = library.func("int emulator_order(int)");
  const refuse = koffi.load(emulator().cublasLt).func("int emulator_refuse_epilogues(int)");
  const open = library.func("int emulator_open(_Out_ int*, _Out_ int*, _Out_ int*, _Out_ int*, _Out_ uint64_t*)");
  return {
    /** Counts calls anew, and has the `at`-th of `call` answer `code`. */
    fail: (call: string, at: number, code: number) => void fail(`${call}:${at}:${code}`),
    /** Counts calls anew and orders nothing. */
    mend: () => void fail(null),
    calls: (call: string) => Number(calls(call)),
    order: (mode: keyof typeof orders) => void order(orders[mode]),
    /** Whether the library of products has none with a bias or an activation. */
    refuseEpilogues: (yes: boolean) => void refuse(yes ? 1 : 0),
    /** What nobody has closed. */
    open() {
      const [streams, modules, pinned, contexts, bytes] = [[0], [0], [0], [0], [0]];
      open(streams, modules, pinned, contexts, bytes);
      const numbers = [streams, modules, pinned, contexts, bytes].map(([value]) => Number(value));
      return { streams: numbers[0], modules: numbers[1], pinned: numbers[2], contexts: numbers[3], bytes: numbers[4] };
    },
  };
}

export const nothingOpen = { streams: 0, modules: 0, pinned: 0, contexts: 0, bytes: 0 };

export const emulatedDescriptor: DeviceDescriptor = {
  name: "cuda",
  help: "an NVIDIA card, emulated",
  automatic: false,
  async probe() {
    const found = compiler();
    return "missing" in found ? { usable: false, why: found.missing } : { usable: true, what: "emulated" };
  },
  open: async () => openEmulated(),
  memoryModel: cudaDescriptor.memoryModel,
  speedSizes: { product: 64, vector: 1 << 12 },
};
