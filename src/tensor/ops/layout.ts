// Moving elements without arithmetic: reshape, permute, slice, concat, pad, repeat. All on one strided copy.
import { KinoraError } from "../../base/errors.ts";
import { rowMajorStrides, type Shape } from "../../base/shape.ts";
import { record } from "../tape.ts";
import { empty, type Tensor, zeros } from "../tensor.ts";

/** The same elements under another shape; no copy. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const output = x.alias(shape);
  if (output.size !== x.size) {
    throw new KinoraError("shape.mismatch", "reshape keeps the number of elements", {
      actual: `[${x.shape}] to [${shape}]`,
    });
  }
  return record("reshape", output, [x], [], (dy) => [dy.alias(x.shape)]);
}

/** Axis i of the result is axis `axes[i]` of x. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const output = permuted(x, axes);
  return record("permute", output, [x], [], (dy) => {
    const inverse = axes.map((_, i) => axes.indexOf(i));
    return [permuted(dy, inverse)];
  });
}

function permuted(x: Tensor, axes: readonly number[]): Tensor {
  const strides = rowMajorStrides(x.shape);
  const shape = axes.map((axis) => x.shape[axis]!);
  const output = empty(x.device, shape, x.dtype);
  x.device.kernels.stridedCopy(
    { operand: x, offset: 0, strides: axes.map((axis) => strides[axis]!) },
    { operand: output, offset: 0, strides: rowMajorStrides(shape) },
    shape,
  );
  return output;
}

/** Elements `start … start+length-1` of an axis. Along the first axis this is a view, without a copy. */
export function slice(x: Tensor, axis: number, start: number, length: number): Tensor {
  if (start < 0 || length < 0 || start + length > x.shape[axis]!) {
    throw new KinoraError("shape.range", `slice leaves axis ${axis}`, {
      expected: `within 0…${x.shape[axis]}`,
      actual: `${start}…${start + length}`,
    });
  }
  const shape = x.shape.map((size, i) => (i === axis ? length : size));
  const leading = x.shape.slice(0, axis).every((size) => size === 1);
  const strides = rowMajorStrides(x.shape);
  const offset = start * strides[axis]!;
  let output: Tensor;
  if (leading) output = x.alias(shape, offset);
  else {
    output = empty(x.device, shape, x.dtype);
    x.device.kernels.stridedCopy(
      { operand: x, offset, strides },
      { operand: output, offset: 0, strides: rowMajorStrides(shape) },
      shape,
    );
  }
  return record("slice", output, [x], [], (dy) => {
    const dx = zeros(dy.device, x.shape, x.dtype);
    dy.device.kernels.stridedCopy(
      { operand: dy, offset: 0, strides: rowMajorStrides(shape) },
      { operand: dx, offset, strides },
      shape,
    );
    return [dx];
  });
}

/** Joins along an axis; the other dimensions and the dtypes agree. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  const first = parts[0]!;
  if (parts.length === 1) return first;
  const total = parts.reduce((sum, part) => sum + part.shape[axis]!, 0);
  const shape = first.shape.map((size, i) => (i === axis ? total : size));
  const output = empty(first.device, shape, first.dtype);
  const strides = rowMajorStrides(shape);
  let start = 0;
  for (const part of parts) {
    first.device.kernels.stridedCopy(
      { operand: part, offset: 0, strides: rowMajorStrides(part.shape) },
      { operand: output, offset: start * strides[axis]!, strides },
      part.shape,
    );
    start += part.shape[axis]!;
  }
  return record("concat", output, parts, [], (dy, needs) => {
    let position = 0;
    return parts.map((part, i) => {
      const at = position;
      position += part.shape[axis]!;
      return needs[i] ? slice(dy, axis, at, part.shape[axis]!) : undefined;
    });
  });
}

/** Zeros before and after, per axis. */
export function pad(x: Tensor, amounts: readonly (readonly [before: number, after: number])[]): Tensor {
  if (amounts.every(([before, after]) => before === 0 && after === 0)) return x;
  const shape = x.shape.map((size, i) => size + amounts[i]![0] + amounts[i]![1]);
  const strides = rowMajorStrides(shape);
  const offset = amounts.reduce((sum, [before], i) => sum + before * strides[i]!, 0);
  const output = zeros(x.device, shape, x.dtype);
  x.device.kernels.stridedCopy(
    { operand: x, offset: 0, strides: rowMajorStrides(x.shape) },
    { operand: output, offset, strides },
    x.shape,
  );
  return record("pad", output, [x], [], (dy) => {
    const dx = empty(dy.device, x.shape, x.dtype);
    dy.device.kernels.stridedCopy(
      { operand: dy, offset, strides },
      { operand: dx, offset: 0, strides: rowMajorStrides(x.shape) },
      x.shape,
    );
    return [dx];
  });
}

/** Repeats every element `times` in a row along an axis (torch.repeat_interleave); nearest upsampling is two of them. */
export function repeat(x: Tensor, axis: number, times: number): Tensor {
  if (times === 1) return x;
  const strides = rowMajorStrides(x.shape);
  const spread = [...x.shape.slice(0, axis + 1), times, ...x.shape.slice(axis + 1)];
  const shape = x.shape.map((size, i) => (i === axis ? size * times : size));
  const output = empty(x.device, shape, x.dtype);
  x.device.kernels.stridedCopy(
    { operand: x, offset: 0, strides: [...strides.slice(0, axis + 1), 0, ...strides.slice(axis + 1)] },
    { operand: output, offset: 0, strides: rowMajorStrides(spread) },
    spread,
  );
  return record("repeat", output, [x], [], (dy) => {
    const dx = empty(dy.device, x.shape, x.dtype);
    const summed = spread.map((size, i) => (i === axis + 1 ? 1 : size));
    const source = { block: dy.block, offset: dy.offset, dtype: dy.dtype, shape: spread };
    dy.device.kernels.sum(source, [axis + 1], { block: dx.block, offset: dx.offset, dtype: dx.dtype, shape: summed });
    return [dx];
  });
}
