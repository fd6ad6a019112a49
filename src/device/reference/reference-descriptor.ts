// The reference device as a row of the table of devices.
import type { DeviceDescriptor } from "../descriptor.ts";
import { createReferenceDevice } from "./reference-device.ts";

export const referenceDescriptor: DeviceDescriptor = {
  name: "reference",
  help: "the processor, in plain TypeScript: slow, and needs nothing",
  automatic: true,
  probe: async () => ({ usable: true, what: "needs no library" }),
  open: async () => createReferenceDevice(),
  memoryModel: {},
  speedSizes: { product: 96, vector: 1 << 14 },
};
