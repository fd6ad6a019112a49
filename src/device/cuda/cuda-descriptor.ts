// The cuda device as a row of the table of devices.
import { homedir } from "node:os";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { cacheFolderOf } from "../../base/platform.ts";
import { formatBytes } from "../../base/units.ts";
import type { DeviceDescriptor, DeviceFinding } from "../descriptor.ts";
import type { Device } from "../device.ts";
import { checkDevice } from "../self-test.ts";
import { capabilityName, createCudaDevice } from "./cuda-device.ts";
import { cudaState, IMAGES_VARIABLE, isWithoutGpu, lookForNvidia, makeReady } from "./installation.ts";
import { releaseOf, searchPath } from "./libraries.ts";
import { cudaMemoryModel } from "./memory-model.ts";

/** `1` of `cuda:1`. Throws `device.unavailable`. */
function indexOf(unit: string): number {
  if (/^\d+$/.test(unit)) return Number(unit);
  throw new KinoraError("device.unavailable", `${JSON.stringify(unit)} is not a GPU number`, {
    expected: "cuda, cuda:0, cuda:1, …",
    hint: "kinora doctor lists the GPUs",
  });
}

async function probe(): Promise<DeviceFinding> {
  const found = lookForNvidia();
  try {
    const { driver, card, capability } = makeReady(found, 0);
    const more = driver.deviceCount() - 1;
    const cards = more > 0 ? `${driver.name(card)} and ${more} more` : driver.name(card);
    const size = formatBytes(driver.totalMemory(card));
    const what = `compute capability ${capabilityName(capability)}, ${size}, driver for CUDA ${releaseOf(driver.version)}`;
    return { usable: true, what: `${cards}, ${what}` };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    if (isWithoutGpu(found, error)) return { usable: false, why: "there is no NVIDIA GPU", absent: true };
    return { usable: false, why: error.message, ...(error.hint ? { hint: error.hint } : {}) };
  }
}

/** Opens a card and has it compute before anyone relies on it. */
async function open(unit = "0"): Promise<Device> {
  const index = indexOf(unit);
  const { driver, libraries } = makeReady(lookForNvidia(), index);
  for (const library of Object.values(libraries)) {
    const path = searchPath(library, process.platform, process.env.PATH);
    if (path !== undefined) process.env.PATH = path;
  }
  const device = createCudaDevice({
    driver: driver.path,
    cublasLt: libraries.cublasLt!,
    nvrtc: libraries.nvrtc,
    images: process.env[IMAGES_VARIABLE],
    cacheFolder: cacheFolderOf({ platform: process.platform, environment: process.env, home: homedir() }),
    index,
    tf32: process.env.KINORA_TF32 === "1",
  });
  try {
    await checkDevice(device);
    return device;
  } catch (error) {
    device[Symbol.dispose]();
    throw error;
  }
}

export const cudaDescriptor: DeviceDescriptor = {
  name: "cuda",
  help: "NVIDIA GPUs from Ampere on (not yet run on a card)",
  automatic: true,
  units: true,
  caution: `the cuda device is ${cudaState}; it passed its self-test here`,
  probe,
  open,
  memoryModel: cudaMemoryModel,
  speedSizes: { product: 8192, vector: 1 << 26 },
};
