// Small helpers of the adapter kinds: values onto a device, and their size.

import { KinoraError } from "../../base/errors.ts";
import type { Shape } from "../../base/shape.ts";
import { elementCount } from "../../base/shape.ts";
import type { Device } from "../../device/device.ts";
import { ownedEmpty, type Tensor } from "../../tensor/tensor.ts";

/** A float32 tensor of the caller's own with these values. */
export function ownedFrom(device: Device, name: string, values: Float32Array, shape: Shape): Tensor {
  if (values.length !== elementCount(shape)) {
    throw new KinoraError("lora.shape", `${name} has ${values.length} values`, {
      expected: `[${shape}]`,
      hint: "the file is damaged or was merged wrongly: get it again from its source",
    });
  }
  const tensor = ownedEmpty(device, shape, "f32", "weights");
  tensor.write(values);
  return tensor;
}

/** ‖values‖₂ */
export function norm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! ** 2;
  return Math.sqrt(sum);
}

/** What adapters of several frozen tensors have in common. */
export abstract class TensorAdapter<Name extends string = string> {
  protected readonly tensors: Readonly<Record<Name, Tensor>>;
  /** Of the whole change. */
  protected readonly scale: number;

  constructor(tensors: Readonly<Record<Name, Tensor>>, scale: number) {
    this.tensors = tensors;
    this.scale = scale;
  }

  parameters(): Map<string, Tensor> {
    return new Map(Object.entries<Tensor>(this.tensors));
  }

  [Symbol.dispose](): void {
    for (const tensor of Object.values<Tensor>(this.tensors)) tensor[Symbol.dispose]();
  }
}
