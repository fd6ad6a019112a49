// A frozen Linear weight in the form the device wants it: plain, quantised with its scales, in blocks, or in the device's own layout.
import type { BlockFormat } from "../base/block-format.ts";
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
  #blocks: BlockFormat | undefined;

  /** @param blocks what `plain` holds where it is bytes [N, bytes of a row] */
  constructor(plain: Tensor, scale?: Tensor, blocks?: BlockFormat) {
    this.#dtype = plain.dtype;
    const [outputs, width] = plain.shape as [number, number];
    this.shape = [outputs, blocks ? (width / blocks.bytes) * blocks.elements : width];
    this.#blocks = blocks;
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

  get blocks(): BlockFormat | undefined {
    return this.#blocks;
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
      kernels.dequantize(this.#plain!, this.#scale, result, this.#blocks);
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
    this.#blocks = undefined;
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
