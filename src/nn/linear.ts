// A Linear layer, and the seam where LoRA adapters stand beside its frozen weight (Hu et al., arXiv 2106.09685).
import type { DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import type { Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import type { Activation, RowRuns } from "../device/kernels.ts";
import { cast, linear, multiply, reshape } from "../tensor/ops/index.ts";
import { openScope } from "../tensor/scope.ts";
import { ownedEmpty, Tensor } from "../tensor/tensor.ts";
import { FrozenWeight, type WeightProvider } from "./weights.ts";

/** y += scale·up(down(x)). The base weight is never copied. */
export interface Adapter {
  /** [rank, K] */
  down: Tensor;
  /** [N, rank] */
  up: Tensor;
  /** strength · alpha / rank */
  scale: number;
  /** While training: what the hidden values down(x) are multiplied with, of this shape and dtype; else undefined. */
  dropout?: (shape: Shape, dtype: DType) => Tensor | undefined;
}

export interface LinearForward {
  activation?: Activation;
  gate?: { table: Tensor; runs: RowRuns };
  residual?: Tensor;
  dtype?: DType;
}

export class Linear {
  readonly device: Device;
  readonly name: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly weight: FrozenWeight | Tensor;
  readonly bias: Tensor | undefined;
  readonly adapters: Adapter[] = [];

  /** `dtype` is what the products run in; biases are kept in float32 and added before rounding. */
  constructor(
    weights: WeightProvider,
    name: string,
    inputs: number,
    outputs: number,
    options: {
      dtype: DType;
      bias?: boolean /** The shape in the file, where it is not [outputs, inputs]. */;
      storedShape?: Shape;
    },
  ) {
    this.device = weights.device;
    this.name = name;
    this.inputs = inputs;
    this.outputs = outputs;
    this.weight = weights.linear(`${name}.weight`, [outputs, inputs], options.dtype, options.storedShape);
    this.bias = options.bias === false ? undefined : weights.tensor(`${name}.bias`, [outputs], "f32");
  }

  /** x [..., inputs] → [..., outputs] */
  forward(x: Tensor, options: LinearForward = {}): Tensor {
    const weight =
      this.weight instanceof Tensor ? reshape(cast(this.weight, x.dtype), [this.outputs, this.inputs]) : this.weight;
    let addend: Tensor | undefined;
    for (const { down, up, scale, dropout } of this.adapters) {
      const hidden = linear(x, cast(down, x.dtype));
      const mask = dropout?.(hidden.shape, hidden.dtype);
      addend = linear(mask ? multiply(hidden, mask) : hidden, cast(up, x.dtype), {
        scale,
        ...(addend ? { residual: addend } : {}),
      });
    }
    return linear(x, weight, { ...options, bias: this.bias, addend });
  }

  /** Adds the adapters to the weight itself and removes them: W += scale·up·down, summed in float32. */
  merge(): void {
    if (this.adapters.length === 0) return;
    if (!(this.weight instanceof FrozenWeight)) {
      throw new KinoraError("lora.merge", `${this.name} trains its own weight; adapters merge into frozen ones`);
    }
    const { device } = this;
    const dtype = this.weight.scale ? "bf16" : this.weight.dtype;
    using _scope = openScope(device);
    const total = this.weight.values("f32");
    for (const { down, up, scale } of this.adapters) {
      device.kernels.matmul(cast(up, "f32"), cast(down, "f32"), total, { scale, accumulate: true });
    }
    const merged = ownedEmpty(device, this.weight.shape, dtype, "weights");
    device.kernels.cast(total, merged);
    this.weight.replace(merged);
    this.adapters.length = 0;
  }
}
