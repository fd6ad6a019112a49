// What each kernel costs in arithmetic and traffic, from the shapes alone. Not time: that depends on the device.
import { bytesOf } from "../../base/dtype.ts";
import { elementCount } from "../../base/shape.ts";
import { type AnyKernel, type KernelName, lastOf, rowsOf } from "../check-operands.ts";
import type { Kernels, LinearWeight, Operand, PackedWeight } from "../kernels.ts";

export interface KernelCost {
  /** Multiplications and additions of products, attention and convolutions: 2 per multiply-add. */
  flops: number;
  /** Elements that a memory-bound kernel goes through. */
  elementwiseOps: number;
  /** Bytes read and written, each operand once. */
  bytes: number;
}

type Work = { flops: number } | { elements: number };
type WorkTable = { readonly [K in keyof Kernels]: (...args: Parameters<Kernels[K]>) => Work };

const size = (operand: Operand): number => elementCount(operand.shape);
const elements = (operand: Operand): Work => ({ elements: size(operand) });

/** Query-key pairs of all heads and batch items that take part. */
function attentionPairs(q: Operand, k: Operand, keyLengths: readonly number[] | undefined): number {
  const [batch, queries, heads] = q.shape as [number, number, number];
  const keys = keyLengths?.reduce((sum, length) => sum + length, 0) ?? batch * k.shape[1]!;
  return heads * queries * keys;
}

/** Every tap of every output, padding too: 2·out·Ci·kernel. The gradients cost the same. */
const convolutionFlops = (out: Operand, weight: Operand): Work => ({
  flops: 2 * size(out) * elementCount(weight.shape.slice(1)),
});

const work: WorkTable = {
  matmul: (a, _b, out, options) => ({ flops: 2 * size(out) * a.shape.at(options?.transposeA ? -2 : -1)! }),
  linear: (x, weight) => ({ flops: 2 * rowsOf(x) * weight.shape[0] * weight.shape[1] }),
  linearBackwardData: (dy, weight) => ({ flops: 2 * rowsOf(dy) * weight.shape[0] * weight.shape[1] }),
  packWeight: elements,
  unpackWeight: (_packed, out) => elements(out),
  attention: (q, k, _v, _out, { keyLengths }) => ({ flops: 4 * lastOf(q) * attentionPairs(q, k, keyLengths) }),
  // The scores again, dP, and one product for each gradient: 2.5 times the forward where all three are asked for.
  attentionBackward({ q, k }, { keyLengths }, { dq, dk, dv }) {
    const products = 1 + (dq || dk ? 1 : 0) + (dq ? 1 : 0) + (dk ? 1 : 0) + (dv ? 1 : 0);
    return { flops: 2 * products * lastOf(q) * attentionPairs(q, k, keyLengths) };
  },
  layerNorm: elements,
  layerNormBackward: elements,
  rmsNorm: elements,
  rmsNormBackward: elements,
  rope: elements,
  activation: (_kind, x) => elements(x),
  activationBackward: (_kind, x) => elements(x),
  gatedAdd: (_x, y) => elements(y),
  sumRuns: elements,
  conv3d: (_x, weight, _bias, out) => convolutionFlops(out, weight),
  conv3dBackwardData: (dy, weight) => convolutionFlops(dy, weight),
  conv3dBackwardWeights: (_x, dy, dweight) => convolutionFlops(dy, dweight),
  binary: (_op, _a, _b, out) => elements(out),
  affine: elements,
  clamp: elements,
  fill: elements,
  cast: elements,
  stridedCopy: (_source, _target, extent) => ({ elements: elementCount(extent) }),
  sum: elements,
  sumSquares: elements,
  softmax: elements,
  softmaxBackward: elements,
  embedding: (_table, _ids, out) => elements(out),
  embeddingBackward: (_ids, dy) => elements(dy),
  adamw: elements,
  adamw8bit: elements,
  normal: elements,
  quantize: elements,
  dequantize: elements,
};

/** Every operand and packed weight that an argument holds, each once. */
function* operandsIn(value: unknown, seen: Set<unknown>): Generator<Operand | PackedWeight> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || seen.has(value)) return;
  seen.add(value);
  if ("block" in value) {
    yield value as Operand | PackedWeight;
    return;
  }
  // A LinearWeight may be a class with accessors; everything else that holds operands is a plain record of options.
  const parts = "plain" in value || "packed" in value ? weightParts(value as LinearWeight) : Object.values(value);
  for (const part of parts) yield* operandsIn(part, seen);
}

/** The operands of a call, each once. */
export function* operandsOf(args: readonly unknown[]): Generator<Operand | PackedWeight> {
  const seen = new Set<unknown>();
  for (const argument of args) yield* operandsIn(argument, seen);
}

const operandSize = (operand: Operand): number => size(operand) * bytesOf(operand.dtype);
const weightParts = ({ plain, scale, packed }: LinearWeight): unknown[] => [plain, scale, packed];

/** Kernels that touch only a part of an operand. */
const partialBytes: { readonly [K in keyof Kernels]?: (...args: Parameters<Kernels[K]>) => number } = {
  stridedCopy: (source, _target, extent, options) =>
    (options?.accumulate ? 3 : 2) * elementCount(extent) * bytesOf(source.operand.dtype),
  embedding: (table, ids, out) => size(out) * (bytesOf(table.dtype) + bytesOf(out.dtype)) + size(ids) * 4,
};

function allBytes(args: readonly unknown[]): number {
  let bytes = 0;
  for (const operand of operandsOf(args)) bytes += "dtype" in operand ? operandSize(operand) : operand.block.size;
  return bytes;
}

/** The cost of one call. Accumulation and in-place results count their operand once. */
export function kernelCost(name: KernelName, args: readonly unknown[]): KernelCost {
  const done = (work[name] as AnyKernel)(...args) as Work;
  const partial = partialBytes[name] as AnyKernel | undefined;
  return {
    flops: "flops" in done ? done.flops : 0,
    elementwiseOps: "elements" in done ? done.elements : 0,
    bytes: partial ? (partial(...args) as number) : allBytes(args),
  };
}
