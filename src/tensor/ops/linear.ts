// y = epilogue(x·Wᵀ): the products a transformer is made of. The LoRA seam stands above it, in nn/linear.ts.
import type { DType } from "../../base/dtype.ts";
import { checkShape } from "../../base/shape.ts";
import type { Activation, LinearWeight, Operand, RowRuns } from "../../device/kernels.ts";
import { isRecorded, record } from "../tape.ts";
import { empty, Tensor } from "../tensor.ts";
import { activation as activate } from "./activation.ts";
import { gatedAdd } from "./gated-add.ts";

/** What a product takes with it before its result is stored, in this order. */
export interface LinearOptions {
  /** [N] */
  bias?: Tensor | undefined;
  /** [M, N], added before the activation; consumed: its memory may become the result's. */
  addend?: Tensor | undefined;
  /** Multiplies the product. */
  scale?: number;
  activation?: Activation;
  /** y = residual + product·gate row: the gated residual of a transformer block. Table [R, N] float32. */
  gate?: { table: Tensor; runs: RowRuns };
  /** [M, N], added last. */
  residual?: Tensor;
  /** dtype of the result; that of the residual, else that of x, where absent. */
  dtype?: DType;
}

/** Either a trainable tensor [N, K] or a frozen weight in whatever form the device has it. */
export type WeightLike = Tensor | LinearWeight;

export function asLinearWeight(weight: WeightLike): LinearWeight {
  if (!(weight instanceof Tensor)) return weight;
  return { dtype: weight.dtype, shape: [weight.shape[0]!, weight.shape[1]!], plain: weight };
}

/** x [..., K], weight [N, K] → [..., N]. */
export function linear(x: Tensor, weight: WeightLike, options: LinearOptions = {}): Tensor {
  const { bias, addend, scale, activation, gate, residual } = options;
  const trainable = weight instanceof Tensor ? weight : undefined;
  const inputs = [x, trainable, bias, addend, gate?.table, residual];
  if ((activation || gate) && isRecorded(x.device, inputs)) {
    // Recorded: the steps one by one, so that each keeps what its own gradient needs.
    const product = linear(x, weight, { bias, scale, residual: addend, dtype: x.dtype });
    const activated = activation ? activate(activation, product) : product;
    if (gate) return gatedAdd(residual, activated, gate.table, gate.runs, options.dtype);
    return activated;
  }
  const packed = asLinearWeight(weight);
  const [outputs, width] = packed.shape;
  checkShape("the input of a linear layer", x.shape.slice(-1), [width]);
  const shape = [...x.shape.slice(0, -1), outputs];
  const dtype = options.dtype ?? residual?.dtype ?? x.dtype;
  const rows = x.size / width;
  const reuse = addend?.exclusive === true && addend.dtype === dtype;
  const output = reuse ? addend.alias(shape) : empty(x.device, shape, dtype);
  if (addend && !reuse) x.device.kernels.cast(addend, output);
  x.device.kernels.linear(flat(x, rows, width), packed, flat(output, rows, outputs), {
    scale,
    bias,
    accumulate: addend !== undefined,
    activation,
    gate,
    residual: residual && flat(residual, rows, outputs),
  });
  // A frozen weight is its module's; a tensor may be a temporary (a cast of a master copy) and must be kept.
  const saved = trainable ? (trainable.requiresGrad ? [trainable, x] : [trainable]) : [];
  return record("linear", output, inputs, saved, (dy, needs, kept) => {
    const frozen = trainable ? asLinearWeight(kept[0]!) : packed;
    const { kernels } = dy.device;
    let dz = dy;
    if ((needs[0] || needs[1]) && scale !== undefined && scale !== 1) {
      dz = empty(dy.device, dy.shape, dy.dtype);
      kernels.affine(dy, scale, undefined, 0, dz);
    }
    let dx: Tensor | undefined;
    if (needs[0]) {
      dx = empty(dy.device, x.shape, x.dtype);
      kernels.linearBackwardData(flat(dz, rows, outputs), frozen, flat(dx, rows, width));
    }
    let dw: Tensor | undefined;
    if (needs[1]) {
      dw = empty(dy.device, packed.shape, trainable!.dtype);
      kernels.matmul(flat(dz, rows, outputs), flat(kept[1]!, rows, width), dw, { transposeA: true });
    }
    let db: Tensor | undefined;
    if (needs[2]) {
      db = empty(dy.device, bias!.shape, bias!.dtype);
      kernels.sum(flat(dy, rows, outputs), [0], flat(db, 1, outputs));
    }
    return [
      dx,
      dw,
      db,
      needs[3] ? matching(dy, addend!) : undefined,
      undefined,
      needs[5] ? matching(dy, residual!) : undefined,
    ];
  });
}

/** A tensor's elements as a matrix. */
function flat({ block, offset, dtype }: Tensor, rows: number, width: number): Operand {
  return { block, offset, dtype, shape: [rows, width] };
}

/** The gradient itself, in the dtype of the input it belongs to. */
function matching(dy: Tensor, input: Tensor): Tensor {
  if (dy.dtype === input.dtype) return dy;
  const result = empty(dy.device, dy.shape, input.dtype);
  dy.device.kernels.cast(dy, result);
  return result;
}
