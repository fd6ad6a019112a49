// Attention: lengths, masks, bias, head sizes, dtypes; gradients against finite differences; no score matrix held.
import { expect } from "vitest";
import type { AttentionOptions } from "../../../src/device/kernels.ts";
import { type Bench, type Case, type Known, numericalGradient } from "./bench.ts";
import { type AttentionSizes, attention } from "./oracle.ts";

interface Variant {
  name: string;
  sizes: AttentionSizes;
  scale?: number;
  keyLengths?: readonly number[];
  bias?: boolean;
  /** Every score is far below zero, so that whatever took part by mistake would outweigh all keys. */
  far?: boolean;
}

const size = (batch: number, queries: number, keys: number, heads: number, depth: number): AttentionSizes => ({
  batch,
  queries,
  keys,
  heads,
  depth,
});

const variants: readonly Variant[] = [
  { name: "one of everything", sizes: size(1, 1, 1, 1, 2) },
  { name: "odd lengths", sizes: size(2, 5, 7, 3, 8) },
  { name: "beyond blocks of 16 and 64", sizes: size(1, 70, 130, 2, 64) },
  { name: "head size 128", sizes: size(1, 33, 17, 1, 128) },
  { name: "odd head size", sizes: size(1, 9, 10, 2, 20) },
  { name: "key lengths", sizes: size(3, 6, 9, 2, 16), keyLengths: [9, 4, 1] },
  { name: "a batch item without keys", sizes: size(2, 4, 5, 2, 8), keyLengths: [0, 5] },
  { name: "bias, unscaled", sizes: size(2, 11, 13, 2, 8), scale: 1, bias: true },
  { name: "bias and key lengths", sizes: size(2, 6, 6, 2, 8), keyLengths: [6, 2], bias: true },
  { name: "bias, head size 64", sizes: size(2, 67, 70, 2, 64), scale: 1, keyLengths: [70, 5], bias: true },
  { name: "bias, head size 128", sizes: size(1, 3, 65, 1, 128), bias: true },
  { name: "an item without keys, head size 64", sizes: size(2, 65, 66, 1, 64), keyLengths: [0, 65] },
  { name: "no queries", sizes: size(1, 0, 5, 2, 8) },
  { name: "no keys", sizes: size(1, 3, 0, 2, 8) },
  { name: "empty batch", sizes: size(0, 3, 4, 2, 8) },
];

interface Inputs {
  q: Known;
  k: Known;
  v: Known;
  bias: Known | undefined;
  options: AttentionOptions;
}

function inputs(bench: Bench, variant: Variant, dtype: "f32" | "bf16"): Inputs {
  const { batch, queries, keys, heads, depth } = variant.sizes;
  const bias = variant.bias ? bench.random([heads, queries, keys]) : undefined;
  return {
    q: variant.far
      ? bench.from(new Float64Array(batch * queries * heads * depth).fill(2), [batch, queries, heads, depth], dtype)
      : bench.random([batch, queries, heads, depth], dtype),
    k: variant.far
      ? bench.from(
          Float64Array.from({ length: batch * keys * heads * depth }, (_, i) => -2 - (i % 7) / 64),
          [batch, keys, heads, depth],
          dtype,
        )
      : bench.random([batch, keys, heads, depth], dtype),
    v: bench.random([batch, keys, heads, depth], dtype),
    bias,
    options: {
      scale: variant.scale ?? 1 / Math.sqrt(depth),
      ...(variant.keyLengths ? { keyLengths: variant.keyLengths } : {}),
      ...(bias ? { bias } : {}),
    },
  };
}

const forwardCases: Case[] = variants.flatMap((variant) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `attention ${variant.name} ${dtype}`,
    async run(bench: Bench) {
      const { q, k, v, bias, options } = inputs(bench, variant, dtype);
      const { batch, queries, heads } = variant.sizes;
      const out = bench.blank(q.shape, dtype);
      const plain = bench.blank(q.shape, dtype);
      const logSumExp = bench.blank([batch, heads, queries]);
      bench.kernels.attention(q, k, v, out, options, logSumExp);
      bench.kernels.attention(q, k, v, plain, options);
      const reference = () => attention(q.values, k.values, v.values, variant.sizes, options, bias?.values);
      await bench.expectClose(out, () => reference().out);
      await bench.expectClose(plain, () => reference().out);
      const sums = await bench.read(logSumExp);
      if (!bench.computes) return;
      for (const [i, expected] of reference().logSumExp.entries()) {
        if (Number.isFinite(expected))
          expect(Math.abs(sums[i]! - expected)).toBeLessThan(dtype === "f32" ? 1e-4 : 2e-2);
        else expect(sums[i]).toBe(expected);
      }
    },
  })),
);

