// What optimizers compute beside AdamW's own kernel: signs, largest values and factored second moments, composed of the
// kernels that every device has. Results stand in the current scope.
import { overRoot } from "../../tensor/ops/over-root.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty, filled, type Tensor } from "../../tensor/tensor.ts";

/** 1/√x of positive values. */
export const inverseRoot = (x: Tensor): Tensor => overRoot(filled(x.device, x.shape, 1), x);

/** Keeps 0/√0 at 0. */
const TINY = 1e-30;

export const root = (x: Tensor): Tensor => overRoot(x, x, TINY);

/** −1, 0 or 1 for each element. */
export function sign(x: Tensor): Tensor {
  const out = empty(x.device, x.shape, "f32");
  const { kernels } = x.device;
  // Twice, for numbers that a single factor would leave below 1.
  kernels.affine(x, 1e30, undefined, 0, out);
  kernels.clamp(out, -1, 1, out);
  kernels.affine(out, 1e30, undefined, 0, out);
  kernels.clamp(out, -1, 1, out);
  return out;
}

/** factor·a∘b */
export function product(a: Tensor, b: Tensor, factor = 1): Tensor {
  const out = empty(a.device, a.shape, "f32");
  a.device.kernels.binary("multiply", a, b, out);
  if (factor !== 1) a.device.kernels.affine(out, factor, undefined, 0, out);
  return out;
}

/** alpha·a + beta·b + constant */
export function combined(a: Tensor, alpha: number, b?: Tensor, beta = 0, constant = 0): Tensor {
  const out = empty(a.device, a.shape, "f32");
  a.device.kernels.affine(a, alpha, b, beta, out, constant);
  return out;
}

/** into ← the larger of the two, element by element. */
export function keepLarger(into: Tensor, other: Tensor): void {
  using _scope = openScope(into.device);
  const more = combined(other, 1, into, -1);
  into.device.kernels.clamp(more, 0, 3e38, more);
  into.device.kernels.affine(into, 1, more, 1, into);
}

/** The sum of all elements, [1]. */
export function total(x: Tensor): Tensor {
  const out = empty(x.device, [1], "f32");
  x.device.kernels.sum(x.alias([x.size]), [0], out);
  return out;
}

/** The root of the mean square, [1]. */
export function rootMeanSquare(x: Tensor): Tensor {
  const mean = empty(x.device, [1], "f32");
  x.device.kernels.sumSquares(x, mean);
  x.device.kernels.affine(mean, 1 / x.size, undefined, 0, mean);
  return root(mean);
}

/** x ← x / max(1, rms(x)/threshold) */
export function clipRootMeanSquare(x: Tensor, threshold: number): void {
  using _scope = openScope(x.device);
  const ratio = combined(rootMeanSquare(x), 1 / threshold);
  x.device.kernels.clamp(ratio, 1, 3e38, ratio);
  x.device.kernels.binary("divide", x, ratio.alias(x.shape.map(() => 1)), x);
}

/** A second moment of matrices kept as the means of their rows and columns (Shazeer & Stern, arXiv 1804.04235). */
export interface Factored {
  /** Means over the last axis, and over the one before it; leading axes are a batch. */
  readonly row: Tensor;
  readonly column: Tensor;
}

export const factoredShapes = (shape: readonly number[]): { row: number[]; column: number[] } => ({
  row: shape.slice(0, -1),
  column: [...shape.slice(0, -2), shape.at(-1)!],
});

function meanOver(x: Tensor, axis: number): Tensor {
  const shape = x.shape.map((size, i) => (i === axis ? 1 : size));
  const out = empty(x.device, shape, "f32");
  x.device.kernels.sum(x, [axis], out);
  x.device.kernels.affine(out, 1 / x.shape[axis]!, undefined, 0, out);
  return out;
}

/** Row and column means follow those of `squares`. */
export function followFactored({ row, column }: Factored, squares: Tensor, beta: number): void {
  const { device, shape } = squares;
  using _scope = openScope(device);
  const rank = shape.length;
  device.kernels.affine(row, beta, meanOver(squares, rank - 1).alias(row.shape), 1 - beta, row);
  device.kernels.affine(column, beta, meanOver(squares, rank - 2).alias(column.shape), 1 - beta, column);
}

/** numerator / √(the second moment that rows and columns stand for) */
export function overFactoredRoot(numerator: Tensor, { row, column }: Factored): Tensor {
  const { device, shape } = numerator;
  const out = empty(device, shape, "f32");
  using _scope = openScope(device);
  const { kernels } = device;
  const rank = shape.length;
  const relative = empty(device, row.shape, "f32");
  kernels.binary("divide", row, meanOver(row, rank - 2), relative);
  kernels.binary("multiply", numerator, inverseRoot(relative).alias([...row.shape, 1]), out);
  const columns = inverseRoot(column).alias([...shape.slice(0, -2), 1, shape.at(-1)!]);
  kernels.binary("multiply", out, columns, out);
  return out;
}
