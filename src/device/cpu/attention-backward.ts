// The gradients of softmax attention, a tile of keys at a time against all queries. Scores are computed anew, turned:
// [keys, queries], so that log-sum-exp and Σ dout·out run along the columns, where a product's post-operations take them
// in float32. Every elementwise step is then part of a product: five products per tile and no other pass over scores.
import { elementCount } from "../../base/shape.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { f32View } from "../host/host-views.ts";
import type { AttentionOptions, Kernels, Operand } from "../kernels.ts";
import {
  type AttentionSizes,
  attentionSizes,
  clear,
  exponential,
  headRows,
  headTensor,
  reduceRows,
  scaling,
  tileRows,
  turned,
} from "./attention.ts";
import { converted, float32Result, Result } from "./cast.ts";
import { addressOf, type CpuContext, isFast, slice, tensor, turnedStrides } from "./context.ts";
import { type RightFactor, rightFactor } from "./right-factor.ts";

type Fast = "f32" | "bf16";

/** Queries and dout as right factors, each along the head's depth and along the queries. */
interface Factors {
  queriesByDepth: RightFactor;
  queries: RightFactor;
  doutByDepth: RightFactor;
  dout: RightFactor;
}

/** The primitives for tiles of `rows` keys. */
function tilePrimitives(
  ctx: CpuContext,
  rows: number,
  { queries, heads, depth }: AttentionSizes,
  compute: Fast,
  types: { dk: Fast; dv: Fast },
  scale: number,
  biased: boolean,
  factors: Factors,
) {
  const { dnn } = ctx;
  const keyRows = tensor(compute, [rows, depth]);
  const scores = tensor(compute, [rows, queries]);
  const gradientRows = tensor("f32", [rows, depth]);
  const perQuery = tensor("f32", [1, queries]);
  const product = (
    source: TensorDescription,
    weights: TensorDescription,
    target: TensorDescription,
    post: PostOperation<TensorDescription>[] = [],
  ) => dnn.primitive({ kind: "matmul", tensors: { source, weights, target } }, post);
  const subtract = { kind: "binary", algorithm: "subtract", operand: perQuery } as const;
  const addBias = { kind: "binary", algorithm: "add", operand: tensor("f32", [rows, queries]) } as const;
  const take = { source: headTensor(compute, rows, heads, depth), target: keyRows };
  const store = (dtype: Fast) =>
    dnn.primitive({
      kind: "reorder",
      tensors: { source: gradientRows, target: headTensor(dtype, rows, heads, depth) },
    });
  return {
    take: dnn.primitive({ kind: "reorder", tensors: take }),
    /** weights = e^(scale·k·q + bias − logSumExp) */
    weights: product(keyRows, factors.queriesByDepth.description, scores, [
      ...scaling(scale),
      ...(biased ? [addBias] : []),
      subtract,
      exponential,
    ]),
    /** dscores = weights∘(v·dout − Σ dout·out) */
    dscores: product(keyRows, factors.doutByDepth.description, scores, [
      subtract,
      { kind: "binary", algorithm: "multiply", operand: scores },
    ]),
    dv: product(scores, factors.dout.description, gradientRows),
    dk: product(scores, factors.queries.description, gradientRows, scaling(scale)),
    /** dq += scale·dscoresᵀ·k */
    dq: product(
      tensor(compute, [queries, rows], turnedStrides(queries, rows)),
      keyRows,
      tensor("f32", [queries, depth]),
      [...scaling(scale), { kind: "sum", scale: 1 }],
    ),
    storeKeys: store(types.dk),
    storeValues: store(types.dv),
  };
}

