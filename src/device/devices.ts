// The table of devices. Schemas, help texts, `kinora doctor`, plans and the conformance suite go through it.
import type { DeviceName } from "../protocol/devices.ts";
import { cpuDescriptor } from "./cpu/cpu-descriptor.ts";
import { cudaDescriptor } from "./cuda/cuda-descriptor.ts";
import type { DeviceDescriptor } from "./descriptor.ts";
import { nullDescriptor } from "./null/null-descriptor.ts";
import { referenceDescriptor } from "./reference/reference-descriptor.ts";

/** Every device by its name, the fastest first. */
export const devices: Readonly<Record<DeviceName, DeviceDescriptor>> = {
  cuda: cudaDescriptor,
  cpu: cpuDescriptor,
  reference: referenceDescriptor,
  null: nullDescriptor,
};
