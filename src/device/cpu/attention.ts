// Softmax attention, forward, a tile of queries at a time against all keys, so that no more than a tile of scores exists.
//
// exp is fused into the product of queries and keys: a tile holds e^score, not scores, in the run's format, and the rows
// are divided by their sums at the end. Softmax does not change when a row's scores all move by the same amount, so nothing
// is subtracted first: float32 and bf16 hold e^score for scores from −55 to 69 with room for the sums. A tile whose sums
// leave that range (`trusted`) is done again with each row's largest score subtracted.
// Against a separate softmax pass this saves writing and reading float32 scores: 195 against 181 GFLOP/s of bf16 per Zen 4
// core at 7,800 keys, and it gives the log-sum-exp of unrounded sums.
import { elementCount } from "../../base/shape.ts";
import type { Primitive } from "../../ffi/onednn.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { f32View, view } from "../host/host-views.ts";
import type { AttentionOptions, Kernels, Operand } from "../kernels.ts";
import { converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, isFast, slice, tensor } from "./context.ts";
import { type RightFactor, rightFactor } from "./right-factor.ts";

/** Elements of a tile of scores: with 7,800 keys 128 queries, which is fastest on Zen 4. */
const TILE_ELEMENTS = 1 << 20;
const LEAST_ROWS = 64;
const MOST_ROWS = 1024;

/** Sums of exponentials that neither lost their largest terms nor come near the end of float32. */
const trusted = (sum: number): boolean => sum > 1e-24 && sum < 1e30;

export interface AttentionSizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly depth: number;
}

export function attentionSizes(q: Operand, k: Operand): AttentionSizes {
  const [batch, queries, heads, depth] = q.shape as [number, number, number, number];
  return { batch, heads, queries, keys: k.shape[1]!, depth };
}

/** How many rows of a tile, for this many columns: a multiple of 16, and no last tile much smaller than the others. */
export function tileRows(rows: number, columns: number): number {
  const most = Math.min(MOST_ROWS, Math.max(LEAST_ROWS, Math.floor(TILE_ELEMENTS / Math.max(1, columns) / 64) * 64));
  const tiles = Math.ceil(rows / most);
  return Math.min(rows, Math.ceil(rows / tiles / 16) * 16);
}

/** Rows `[from, from + count)` of one head of [B, L, H, D], where they lie. */
export function headRows(operand: Operand, item: number, head: number, from = 0): number {
  const [, length, heads, depth] = operand.shape as [number, number, number, number];
  return addressOf(slice(operand, ((item * length + from) * heads + head) * depth, []));
}

/** The description of some rows of one head of [B, L, H, D]. */
export const headTensor = (dtype: "f32" | "bf16", rows: number, heads: number, depth: number): TensorDescription =>
  tensor(dtype, [rows, depth], [heads * depth, 1]);

export const exponential: PostOperation<TensorDescription> = { kind: "eltwise", algorithm: "exp", alpha: 0, beta: 0 };

export const scaling = (alpha: number): PostOperation<TensorDescription>[] =>
  alpha === 1 ? [] : [{ kind: "eltwise", algorithm: "linear", alpha, beta: 0 }];

/** A head's rows turned: [D, L]. */
export const turned = ({ dtype, dims, strides }: TensorDescription): TensorDescription => ({
  dtype,
  dims: [dims[1]!, dims[0]!],
  strides: [(strides as number[])[1]!, (strides as number[])[0]!],
});

/** [rows, columns] to float32 [rows, 1]. oneDNN has no reduction of an axis of one element: that is a copy. */
export function reduceRows(ctx: CpuContext, algorithm: "sum" | "max", source: TensorDescription): Primitive {
  const tensors = { source, target: tensor("f32", [source.dims[0]!, 1]) };
  if (source.dims[1] === 1) return ctx.dnn.primitive({ kind: "reorder", tensors });
  return ctx.dnn.primitive({ kind: "reduction", tensors, algorithm });
}

