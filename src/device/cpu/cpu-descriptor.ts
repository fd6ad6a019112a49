// The cpu device as a row of the table of devices.
import { isKinoraError } from "../../base/errors.ts";
import { fileOf, loadLibrary } from "../../ffi/onednn-library.ts";
import type { DeviceDescriptor } from "../descriptor.ts";
import { createCpuDevice } from "./cpu-device.ts";
import { cpuMemoryModel } from "./memory-model.ts";

export const cpuDescriptor: DeviceDescriptor = {
  name: "cpu",
  help: "the processor, through oneDNN",
  automatic: true,
  async probe() {
    try {
      const library = loadLibrary();
      const { major, minor, patch } = library.version;
      return { usable: true, what: `oneDNN ${major}.${minor}.${patch}, ${fileOf(library)}` };
    } catch (error) {
      if (!isKinoraError(error)) throw error;
      return { usable: false, why: error.message, ...(error.hint ? { hint: error.hint } : {}) };
    }
  },
  open: async () => createCpuDevice(),
  memoryModel: cpuMemoryModel,
  speedSizes: { product: 768, vector: 1 << 22 },
};
