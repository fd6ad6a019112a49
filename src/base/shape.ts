// Arithmetic of shapes: element counts, row-major strides, broadcasting, comparison. No memory and no dtypes.
import { KinoraError } from "./errors.ts";

/** Sizes along the axes, the outermost first; a scalar's is empty. */
export type Shape = readonly number[];

/** Product of the dimensions; 1 for a scalar's empty shape. */
export function elementCount(shape: Shape): number {
  let product = 1;
  for (let axis = 0; axis < shape.length; axis++) product *= shape[axis]!;
  return product;
}

/** Rows of a matrix with any leading shape: the product of all dimensions but the last. */
export function rowCount(shape: Shape): number {
  let rows = 1;
  for (let axis = 0; axis < shape.length - 1; axis++) rows *= shape[axis]!;
  return rows;
}

/** Elements between neighbours along each axis. An empty axis counts as one, so that no stride is 0. */
export function rowMajorStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= Math.max(1, shape[axis]!);
  }
  return strides;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}

/** `[2, 3]`, for messages. */
export const shapeText = (shape: readonly (number | string)[]): string => `[${shape.join(", ")}]`;

/** The shape two operands broadcast to, as NumPy does. Throws `shape.broadcast`. */
export function broadcastShape(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const sizeA = a[axis - rank + a.length] ?? 1;
    const sizeB = b[axis - rank + b.length] ?? 1;
    if (sizeA !== sizeB && sizeA !== 1 && sizeB !== 1) {
      throw new KinoraError("shape.broadcast", "shapes do not broadcast", {
        expected: "equal sizes or 1",
        actual: `${shapeText(a)} and ${shapeText(b)}`,
      });
    }
    return sizeA === 1 ? sizeB : sizeA;
  });
}

/** Axes of `wide` along which `narrow` was repeated to broadcast. */
export function broadcastAxes(narrow: Shape, wide: Shape): number[] {
  const missing = wide.length - narrow.length;
  return wide.flatMap((size, i) => (i < missing || (narrow[i - missing] === 1 && size !== 1) ? [i] : []));
}

/** Throws `shape.mismatch`. An undefined size may be any. */
export function checkShape(what: string, actual: Shape, expected: readonly (number | undefined)[]): void {
  if (actual.length === expected.length && expected.every((size, i) => size === undefined || size === actual[i]))
    return;
  throw new KinoraError("shape.mismatch", `${what} has the wrong shape`, {
    expected: shapeText(expected.map((size) => size ?? "*")),
    actual: shapeText(actual),
  });
}