/** Σ_d dout·out per query of one head, in float32. */
function sharedPart(
  ctx: CpuContext,
  { queries, heads, depth }: AttentionSizes,
  [out, outAddress]: readonly [Fast, number],
  [dout, doutAddress]: readonly [Fast, number],
  target: Operand,
): void {
  const dense = tensor("f32", [queries, depth]);
  using products = ctx.temporary("f32", [2, queries, depth]);
  const [first, second] = [addressOf(products), addressOf(slice(products, queries * depth, []))];
  const widen = (dtype: Fast, source: number, to: number): void => {
    const tensors = { source: headTensor(dtype, queries, heads, depth), target: dense };
    ctx.run(ctx.dnn.primitive({ kind: "reorder", tensors }), { source, target: to });
  };
  widen(out, outAddress, first);
  widen(dout, doutAddress, second);
  const tensors = { source: dense, source1: dense, target: dense };
  const multiply = ctx.dnn.primitive({ kind: "binary", tensors, algorithm: "multiply" });
  ctx.run(multiply, { source: first, source1: second, target: first });
  ctx.run(reduceRows(ctx, "sum", dense), { source: first, target: addressOf(target) });
}

/** A gradient in a format oneDNN writes; zeroed, so that keys that take no part have none. */
function openGradient(ctx: CpuContext, gradient: Operand | undefined): Result | undefined {
  if (!gradient) return undefined;
  const result = isFast(gradient.dtype) ? new Result(ctx, gradient) : float32Result(ctx, gradient);
  clear(result.operand);
  return result;
}

const formatOf = (result: Result | undefined): Fast => (result?.operand.dtype === "bf16" ? "bf16" : "f32");

/** Rows of bias [H, Lq, Lk] for some keys, turned: [keys, queries]. */
function turnedBias(ctx: CpuContext, bias: Operand, head: number, from: number, rows: number, target: Operand): number {
  const [, queries, keys] = bias.shape as [number, number, number];
  const tensors = {
    source: tensor("f32", [rows, queries], [1, keys]),
    target: tensor("f32", [rows, queries]),
  };
  const source = addressOf(slice(bias, head * queries * keys + from, []));
  ctx.run(ctx.dnn.primitive({ kind: "reorder", tensors }), { source, target: addressOf(target) });
  return addressOf(target);
}

