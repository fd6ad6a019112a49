// Kernels that go through elements one by one: activations, arithmetic with broadcasting, gates, rotations, casts.
import { lastOf, rowsOf } from "../check-operands.ts";
import type { BinaryOp, Kernels, Operand } from "../kernels.ts";
import { activations } from "./activations.ts";
import { openOutput, read, tableRows } from "./values.ts";
import { broadcastStrides, walk } from "./walk.ts";

/** out[i] = compute(i); reads its inputs before it stores. */
function each(out: Operand, compute: (i: number) => number): void {
  const target = openOutput(out);
  for (let i = 0; i < target.values.length; i++) target.values[i] = compute(i);
  target.store();
}

const arithmetic: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

export const elementwiseKernels = {
  activation(kind, x, out) {
    const values = read(x);
    const { value } = activations[kind];
    each(out, (i) => value(values[i]!));
  },

  activationBackward(kind, x, dy, dx) {
    const [values, dys] = [read(x), read(dy)];
    const { slope } = activations[kind];
    each(dx, (i) => dys[i]! * slope(values[i]!));
  },

  binary(op, a, b, out) {
    const [left, right, target] = [read(a), read(b), openOutput(out)];
    const compute = arithmetic[op];
    const strides = [a, b, out].map((operand) => broadcastStrides(operand.shape, out.shape));
    walk(out.shape, strides, ([atA, atB, to], length, [stepA, stepB]) => {
      for (let i = 0; i < length; i++) {
        target.values[to! + i] = compute(left[atA! + i * stepA!]!, right[atB! + i * stepB!]!);
      }
    });
    target.store();
  },

  affine(a, alpha, b, beta, out, constant = 0) {
    const left = read(a);
    const right = b && read(b);
    each(out, (i) => alpha * left[i]! + (right ? beta * right[i]! : 0) + constant);
  },

  clamp(x, low, high, out) {
    const values = read(x);
    each(out, (i) => Math.min(high, Math.max(low, values[i]!)));
  },

  fill: (out, value) => each(out, () => value),

  cast(x, out) {
    const values = read(x);
    each(out, (i) => values[i]!);
  },

  gatedAdd(x, y, table, runs, out) {
    const columns = lastOf(y);
    const [ys, gates, rows] = [read(y), read(table), tableRows(runs, rowsOf(y))];
    const xs = x && read(x);
    each(out, (i) => {
      const gate = gates[rows[Math.floor(i / columns)]! * columns + (i % columns)]!;
      return (xs ? xs[i]! : 0) + ys[i]! * gate;
    });
  },

  rope(x, { cos, sin }, out, options = {}) {
    const [, length, heads, depth] = x.shape as [number, number, number, number];
    const [values, cosines, sines, target] = [read(x), read(cos), read(sin), openOutput(out)];
    const half = depth / 2;
    const direction = options.inverse ? -1 : 1;
    for (let at = 0; at < values.length; at += 2) {
      const position = Math.floor(at / (heads * depth)) % length;
      const [real, imaginary] = [values[at]!, values[at + 1]!];
      const turns = position < cos.shape[0]!;
      const entry = position * half + (at % depth) / 2;
      const c = turns ? cosines[entry]! : 1;
      const s = turns ? direction * sines[entry]! : 0;
      target.values[at] = real * c - imaginary * s;
      target.values[at + 1] = real * s + imaginary * c;
    }
    target.store();
  },
} satisfies Partial<Kernels>;
