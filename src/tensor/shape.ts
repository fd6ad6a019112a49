// Arithmetic of shapes: row-major strides, broadcasting, axis checks.
import { KinoraError } from "../base/errors.ts";

export type Shape = readonly number[];

export function rowMajorStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** The shape two operands broadcast to, as NumPy does. Throws `shape.broadcast`. */
export function broadcastShape(a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new KinoraError("shape.broadcast", "shapes do not broadcast", { actual: `[${a}] and [${b}]` });
    }
    return x === 1 ? y : x;
  });
}

/** Axes of `wide` along which `narrow` was repeated to broadcast. */
export function broadcastAxes(narrow: Shape, wide: Shape): number[] {
  const missing = wide.length - narrow.length;
  return wide.flatMap((size, i) => (i < missing || (narrow[i - missing] === 1 && size !== 1) ? [i] : []));
}

export function checkShape(what: string, actual: Shape, expected: readonly (number | undefined)[]): void {
  if (actual.length === expected.length && expected.every((size, i) => size === undefined || size === actual[i]))
    return;
  throw new KinoraError("shape.mismatch", `${what} has the wrong shape`, {
    expected: `[${expected.map((size) => size ?? "*")}]`,
    actual: `[${actual}]`,
  });
}