/** Finite differences cost a forward per element: small sizes only. */
const gradientVariants: readonly Variant[] = [
  { name: "plain", sizes: size(1, 5, 4, 2, 6) },
  { name: "key lengths", sizes: size(2, 3, 5, 1, 4), keyLengths: [2, 5] },
  { name: "a batch item without keys", sizes: size(2, 2, 3, 1, 4), keyLengths: [3, 0] },
  { name: "bias, unscaled", sizes: size(1, 4, 3, 2, 4), scale: 1, bias: true },
  { name: "one of everything", sizes: size(1, 1, 1, 1, 2) },
];

const gradientCases: Case[] = gradientVariants.flatMap((variant) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `attentionBackward ${variant.name} ${dtype}`,
    async run(bench: Bench) {
      const { q, k, v, bias, options } = inputs(bench, variant, dtype);
      const { batch, queries, heads } = variant.sizes;
      const out = bench.blank(q.shape, dtype);
      const logSumExp = bench.blank([batch, heads, queries]);
      bench.kernels.attention(q, k, v, out, options, logSumExp);
      const dout = bench.random(q.shape, dtype);
      const gradients = {
        dq: bench.blank(q.shape, dtype),
        dk: bench.blank(k.shape, dtype),
        dv: bench.blank(v.shape, dtype),
      };
      const given = { q, k, v, out, logSumExp, dout };
      bench.kernels.attentionBackward(given, options, gradients);
      const f = ([x, y, z]: Float64Array[]) => attention(x!, y!, z!, variant.sizes, options, bias?.values).out;
      const values = [q.values, k.values, v.values];
      for (const [which, gradient] of [gradients.dq, gradients.dk, gradients.dv].entries()) {
        await bench.expectClose(gradient, () => numericalGradient(f, values, which, dout.values), [dtype]);
      }
      // Each alone gives what all together gave.
      for (const name of ["dq", "dk", "dv"] as const) {
        const together = await bench.read(gradients[name]);
        const alone = bench.blank(gradients[name].shape, dtype);
        bench.kernels.attentionBackward(given, options, { [name]: alone });
        await bench.expectClose(alone, () => together, [dtype]);
      }
    },
  })),
);

/** Sizes that finite differences cannot reach: the textbook formulas with the whole score matrix. */
const blockedVariants: readonly Variant[] = [
  { name: "blocks of 64", sizes: size(1, 75, 140, 2, 32), keyLengths: [133] },
  { name: "head size 64", sizes: size(2, 70, 97, 2, 64), keyLengths: [97, 33] },
  { name: "head size 128", sizes: size(1, 33, 130, 2, 128) },
  { name: "more queries than keys, an item without keys", sizes: size(2, 129, 5, 1, 64), keyLengths: [0, 5] },
  { name: "scores far below zero", sizes: size(1, 3, 5, 1, 64), scale: 1, far: true },
  { name: "a query of head size 128", sizes: size(1, 1, 65, 1, 128), scale: 0.3 },
];

