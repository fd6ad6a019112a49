// Pointwise arithmetic with NumPy broadcasting.
import { broadcastAxes, broadcastShape, sameShape } from "../../base/shape.ts";
import type { BinaryOp } from "../../device/kernels.ts";
import { record } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";

function binary(op: BinaryOp, a: Tensor, b: Tensor): Tensor {
  const output = empty(a.device, broadcastShape(a.shape, b.shape), a.dtype);
  a.device.kernels.binary(op, a, b, output);
  const saved = op === "multiply" || op === "divide" ? [a, b] : [];
  return record(op, output, [a, b], saved, (dy, needs, kept) => {
    const [x, y] = kept;
    const full = (left: Tensor, kind: BinaryOp, right: Tensor) => {
      const result = empty(dy.device, dy.shape, dy.dtype);
      dy.device.kernels.binary(kind, left, right, result);
      return result;
    };
    const negative = (tensor: Tensor) => {
      const result = empty(dy.device, tensor.shape, tensor.dtype);
      dy.device.kernels.affine(tensor, -1, undefined, 0, result);
      return result;
    };
    let da: Tensor | undefined;
    if (needs[0]) da = op === "multiply" ? full(dy, "multiply", y!) : op === "divide" ? full(dy, "divide", y!) : dy;
    let db: Tensor | undefined;
    if (needs[1]) {
      if (op === "add") db = dy;
      else if (op === "subtract") db = negative(dy);
      else if (op === "multiply") db = full(dy, "multiply", x!);
      else db = negative(full(full(full(dy, "multiply", x!), "divide", y!), "divide", y!));
    }
    return [da && reduceTo(da, a), db && reduceTo(db, b)];
  });
}

/** Sums a broadcast gradient back to the shape and dtype of the input it belongs to. */
function reduceTo(gradient: Tensor, input: Tensor): Tensor {
  const axes = broadcastAxes(input.shape, gradient.shape);
  if (axes.length === 0 && gradient.dtype === input.dtype) return gradient;
  const result = empty(gradient.device, input.shape, input.dtype);
  if (axes.length === 0 && sameShape(gradient.shape, input.shape)) {
    gradient.device.kernels.cast(gradient, result);
    return result;
  }
  const kept = gradient.shape.map((size, i) => (axes.includes(i) ? 1 : size));
  gradient.device.kernels.sum(gradient, axes, {
    block: result.block,
    offset: result.offset,
    dtype: result.dtype,
    shape: kept,
  });
  return result;
}

/** a + b; shapes broadcast. */
export const add = (a: Tensor, b: Tensor): Tensor => binary("add", a, b);
/** a − b; shapes broadcast. */
export const subtract = (a: Tensor, b: Tensor): Tensor => binary("subtract", a, b);
/** a·b; shapes broadcast. */
export const multiply = (a: Tensor, b: Tensor): Tensor => binary("multiply", a, b);
/** a / b; shapes broadcast. */
export const divide = (a: Tensor, b: Tensor): Tensor => binary("divide", a, b);

/** factor·x + constant. */
export function scale(x: Tensor, factor: number, constant = 0): Tensor {
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.affine(x, factor, undefined, 0, output, constant);
  return record("scale", output, [x], [], (dy) => {
    const dx = empty(dy.device, dy.shape, dy.dtype);
    dy.device.kernels.affine(dy, factor, undefined, 0, dx);
    return [dx];
  });
}

/** x limited to [low, high]. Has no gradient: for finished pictures. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  const output = empty(x.device, x.shape, x.dtype);
  x.device.kernels.clamp(x, low, high, output);
  return output;
}
