// A Linear layer over a frozen or trainable weight, and the seam where adapters stand beside it.
import type { DType } from "../base/dtype.ts";
import { KinoraError } from "../base/errors.ts";
import type { Shape } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import type { Activation, RowRuns } from "../device/kernels.ts";
import { cast, linear, reshape } from "../tensor/ops/index.ts";
import type { WeightLike } from "../tensor/ops/linear.ts";
import { openScope } from "../tensor/scope.ts";
import { empty, ownedEmpty, Tensor } from "../tensor/tensor.ts";
import type { Adapter, Seam } from "./adapter.ts";
import { FrozenWeight, isPlainFloat } from "./frozen-weight.ts";
import { Parameter } from "./parameter.ts";
import type { LayerWeight } from "./streamed-weight.ts";
import type { WeightProvider } from "./weights.ts";

export interface LinearForward {
  activation?: Activation;
  gate?: { table: Tensor; runs: RowRuns };
  residual?: Tensor;
  dtype?: DType;
}

/** y = x·Wᵀ + b over a frozen or trainable weight, with the adapters that stand on it. */
export class Linear implements Seam {
  readonly device: Device;
  readonly name: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly weight: LayerWeight | Tensor;
  readonly bias: Parameter | undefined;
  /** On the weight; those of the bias are on it. */
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
    this.bias = options.bias === false ? undefined : new Parameter(weights, `${name}.bias`, [outputs]);
  }

  /** x [..., inputs] → [..., outputs] */
  forward(x: Tensor, options: LinearForward = {}): Tensor {
    // Those before the last that changes the weight itself are in that weight.
    const beside = 1 + this.adapters.findLastIndex(({ apply }) => apply === undefined);
    const weight = beside === 0 ? this.#weightFor(x.dtype) : this.#changed(beside, x.dtype);
    let addend: Tensor | undefined;
    for (const adapter of this.adapters.slice(beside)) addend = adapter.apply!(x, addend);
    return linear(x, weight, { ...options, bias: this.bias?.value, addend });
  }

  /** Puts the adapters into the weight itself and takes them off; sums are made in float32. The bias keeps its own. */
  merge(): void {
    if (this.adapters.length === 0) return;
    if (!(this.weight instanceof FrozenWeight)) {
      const why = this.weight instanceof Tensor ? "trains its own weight" : "is read from its file on demand";
      throw new KinoraError("lora.merge", `${this.name} ${why}; adapters merge into frozen weights in memory`);
    }
    const dtype = isPlainFloat(this.weight.dtype) ? this.weight.dtype : "bf16";
    const merged = ownedEmpty(this.device, this.weight.shape, dtype, "weights");
    using _scope = openScope(this.device);
    this.device.kernels.cast(this.merged(), merged);
    this.weight.replace(merged);
    this.adapters.length = 0;
  }

  /** The weight with all adapters in it, float32 [outputs, inputs] in the current scope. */
  merged(): Tensor {
    return this.#total(this.adapters.length);
  }

  #weightFor(dtype: DType): WeightLike {
    return this.weight instanceof Tensor ? reshape(cast(this.weight, dtype), [this.outputs, this.inputs]) : this.weight;
  }

  /** The weight with the first `count` adapters, float32 [N, K] in the current scope. */
  #total(count: number): Tensor {
    let total: Tensor;
    if (!(this.weight instanceof Tensor)) total = this.weight.values("f32");
    else {
      total = empty(this.device, [this.outputs, this.inputs], "f32");
      this.device.kernels.cast(this.weight.alias([this.outputs, this.inputs]), total);
    }
    for (const adapter of this.adapters.slice(0, count)) adapter.delta(total);
    return total;
  }

  /** The same in `dtype`, for one product. */
  #changed(count: number, dtype: DType): Tensor {
    const changed = empty(this.device, [this.outputs, this.inputs], dtype);
    using _scope = openScope(this.device);
    this.device.kernels.cast(this.#total(count), changed);
    return changed;
  }
}