function textbookGradients(
  { q, k, v, options }: Inputs,
  dout: Float64Array,
  { batch, queries, keys, heads, depth }: AttentionSizes,
) {
  const result = {
    dq: new Float64Array(q.values.length),
    dk: new Float64Array(k.values.length),
    dv: new Float64Array(v.values.length),
  };
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number) =>
    a.subarray(i, i + depth).reduce((sum, value, d) => sum + value * b[j + d]!, 0);
  for (let item = 0; item < batch; item++) {
    const count = options.keyLengths?.[item] ?? keys;
    for (let head = 0; head < heads; head++) {
      const query = (row: number) => ((item * queries + row) * heads + head) * depth;
      const key = (row: number) => ((item * keys + row) * heads + head) * depth;
      for (let i = 0; i < queries; i++) {
        const scores = Array.from(
          { length: count },
          (_, j) => options.scale * dot(q.values, query(i), k.values, key(j)),
        );
        const top = Math.max(...scores);
        const total = scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
        const weights = scores.map((score) => Math.exp(score - top) / total);
        const dweights = scores.map((_, j) => dot(dout, query(i), v.values, key(j)));
        const mean = weights.reduce((sum, weight, j) => sum + weight * dweights[j]!, 0);
        for (const [j, weight] of weights.entries()) {
          const dscore = weight * (dweights[j]! - mean) * options.scale;
          for (let d = 0; d < depth; d++) {
            result.dq[query(i) + d]! += dscore * k.values[key(j) + d]!;
            result.dk[key(j) + d]! += dscore * q.values[query(i) + d]!;
            result.dv[key(j) + d]! += weight * dout[query(i) + d]!;
          }
        }
      }
    }
  }
  return result;
}

const blockedGradientCases: Case[] = blockedVariants.flatMap((variant) =>
  (["f32", "bf16"] as const).map((dtype) => ({
    name: `attentionBackward beyond finite differences: ${variant.name} ${dtype}`,
    async run(bench: Bench) {
      const given = inputs(bench, variant, dtype);
      const { q, k, v, options } = given;
      const { batch, queries, heads } = variant.sizes;
      const out = bench.blank(q.shape, dtype);
      const logSumExp = bench.blank([batch, heads, queries]);
      bench.kernels.attention(q, k, v, out, options, logSumExp);
      const dout = bench.random(q.shape, dtype);
      const gradients = {
        dq: bench.blank(q.shape, dtype),
        dk: bench.blank(k.shape, dtype),
        dv: bench.blank(v.shape, dtype),
      };
      const saved = { q, k, v, out, logSumExp, dout };
      bench.kernels.attentionBackward(saved, options, gradients);
      const expected = bench.computes ? textbookGradients(given, dout.values, variant.sizes) : undefined;
      for (const name of ["dq", "dk", "dv"] as const) {
        // Gradients of equal scores are what rounding leaves of differences: they have to be numbers.
        const values = await bench.read(gradients[name]);
        if (variant.far) expect(values.every(Number.isFinite) || !bench.computes).toBe(true);
        else await bench.expectClose(gradients[name], () => expected![name], [dtype]);
        // The same bits each time, also when it is asked for alone.
        const alone = bench.blank(gradients[name].shape, dtype);
        bench.kernels.attentionBackward(saved, options, { [name]: alone });
        if (bench.computes) expect(await bench.read(alone)).toEqual(values);
      }
    },
  })),
);

const longCase: Case = {
  name: "attention over 1500 tokens: equal scores give the mean, without a score matrix in memory",
  async run(bench) {
    const [tokens, depth] = [1500, 16];
    const q = bench.from(new Float64Array(tokens * depth), [1, tokens, 1, depth]);
    const [k, v] = [bench.random(q.shape), bench.random(q.shape)];
    const out = bench.blank(q.shape);
    bench.device.resetPeak();
    const before = bench.device.memory().live;
    bench.kernels.attention(q, k, v, out, { scale: 1 });
    expect(bench.device.memory().peak - before).toBeLessThan(tokens * tokens * 4);
    await bench.expectClose(out, () => {
      const mean = new Float64Array(depth);
      for (const [i, value] of v.values.entries()) mean[i % depth]! += value / tokens;
      return v.values.map((_, i) => mean[i % depth]!);
    });
  },
};

const largeScoresCase: Case = {
  name: "attention with scores in the thousands stays finite",
  async run(bench) {
    const sizes = size(1, 8, 9, 1, 8);
    const [q, k, v] = [bench.random([1, 8, 1, 8]), bench.random([1, 9, 1, 8]), bench.random([1, 9, 1, 8])];
    const out = bench.blank(q.shape);
    const options = { scale: 3000 };
    bench.kernels.attention(q, k, v, out, options);
    // Scores this large lose their last digits in float32: compare with room for it.
    await bench.expectClose(out, () => attention(q.values, k.values, v.values, sizes, options).out, ["bf16"]);
  },
};

export const attentionCases: readonly Case[] = [
  ...forwardCases,
  ...gradientCases,
  ...blockedGradientCases,
  longCase,
  largeScoresCase,
];
