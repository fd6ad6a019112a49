// A tensor's values on the host: what files and caches hold, and what outlives a device.
import type { Device } from "../device/device.ts";
import { ownedEmpty, type Tensor } from "./tensor.ts";

export interface HostTensor {
  values: Float32Array;
  shape: readonly number[];
}

/** In float32 on a device; the caller's to dispose of. */
export function upload(device: Device, { values, shape }: HostTensor): Tensor {
  const tensor = ownedEmpty(device, shape, "f32", "activations");
  tensor.write(values);
  return tensor;
}
