// Kernels that go through elements one by one: activations and arithmetic on oneDNN, the rest as loops over float32 chunks.
import type { DType } from "../../base/dtype.ts";
import { elementCount } from "../../base/shape.ts";
import type { BinaryAlgorithm, EltwiseAlgorithm, TensorDescription } from "../../ffi/onednn-operations.ts";
import { f32View, view } from "../host/host-views.ts";
import type { Activation, BinaryOp, Kernels, Operand } from "../kernels.ts";
import { elementwiseKernels as reference } from "../reference/elementwise.ts";
import { broadcastStrides, walk } from "../reference/walk.ts";
import { asFloat32, type Converted, cast, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, isFast, slice, tensor } from "./context.ts";
import { eachRowChunk } from "./row-chunks.ts";

/** How oneDNN computes each activation: its algorithm and parameter. */
export const eltwiseOf: Readonly<Record<Activation, { algorithm: EltwiseAlgorithm; alpha: number }>> = {
  "gelu-tanh": { algorithm: "gelu-tanh", alpha: 0 },
  "gelu-erf": { algorithm: "gelu-erf", alpha: 0 },
  silu: { algorithm: "swish", alpha: 1 },
  "quick-gelu": { algorithm: "swish", alpha: 1.702 },
};

/** Several operands in float32; disposed of together. */
function allFloat32(ctx: CpuContext, operands: readonly Operand[]): Disposable & { operands: Operand[] } {
  const held: Converted[] = [];
  const dispose = () => {
    for (const one of held) one[Symbol.dispose]();
  };
  try {
    for (const operand of operands) held.push(asFloat32(ctx, operand));
  } catch (error) {
    dispose();
    throw error;
  }
  return { operands: held.map(({ operand }) => operand), [Symbol.dispose]: dispose };
}

/** Inputs and out as flat operands of one format: bf16 where all are, else float32, by chunks where that converts. */
function eachAlike(
  ctx: CpuContext,
  inputs: readonly Operand[],
  out: Operand,
  compute: (inputs: readonly Operand[], out: Operand, dtype: "f32" | "bf16") => void,
): void {
  const count = elementCount(out.shape);
  if (count === 0) return;
  if (isFast(out.dtype) && inputs.every((operand) => operand.dtype === out.dtype)) {
    const flat = (operand: Operand): Operand => slice(operand, 0, [count]);
    compute(inputs.map(flat), flat(out), out.dtype);
    return;
  }
  eachFloat32(ctx, inputs, out, (wide, result) => compute(wide, result, "f32"));
}

/** Inputs and out as flat float32 operands, by chunks. */
function eachFloat32(
  ctx: CpuContext,
  inputs: readonly Operand[],
  out: Operand,
  compute: (inputs: readonly Operand[], out: Operand) => void,
): void {
  eachRowChunk(0, elementCount(out.shape), 1, (start, length) => {
    const part = (operand: Operand): Operand => slice(operand, start, [length]);
    using wide = allFloat32(ctx, inputs.map(part));
    using result = float32Result(ctx, part(out));
    compute(wide.operands, result.operand);
    result.store();
  });
}

/** out = activation(x); out may be x. */
export function applyActivation(ctx: CpuContext, kind: Activation, x: Operand, out: Operand): void {
  eachAlike(ctx, [x], out, ([source], target, dtype) => {
    const flat = tensor(dtype, [elementCount(target.shape)]);
    const operation = {
      kind: "eltwise",
      tensors: { source: flat, target: flat },
      ...eltwiseOf[kind],
      beta: 0,
    } as const;
    ctx.run(ctx.dnn.primitive(operation), { source: addressOf(source!), target: addressOf(target) });
  });
}

function activationBackward(ctx: CpuContext, kind: Activation, x: Operand, dy: Operand, dx: Operand): void {
  eachAlike(ctx, [x, dy], dx, ([source, diff], target, dtype) => {
    const flat = tensor(dtype, [elementCount(target.shape)]);
    const tensors = { source: flat, diffTarget: flat, diffSource: flat };
    ctx.run(ctx.dnn.primitive({ kind: "eltwise-backward", tensors, ...eltwiseOf[kind], beta: 0 }), {
      source: addressOf(source!),
      diffTarget: addressOf(diff!),
      diffSource: addressOf(target),
    });
  });
}

const arithmetic: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

const narrowFloat = (dtype: DType): boolean => isFast(dtype) || dtype === "f16" || dtype.startsWith("f8");

/** Two shapes broadcast to a third, neighbouring axes joined where both run on or both repeat. */
function joinedAxes(a: Operand, b: Operand, out: Operand): { a: number[]; b: number[]; out: number[] } {
  const rank = out.shape.length;
  const at = (operand: Operand, axis: number): number => operand.shape[axis - rank + operand.shape.length] ?? 1;
  const joined = { a: [] as number[], b: [] as number[], out: [] as number[] };
  let previous = "";
  for (let axis = 0; axis < rank; axis++) {
    const size = out.shape[axis]!;
    if (size === 1) continue;
    const [sizeA, sizeB] = [at(a, axis), at(b, axis)];
    const pattern = `${sizeA === size}${sizeB === size}`;
    if (pattern === previous) {
      const last = joined.out.length - 1;
      joined.a[last]! *= sizeA;
      joined.b[last]! *= sizeB;
      joined.out[last]! *= size;
    } else {
      joined.a.push(sizeA);
      joined.b.push(sizeB);
      joined.out.push(size);
    }
    previous = pattern;
  }
  if (joined.out.length === 0) return { a: [1], b: [1], out: [1] };
  return joined;
}

