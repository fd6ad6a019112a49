// The cpu device beside the reference device: the same operands through both, results compared by relative error.
import { afterAll } from "vitest";
import { bytesOf, type DType } from "../../../src/base/dtype.ts";
import { isKinoraError } from "../../../src/base/errors.ts";
import { toFloat32 } from "../../../src/base/float-formats.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { Block, Device } from "../../../src/device/device.ts";
import { f32View, hostBlock } from "../../../src/device/host/host-views.ts";
import type { Kernels, Operand } from "../../../src/device/kernels.ts";
import { openDevice } from "../../../src/device/open-device.ts";
import { createReferenceDevice } from "../../../src/device/reference/reference-device.ts";

/** The cpu device, or why there is none here. */
export async function openCpu(): Promise<{ device?: Device; reason: string }> {
  try {
    const { device } = await openDevice("cpu");
    afterAll(() => device[Symbol.dispose]());
    return { device, reason: "" };
  } catch (error) {
    if (isKinoraError(error)) return { reason: error.message };
    throw error;
  }
}

/** All bytes of an operand's block. */
export const bytesIn = ({ block }: Operand): Uint8Array => hostBlock(block).bytes;

export class Pair implements Disposable {
  readonly cpu: Kernels;
  readonly reference: Kernels;
  readonly #device: Device;
  readonly #referenceDevice: Device;
  readonly #blocks: Block[] = [];
  #state: number;

  constructor(device: Device, seed: number) {
    this.#device = device;
    this.cpu = device.kernels;
    this.#referenceDevice = createReferenceDevice();
    this.reference = this.#referenceDevice.kernels;
    this.#state = seed >>> 0;
  }

  /** Uniform in [−1, 1). */
  draw(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return this.#state / 2 ** 31 - 1;
  }

  /** Filled with bytes that are NaN in every float format until written. */
  blank(dtype: DType, shape: readonly number[]): Operand {
    const block = this.#device.alloc(elementCount(shape) * bytesOf(dtype), "activations");
    this.#blocks.push(block);
    hostBlock(block).bytes.fill(0xff);
    return { block, offset: 0, dtype, shape };
  }

  random(dtype: DType, shape: readonly number[], spread = 1): Operand {
    const operand = this.blank(dtype, shape);
    const values = this.blank("f32", shape);
    const floats = f32View(values);
    for (let i = 0; i < floats.length; i++) floats[i] = this.draw() * spread;
    this.reference.cast(values, operand);
    return operand;
  }

  copy(operand: Operand): Operand {
    const copy = this.blank(operand.dtype, operand.shape);
    bytesIn(copy).set(bytesIn(operand));
    return copy;
  }

  values(operand: Operand): Float32Array {
    return toFloat32(bytesIn(operand).slice(), operand.dtype);
  }

  /** ‖a − b‖ / ‖b‖, of elements of at least `typical` size: what cancels to nearly nothing is held to that. */
  distance(a: Operand, b: Operand, typical = 0): number {
    const [left, right] = [this.values(a), this.values(b)];
    let [difference, norm] = [0, 0];
    for (let i = 0; i < right.length; i++) {
      if (Object.is(left[i], right[i])) continue;
      difference += (left[i]! - right[i]!) ** 2;
    }
    for (const value of right) if (Number.isFinite(value)) norm += value ** 2;
    return Math.sqrt(difference) / (Math.max(Math.sqrt(norm), typical * Math.sqrt(right.length)) || 1);
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks) this.#device.free(block);
    this.#referenceDevice[Symbol.dispose]();
  }
}
