// The cuda device over the emulator, as a row that suites run like any other device.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCudaDevice } from "../../../src/device/cuda/cuda-device.ts";
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

export const openEmulated = (options: { budget?: number } = {}) => {
  const { driver, cublasLt, images } = emulator();
  return createCudaDevice({ driver, cublasLt, images, cacheFolder: join(tmpdir(), "kinora-cuda-test"), ...options });
};

export const emulatedDescriptor: DeviceDescriptor = {
  name: "cuda",
  help: "an NVIDIA card, emulated",
  automatic: false,
  async probe() {
    const found = compiler();
    return "missing" in found ? { usable: false, why: found.missing } : { usable: true, what: "emulated" };
  },
  open: async () => openEmulated(),
  memoryModel: { mapsHost: false },
  speedSizes: { product: 64, vector: 1 << 12 },
};