function binary(ctx: CpuContext, op: BinaryOp, a: Operand, b: Operand, out: Operand): void {
  if (elementCount(out.shape) === 0) return;
  if (![a, b, out].every(({ dtype }) => narrowFloat(dtype))) {
    reference.binary(op, a, b, out);
    return;
  }
  const shapes = joinedAxes(a, b, out);
  if (shapes.a.join() === shapes.out.join() && shapes.b.join() === shapes.out.join()) {
    eachAlike(ctx, [a, b], out, ([left, right], target, dtype) => {
      const flat = [elementCount(target.shape)];
      // The plain form always has an implementation of its own.
      tryBinary(ctx, op, left!, flat, right!, flat, target, dtype);
    });
    return;
  }
  if (isFast(out.dtype) && a.dtype === out.dtype && b.dtype === out.dtype) {
    if (tryBinary(ctx, op, a, shapes.a, b, shapes.b, out, out.dtype, shapes.out)) return;
    const commutes = op === "add" || op === "multiply";
    if (commutes && tryBinary(ctx, op, b, shapes.b, a, shapes.a, out, out.dtype, shapes.out)) return;
  }
  using wide = allFloat32(ctx, [a, b]);
  using result = float32Result(ctx, out);
  loopBinary(op, wide.operands[0]!, shapes.a, wide.operands[1]!, shapes.b, result.operand, shapes.out);
  result.store();
}

/** Whether oneDNN did it: only where `a` is not repeated and the primitive is not its slow fall-back. */
function tryBinary(
  ctx: CpuContext,
  op: BinaryOp,
  a: Operand,
  shapeA: readonly number[],
  b: Operand,
  shapeB: readonly number[],
  out: Operand,
  dtype: "f32" | "bf16",
  shape = shapeA,
): boolean {
  if (shapeA.join() !== shape.join() || shape.length > 5) return false;
  const full = tensor(dtype, shape);
  const algorithm: BinaryAlgorithm = op;
  const tensors: Record<"source" | "source1" | "target", TensorDescription> = {
    source: full,
    source1: tensor(dtype, shapeB),
    target: full,
  };
  const primitive = ctx.dnn.tryPrimitive({ kind: "binary", tensors, algorithm });
  if (!primitive || primitive.implementation.startsWith("ref")) return false;
  ctx.run(primitive, { source: addressOf(a), source1: addressOf(b), target: addressOf(out) });
  return true;
}

function loopBinary(
  op: BinaryOp,
  a: Operand,
  shapeA: readonly number[],
  b: Operand,
  shapeB: readonly number[],
  out: Operand,
  shape: readonly number[],
): void {
  const [left, right, target] = [f32View(a), f32View(b), f32View(out)];
  const compute = arithmetic[op];
  const strides = [shapeA, shapeB, shape].map((own) => broadcastStrides(own, shape));
  walk(shape, strides, ([atA, atB, to], length, [stepA, stepB]) => {
    for (let i = 0; i < length; i++) target[to! + i] = compute(left[atA! + i * stepA!]!, right[atB! + i * stepB!]!);
  });
}

function affine(
  ctx: CpuContext,
  a: Operand,
  alpha: number,
  b: Operand | undefined,
  beta: number,
  out: Operand,
  constant = 0,
): void {
  if (![a, out, ...(b ? [b] : [])].every(({ dtype }) => narrowFloat(dtype))) {
    reference.affine(a, alpha, b, beta, out, constant);
    return;
  }
  eachFloat32(ctx, b ? [a, b] : [a], out, ([first, second], target) => {
    const [left, to] = [f32View(first!), f32View(target)];
    if (second) {
      const right = f32View(second);
      for (let i = 0; i < to.length; i++) to[i] = alpha * left[i]! + beta * right[i]! + constant;
    } else {
      for (let i = 0; i < to.length; i++) to[i] = alpha * left[i]! + constant;
    }
  });
}

function clamp(ctx: CpuContext, x: Operand, low: number, high: number, out: Operand): void {
  if (!narrowFloat(x.dtype) || !narrowFloat(out.dtype)) {
    reference.clamp(x, low, high, out);
    return;
  }
  eachFloat32(ctx, [x], out, ([source], target) => {
    const [from, to] = [f32View(source!), f32View(target)];
    for (let i = 0; i < to.length; i++) to[i] = Math.min(high, Math.max(low, from[i]!));
  });
}

function fill(out: Operand, value: number): void {
  if (elementCount(out.shape) === 0) return;
  // The reference rounds one element; the others are its copies.
  reference.fill(slice(out, 0, [1]), value);
  const elements = view(out);
  if (elements instanceof BigInt64Array) elements.fill(elements[0]!);
  else elements.fill(elements[0]!);
}

export const elementwiseKernels = (ctx: CpuContext) =>
  ({
    activation: (kind, x, out) => applyActivation(ctx, kind, x, out),
    activationBackward: (kind, x, dy, dx) => activationBackward(ctx, kind, x, dy, dx),
    binary: (op, a, b, out) => binary(ctx, op, a, b, out),
    affine: (a, alpha, b, beta, out, constant) => affine(ctx, a, alpha, b, beta, out, constant),
    clamp: (x, low, high, out) => clamp(ctx, x, low, high, out),
    fill,
    cast: (x, out) => cast(ctx, x, out),
  }) satisfies Partial<Kernels>;
