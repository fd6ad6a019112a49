// The null device as a row of the table of devices.
import type { DeviceDescriptor } from "../descriptor.ts";
import { createNullDevice } from "./null-device.ts";

export const nullDescriptor: DeviceDescriptor = {
  name: "null",
  help: "computes nothing; counts bytes and arithmetic for plans",
  automatic: false,
  probe: async () => ({ usable: true, what: "needs no library" }),
  open: async () => createNullDevice(),
  memoryModel: {},
  speedSizes: { product: 768, vector: 1 << 22 },
};