function attentionBackward(
  ctx: CpuContext,
  input: Parameters<Kernels["attentionBackward"]>[0],
  options: AttentionOptions,
  gradients: Parameters<Kernels["attentionBackward"]>[2],
): void {
  const size = attentionSizes(input.q, input.k);
  const { batch, queries, heads, depth } = size;
  const compute: Fast = input.q.dtype === "bf16" ? "bf16" : "f32";
  const zeros = [gradients.dq, gradients.dk, gradients.dv];
  if (elementCount(input.q.shape) === 0 || elementCount(input.k.shape) === 0) {
    for (const gradient of zeros) if (gradient) clear(gradient);
    return;
  }
  using qs = converted(ctx, input.q, compute);
  using ks = converted(ctx, input.k, compute);
  using vs = converted(ctx, input.v, compute);
  using douts = converted(ctx, input.dout, compute);
  using outs = converted(ctx, input.out, input.out.dtype === "bf16" ? "bf16" : "f32");
  using dq = openGradient(ctx, gradients.dq);
  using dk = openGradient(ctx, gradients.dk);
  using dv = openGradient(ctx, gradients.dv);
  const rows = tileRows(size.keys, queries);
  const head = headTensor(compute, queries, heads, depth);
  const factors: Factors = {
    queriesByDepth: rightFactor(ctx, rows, turned(head), compute),
    queries: rightFactor(ctx, rows, head, "f32"),
    doutByDepth: rightFactor(ctx, rows, turned(head), compute),
    dout: rightFactor(ctx, rows, head, "f32"),
  };
  const { dnn } = ctx;
  using byDepthSpace = ctx.temporary("u8", [factors.queriesByDepth.layout.bytes]);
  using queriesSpace = ctx.temporary("u8", [factors.queries.layout.bytes]);
  using doutByDepthSpace = ctx.temporary("u8", [factors.doutByDepth.layout.bytes]);
  using doutSpace = ctx.temporary("u8", [factors.dout.layout.bytes]);
  using keySpace = ctx.temporary(compute, [rows, depth]);
  using weightSpace = ctx.temporary(compute, [rows, queries]);
  using scoreSpace = ctx.temporary(compute, [rows, queries]);
  using gradientSpace = ctx.temporary("f32", [rows, depth]);
  using shared = ctx.temporary("f32", [queries]);
  using querySums = ctx.temporary("f32", [queries, depth]);
  using biasSpace = options.bias && ctx.temporary("f32", [rows, queries]);
  const at = {
    queriesByDepth: addressOf(byDepthSpace),
    queries: addressOf(queriesSpace),
    doutByDepth: addressOf(doutByDepthSpace),
    dout: addressOf(doutSpace),
    keyRows: addressOf(keySpace),
    weights: addressOf(weightSpace),
    scores: addressOf(scoreSpace),
    gradient: addressOf(gradientSpace),
    shared: addressOf(shared),
    dq: addressOf(querySums),
  };
  const types = { dk: formatOf(dk), dv: formatOf(dv) };
  const storeQueries = dnn.primitive({
    kind: "reorder",
    tensors: { source: tensor("f32", [queries, depth]), target: headTensor(formatOf(dq), queries, heads, depth) },
  });
  for (let item = 0; item < batch; item++) {
    const keys = options.keyLengths?.[item] ?? size.keys;
    for (let index = 0; keys > 0 && index < heads; index++) {
      const [query, dout] = [headRows(qs.operand, item, index), headRows(douts.operand, item, index)];
      ctx.run(factors.queriesByDepth.pack, { source: query, target: at.queriesByDepth });
      ctx.run(factors.queries.pack, { source: query, target: at.queries });
      ctx.run(factors.doutByDepth.pack, { source: dout, target: at.doutByDepth });
      ctx.run(factors.dout.pack, { source: dout, target: at.dout });
      const outType: Fast = outs.operand.dtype === "bf16" ? "bf16" : "f32";
      sharedPart(ctx, size, [outType, headRows(outs.operand, item, index)], [compute, dout], shared);
      const logSumExp = addressOf(slice(input.logSumExp, (item * heads + index) * queries, []));
      if (dq) f32View(querySums).fill(0);
      for (let from = 0; from < keys; from += rows) {
        const count = Math.min(rows, keys - from);
        const tile = tilePrimitives(ctx, count, size, compute, types, options.scale, biasSpace !== undefined, factors);
        const bias = biasSpace ? [turnedBias(ctx, options.bias!, index, from, count, biasSpace)] : [];
        ctx.run(tile.take, { source: headRows(ks.operand, item, index, from), target: at.keyRows });
        const byQuery = { source: at.keyRows, weights: at.queriesByDepth, target: at.weights };
        ctx.run(tile.weights, byQuery, [...bias, logSumExp]);
        if (dv) {
          ctx.run(tile.dv, { source: at.weights, weights: at.dout, target: at.gradient });
          ctx.run(tile.storeValues, { source: at.gradient, target: headRows(dv.operand, item, index, from) });
        }
        if (!dq && !dk) continue;
        // The tile of values takes the place of the tile of keys, which dq needs back.
        ctx.run(tile.take, { source: headRows(vs.operand, item, index, from), target: at.keyRows });
        const byDout = { source: at.keyRows, weights: at.doutByDepth, target: at.scores };
        ctx.run(tile.dscores, byDout, [at.shared, at.weights]);
        if (dk) {
          ctx.run(tile.dk, { source: at.scores, weights: at.queries, target: at.gradient });
          ctx.run(tile.storeKeys, { source: at.gradient, target: headRows(dk.operand, item, index, from) });
        }
        if (dq) {
          ctx.run(tile.take, { source: headRows(ks.operand, item, index, from), target: at.keyRows });
          ctx.run(tile.dq, { source: at.scores, weights: at.keyRows, target: at.dq });
        }
      }
      if (dq) ctx.run(storeQueries, { source: at.dq, target: headRows(dq.operand, item, index) });
    }
  }
  for (const gradient of [dq, dk, dv]) gradient?.store();
}

export const attentionBackwardKernels = (ctx: CpuContext) =>
  ({
    attentionBackward: (input, options, gradients) => attentionBackward(ctx, input, options, gradients),
  }) satisfies Partial<Kernels>;
