// A frozen Linear weight in the form the device wants it: plain, quantised with its scales, or in the device's own layout.
import type { DType } from "../base/dtype.ts";
import type { Device } from "../device/device.ts";
import type { LinearWeight, PackedWeight } from "../device/kernels.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";

/** [N, K] */
export class FrozenWeight implements LinearWeight, Disposable {
  readonly shape: readonly [outputs: number, inputs: number];
  readonly #device: Device;
  #dtype: DType;
  #scale: Tensor | undefined;
  #plain: Tensor | undefined;
  #packed: PackedWeight | undefined;

  constructor(plain: Tensor, scale?: Tensor) {
    this.#dtype = plain.dtype;
    this.shape = [plain.shape[0]!, plain.shape[1]!];
    this.#scale = scale;
    this.#device = plain.device;
    this.#plain = plain;
  }

  get dtype(): DType {
    return this.#dtype;
  }

  get plain(): Tensor | undefined {
    return this.#plain;
  }

  /** float32; for quantised weights. */
  get scale(): Tensor | undefined {
    return this.#scale;
  }

  get packed(): PackedWeight | undefined {
    return this.#packed;
  }

  /** Changes to the device's own layout, where it has a better one, and frees the plain form. */
  pack(rows?: number): void {
    if (!this.#plain || !isPlainFloat(this.#dtype)) return;
    this.#packed = this.#device.kernels.packWeight(this.#plain, rows);
    if (!this.#packed) return;
    this.#plain[Symbol.dispose]();
    this.#plain = undefined;
  }

  /** The values in `dtype` [N, K], in the current scope. */
  values(dtype: DType): Tensor {
    const { kernels } = this.#device;
    const result = empty(this.#device, this.shape, dtype);
    if (!isPlainFloat(this.dtype)) {
      kernels.dequantize(this.#plain!, this.#scale, result);
      return result;
    }
    if (this.#plain) {
      kernels.cast(this.#plain, result);
      return result;
    }
    if (dtype === this.dtype) {
      kernels.unpackWeight(this.#packed!, result);
      return result;
    }
    const unpacked = empty(this.#device, this.shape, this.dtype);
    kernels.unpackWeight(this.#packed!, unpacked);
    kernels.cast(unpacked, result);
    return result;
  }

  /** Replaces the values by `values` [N, K], which it then owns; the old form is freed. */
  replace(values: Tensor): void {
    this[Symbol.dispose]();
    this.#dtype = values.dtype;
    this.#plain = values;
  }

  [Symbol.dispose](): void {
    this.#plain?.[Symbol.dispose]();
    this.#plain = undefined;
    this.#scale?.[Symbol.dispose]();
    this.#scale = undefined;
    if (this.#packed) this.#device.free(this.#packed.block);
    this.#packed = undefined;
  }
}

/** Formats that are values by themselves, without a scale. */
export function isPlainFloat(dtype: DType): boolean {
  return dtype === "f32" || dtype === "bf16" || dtype === "f16";
}