/** The primitives for tiles of `rows` queries. */
function tilePrimitives(
  ctx: CpuContext,
  rows: number,
  keys: number,
  { heads, depth }: AttentionSizes,
  compute: "f32" | "bf16",
  out: "f32" | "bf16",
  scale: number,
  biased: boolean,
  factors: { keys: RightFactor; values: RightFactor },
) {
  const { dnn } = ctx;
  const query = tensor(compute, [rows, depth]);
  const scores = tensor(compute, [rows, keys]);
  const perRow = tensor("f32", [1, rows, 1]);
  const result = tensor("f32", [1, rows, depth]);
  const prefix: PostOperation<TensorDescription>[] = scaling(scale);
  if (biased) prefix.push({ kind: "binary", algorithm: "add", operand: tensor("f32", [rows, keys]) });
  const product = (target: TensorDescription, post: PostOperation<TensorDescription>[]) =>
    dnn.primitive({ kind: "matmul", tensors: { source: query, weights: factors.keys.description, target } }, post);
  return {
    takeQueries: dnn.primitive({
      kind: "reorder",
      tensors: { source: headTensor(compute, rows, heads, depth), target: query },
    }),
    exponentials: product(scores, [...prefix, exponential]),
    sums: reduceRows(ctx, "sum", scores),
    combine: dnn.primitive({
      kind: "matmul",
      tensors: { source: scores, weights: factors.values.description, target: tensor("f32", [rows, depth]) },
    }),
    divide: dnn.primitive({
      kind: "binary",
      tensors: { source: result, source1: perRow, target: result },
      algorithm: "multiply",
    }),
    store: dnn.primitive({
      kind: "reorder",
      tensors: { source: tensor("f32", [rows, depth]), target: headTensor(out, rows, heads, depth) },
    }),
    /** For tiles that must be done again: scores in float32, their row maxima, exponentials of the differences. */
    again: () => {
      const plain = tensor("f32", [rows, keys]);
      const cube = tensor("f32", [1, rows, keys]);
      return {
        scores: product(plain, prefix),
        maxima: reduceRows(ctx, "max", plain),
        exponentials: dnn.primitive(
          { kind: "binary", tensors: { source: cube, source1: perRow, target: cube }, algorithm: "subtract" },
          [exponential],
        ),
        narrow: dnn.primitive({ kind: "reorder", tensors: { source: plain, target: scores } }),
      };
    },
  };
}

type TilePrimitives = ReturnType<typeof tilePrimitives>;

/** Scratch memory of one call, by address. */
interface Scratch {
  readonly keys: number;
  readonly values: number;
  readonly query: number;
  readonly scores: number;
  readonly sums: Operand;
  readonly result: number;
}

/** Fills the tile's exponentials and their row sums; gives what was subtracted from each row's scores, if anything. */
function exponentials(
  ctx: CpuContext,
  tile: TilePrimitives,
  scratch: Scratch,
  [rows, keys]: readonly [number, number],
  compute: "f32" | "bf16",
  bias: readonly number[],
): Float32Array | undefined {
  const { query, scores, sums } = scratch;
  const total = f32View(sums).subarray(0, rows);
  const factors = { source: query, weights: scratch.keys };
  ctx.run(tile.exponentials, { ...factors, target: scores }, bias);
  ctx.run(tile.sums, { source: scores, target: addressOf(sums) });
  if (total.every(trusted)) return undefined;
  const again = tile.again();
  using wide = compute === "f32" ? undefined : ctx.temporary("f32", [rows, keys]);
  using maxima = ctx.temporary("f32", [rows]);
  const target = wide ? addressOf(wide) : scores;
  ctx.run(again.scores, { ...factors, target }, bias);
  ctx.run(again.maxima, { source: target, target: addressOf(maxima) });
  ctx.run(again.exponentials, { source: target, source1: addressOf(maxima), target });
  if (wide) ctx.run(again.narrow, { source: target, target: scores });
  ctx.run(tile.sums, { source: scores, target: addressOf(sums) });
  return f32View(maxima).slice();
}

export function clear(operand: Operand): void {
  const { buffer, byteOffset, byteLength } = view(operand);
  new Uint8Array(buffer, byteOffset, byteLength).fill(0);
}

/** Zeros, and −∞ as their log-sum-exp: what queries without keys get. */
function withoutKeys(out: Operand, item: number, logSumExp: Operand | undefined): void {
  const perItem = out.shape.slice(1);
  clear(slice(out, item * elementCount(perItem), perItem));
  if (!logSumExp) return;
  const sums = elementCount(logSumExp.shape.slice(1));
  f32View(logSumExp).fill(Number.NEGATIVE_INFINITY, item * sums, (item + 1) * sums);
}

