// Elementwise kernels of the cuda device: arithmetic with broadcasting, casts, activations, gates, rotations, noise.

import { seedWords } from "../../../base/rng/seed.ts";
import { elementCount } from "../../../base/shape.ts";
import { lastOf } from "../../check-operands.ts";
import type { Activation, BinaryOp, Kernels, Operand } from "../../kernels.ts";
import { broadcastStrides } from "../../reference/walk.ts";
import { type CudaContext, dtypeCodes, EIGHT } from "../context.ts";
import type { Argument } from "../launch.ts";
import { int32Struct } from "../structs.ts";

const FILE = "elementwise";
const binaryOps: Readonly<Record<BinaryOp, number>> = { add: 0, subtract: 1, multiply: 2, divide: 3 };
export const activationCodes: Readonly<Record<Activation, number>> = {
  "gelu-tanh": 0,
  silu: 1,
  "quick-gelu": 2,
  "gelu-erf": 3,
};
const AXES = 6;

/** An operand as kernels of any format take it: where it lies and its dtype. */
export const typed = (ctx: CudaContext, operand: Operand | undefined): [Argument, Argument] => [
  ctx.optional(operand),
  operand ? dtypeCodes[operand.dtype] : 0,
];

export function elementwiseKernels(ctx: CudaContext) {
  /** Launches over `count` elements, eight a thread. */
  const each = (name: string, signature: string, count: number, ...values: Argument[]): void => {
    ctx.launcher.launch(ctx.launcher.kernel(FILE, name, signature), ctx.blocksFor(count, EIGHT), ...values, count);
  };
  const kernels = {
    activation(kind, x, out) {
      each(
        "activation",
        "ipipil",
        elementCount(out.shape),
        activationCodes[kind],
        ...typed(ctx, x),
        ...typed(ctx, out),
      );
    },
    activationBackward(kind, x, dy, dx) {
      const operands = [x, dy, dx].flatMap((operand) => typed(ctx, operand));
      each("activation_backward", "ipipipil", elementCount(dx.shape), activationCodes[kind], ...operands);
    },
    binary(op, a, b, out) {
      const count = elementCount(out.shape);
      const pad = (values: readonly number[], fill: number) => [
        ...new Array(AXES - values.length).fill(fill),
        ...values,
      ];
      const [left, right] = [a, b].map(({ shape }) => broadcastStrides(shape, out.shape));
      const struct = int32Struct(count, [...pad(out.shape, 1), ...pad(left!, 0), ...pad(right!, 0)]);
      const kernel = ctx.launcher.kernel(FILE, "binary", "pipipiis");
      const operands = [a, b, out].flatMap((operand) => typed(ctx, operand));
      ctx.launcher.launch(kernel, ctx.blocksFor(count), ...operands, binaryOps[op], struct);
    },
    affine(a, alpha, b, beta, out, constant = 0) {
      const values = [...typed(ctx, a), alpha, ...typed(ctx, b), beta, constant, ...typed(ctx, out)];
      each("affine", "pifpiffpil", elementCount(out.shape), ...values);
    },
    clamp(x, low, high, out) {
      each("clamp", "piffpil", elementCount(out.shape), ...typed(ctx, x), low, high, ...typed(ctx, out));
    },
    fill(out, value) {
      each("fill", "pifl", elementCount(out.shape), ...typed(ctx, out), value);
    },
    cast(x, out) {
      each("cast", "pipil", elementCount(out.shape), ...typed(ctx, x), ...typed(ctx, out));
    },
    gatedAdd(x, y, table, runs, out) {
      using rows = ctx.runs(runs);
      const operands = [x, y, table].flatMap((operand) => typed(ctx, operand));
      const values = [...operands, ctx.address(rows), runs.length, ...typed(ctx, out), lastOf(y)];
      each("gated_add", "pipipipipiil", elementCount(out.shape), ...values);
    },
    rope(x, { cos, sin }, out, options = {}) {
      const [, length, heads, depth] = x.shape as [number, number, number, number];
      const direction = options.inverse ? -1 : 1;
      const table = [ctx.address(cos), ctx.address(sin), cos.shape[0]!, direction];
      const values = [...typed(ctx, x), ...table, ...typed(ctx, out), length, heads, depth];
      const pairs = elementCount(x.shape) / 2;
      const kernel = ctx.launcher.kernel(FILE, "rope", "pippifpiiiil");
      ctx.launcher.launch(kernel, ctx.blocksFor(pairs), ...values, pairs);
    },
    normal(out, { seed, stream, offset }) {
      const { low, high } = seedWords(seed);
      const count = elementCount(out.shape);
      const kernel = ctx.launcher.kernel(FILE, "normal", "plliiii");
      // Four numbers a thread; the first and the last four may be cut.
      const blocks = ctx.blocksFor(Math.ceil(count / 4) + 1);
      const words = [low | 0, high | 0, stream | 0, Math.floor(stream / 2 ** 32) | 0];
      if (count > 0) ctx.launcher.launch(kernel, blocks, ctx.address(out), count, offset, ...words);
    },
  } satisfies Partial<Kernels>;
  return kernels;
}
