// Exact softmax attention, a row of scores at a time.
// A query without keys (length 0) gives zeros, log-sum-exp −∞ and no gradient.
import type { AttentionOptions, Kernels, Operand } from "../kernels.ts";
import { accumulator, openOutput, read, type Values } from "./values.ts";

interface Sizes {
  batch: number;
  heads: number;
  queries: number;
  keys: number;
  depth: number;
}

function sizes(q: Operand, k: Operand): Sizes {
  const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
  return { batch, heads, queries, keys: k.shape[1]!, depth };
}

/** One head of values [B, L, H, D] as a matrix [L, D]. */
function head(values: Values, { heads, depth }: Sizes, length: number, item: number, index: number): Float64Array {
  const result = new Float64Array(length * depth);
  for (let row = 0; row < length; row++) {
    const start = ((item * length + row) * heads + index) * depth;
    for (let d = 0; d < depth; d++) result[row * depth + d] = values[start + d]!;
  }
  return result;
}

function dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += a[aStart + d]! * b[bStart + d]!;
  return sum;
}

function eachHead({ batch, heads }: Sizes, visit: (item: number, index: number) => void): void {
  for (let item = 0; item < batch; item++) for (let index = 0; index < heads; index++) visit(item, index);
}

/** The score of a query and a key of one head. */
function scorer(q: Float64Array, k: Float64Array, size: Sizes, index: number, options: AttentionOptions) {
  const bias = options.bias && read(options.bias);
  const { queries, keys, depth } = size;
  return (i: number, j: number): number => {
    const score = options.scale * dot(q, i * depth, k, j * depth, depth);
    return bias ? score + bias[(index * queries + i) * keys + j]! : score;
  };
}

export const attentionKernels = {
  attention(q, k, v, out, options, logSumExp) {
    const size = sizes(q, k);
    const { queries, keys, heads, depth } = size;
    const [qs, ks, vs] = [read(q), read(k), read(v)];
    const target = openOutput(out);
    const sums = logSumExp && openOutput(logSumExp);
    const weights = new Float64Array(keys);
    eachHead(size, (item, index) => {
      const score = scorer(
        head(qs, size, queries, item, index),
        head(ks, size, keys, item, index),
        size,
        index,
        options,
      );
      const value = head(vs, size, keys, item, index);
      const length = options.keyLengths?.[item] ?? keys;
      for (let i = 0; i < queries; i++) {
        let top = Number.NEGATIVE_INFINITY;
        for (let j = 0; j < length; j++) {
          weights[j] = score(i, j);
          top = Math.max(top, weights[j]!);
        }
        let total = 0;
        for (let j = 0; j < length; j++) {
          weights[j] = Math.exp(weights[j]! - top);
          total += weights[j]!;
        }
        const row = new Float64Array(depth);
        for (let j = 0; j < length; j++) {
          const weight = weights[j]! / total;
          for (let d = 0; d < depth; d++) row[d]! += weight * value[j * depth + d]!;
        }
        target.values.set(row, ((item * queries + i) * heads + index) * depth);
        if (sums) sums.values[(item * heads + index) * queries + i] = length > 0 ? top + Math.log(total) : top;
      }
    });
    target.store();
    sums?.store();
  },

  attentionBackward({ q, k, v, out, logSumExp, dout }, options, gradients) {
    const size = sizes(q, k);
    const { queries, keys, heads, depth } = size;
    const [qs, ks, vs, outs, douts, sums] = [q, k, v, out, dout, logSumExp].map(read) as [
      Values,
      Values,
      Values,
      Values,
      Values,
      Values,
    ];
    const dq = accumulator(gradients.dq);
    const dk = accumulator(gradients.dk);
    const dv = accumulator(gradients.dv);
    eachHead(size, (item, index) => {
      const [query, key] = [head(qs, size, queries, item, index), head(ks, size, keys, item, index)];
      const value = head(vs, size, keys, item, index);
      const [result, dresult] = [head(outs, size, queries, item, index), head(douts, size, queries, item, index)];
      const score = scorer(query, key, size, index, options);
      const length = options.keyLengths?.[item] ?? keys;
      for (let i = 0; i < queries; i++) {
        const logSum = sums[(item * heads + index) * queries + i]!;
        // Σ_j p·dp: the part of softmax's gradient that all keys share.
        const shared = dot(result, i * depth, dresult, i * depth, depth);
        const iStart = ((item * queries + i) * heads + index) * depth;
        for (let j = 0; j < length; j++) {
          const weight = Math.exp(score(i, j) - logSum);
          const dscore = weight * (dot(dresult, i * depth, value, j * depth, depth) - shared) * options.scale;
          const jStart = ((item * keys + j) * heads + index) * depth;
          if (dq) for (let d = 0; d < depth; d++) dq.sums[iStart + d]! += dscore * key[j * depth + d]!;
          if (dk) for (let d = 0; d < depth; d++) dk.sums[jStart + d]! += dscore * query[i * depth + d]!;
          if (dv) for (let d = 0; d < depth; d++) dv.sums[jStart + d]! += weight * dresult[i * depth + d]!;
        }
      }
    });
    for (const gradient of [dq, dk, dv]) gradient?.store();
  },
} satisfies Partial<Kernels>;