function attention(
  ctx: CpuContext,
  q: Operand,
  k: Operand,
  v: Operand,
  out: Operand,
  options: AttentionOptions,
  logSumExp: Operand | undefined,
): void {
  const size = attentionSizes(q, k);
  const { batch, queries, heads, depth } = size;
  if (elementCount(q.shape) === 0) return;
  const compute = q.dtype === "bf16" ? "bf16" : "f32";
  using qs = converted(ctx, q, compute);
  using ks = converted(ctx, k, compute);
  using vs = converted(ctx, v, compute);
  using result = isFast(out.dtype) ? undefined : float32Result(ctx, out);
  const target = result?.operand ?? out;
  const outType = target.dtype as "f32" | "bf16";
  for (let item = 0; item < batch; item++) {
    const keys = options.keyLengths?.[item] ?? size.keys;
    if (keys === 0) {
      withoutKeys(target, item, logSumExp);
      continue;
    }
    const rows = tileRows(queries, keys);
    const head = headTensor(compute, keys, heads, depth);
    const factors = {
      keys: rightFactor(ctx, rows, turned(head), compute),
      values: rightFactor(ctx, rows, head, "f32"),
    };
    const tileOf = (count: number): TilePrimitives =>
      tilePrimitives(ctx, count, keys, size, compute, outType, options.scale, options.bias !== undefined, factors);
    using keySpace = ctx.temporary("u8", [factors.keys.layout.bytes]);
    using valueSpace = ctx.temporary("u8", [factors.values.layout.bytes]);
    using querySpace = ctx.temporary(compute, [rows, depth]);
    using scoreSpace = ctx.temporary(compute, [rows, keys]);
    using sums = ctx.temporary("f32", [rows]);
    using resultSpace = ctx.temporary("f32", [rows, depth]);
    using biasSpace = options.bias && keys < size.keys ? ctx.temporary("f32", [rows, keys]) : undefined;
    const scratch: Scratch = {
      keys: addressOf(keySpace),
      values: addressOf(valueSpace),
      query: addressOf(querySpace),
      scores: addressOf(scoreSpace),
      sums,
      result: addressOf(resultSpace),
    };
    const full = tileOf(rows);
    for (let index = 0; index < heads; index++) {
      ctx.run(factors.keys.pack, { source: headRows(ks.operand, item, index), target: scratch.keys });
      ctx.run(factors.values.pack, { source: headRows(vs.operand, item, index), target: scratch.values });
      for (let from = 0; from < queries; from += rows) {
        const count = Math.min(rows, queries - from);
        const tile = count === rows ? full : tileOf(count);
        ctx.run(tile.takeQueries, { source: headRows(qs.operand, item, index, from), target: scratch.query });
        const bias = options.bias ? [biasRows(ctx, options.bias, index, from, count, keys, biasSpace)] : [];
        const shift = exponentials(ctx, tile, scratch, [count, keys], compute, bias);
        finishSums(f32View(sums), count, shift, logSumExp, (item * heads + index) * queries + from);
        ctx.run(tile.combine, { source: scratch.scores, weights: scratch.values, target: scratch.result });
        ctx.run(tile.divide, { source: scratch.result, source1: addressOf(sums), target: scratch.result });
        ctx.run(tile.store, { source: scratch.result, target: headRows(target, item, index, from) });
      }
    }
  }
  result?.store();
}

/** Writes the rows' log-sum-exp where asked for, and turns the sums into what the results are multiplied by. */
function finishSums(
  sums: Float32Array,
  rows: number,
  shift: Float32Array | undefined,
  logSumExp: Operand | undefined,
  at: number,
): void {
  const logs = logSumExp && f32View(logSumExp);
  for (let row = 0; row < rows; row++) {
    const sum = sums[row]!;
    if (logs) logs[at + row] = (shift ? shift[row]! : 0) + Math.log(sum);
    sums[row] = 1 / sum;
  }
}

/** The address of rows of the bias [H, Lq, Lk], copied where fewer keys take part than it has columns for. */
function biasRows(
  ctx: CpuContext,
  bias: Operand,
  head: number,
  from: number,
  count: number,
  keys: number,
  space: Operand | undefined,
): number {
  const [, queries, columns] = bias.shape as [number, number, number];
  const source = addressOf(slice(bias, (head * queries + from) * columns, []));
  if (!space) return source;
  const tensors = { source: tensor("f32", [count, keys], [columns, 1]), target: tensor("f32", [count, keys]) };
  ctx.run(ctx.dnn.primitive({ kind: "reorder", tensors }), { source, target: addressOf(space) });
  return addressOf(space);
}

export const attentionKernels = (ctx: CpuContext) =>
  ({
    attention: (q, k, v, out, options, logSumExp) => attention(ctx, q, k, v, out, options, logSumExp),
  }) satisfies Partial<Kernels>;
