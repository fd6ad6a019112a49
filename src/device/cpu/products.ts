// Matrix products on oneDNN, the whole epilogue fused into the product where a layout lets it.
import { elementCount } from "../../base/shape.ts";
import type { Layout, OneDnnType, PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { hostBlock } from "../host/host-views.ts";
import type { Epilogue, Kernels, LinearWeight, Operand, PackedWeight } from "../kernels.ts";
import { asFloat32, cast, converted, float32Result } from "./cast.ts";
import { addressOf, type CpuContext, isFast, slice, tensor, turnedStrides } from "./context.ts";
import { eltwiseOf } from "./elementwise.ts";
import { gatedAdd } from "./modulation.ts";
import { eachWideBlock } from "./quantized-weight.ts";
import { rightFactor } from "./right-factor.ts";

/** A matrix or a batch of them where it lies; `tensor.dims` are [batch…, rows, columns] in the product's order. */
interface Factor {
  readonly address: number;
  readonly tensor: TensorDescription;
}

/** What `PackedWeight.layout` holds on this device. */
interface PackedLayout {
  readonly layout: Layout;
  readonly dtype: "f32" | "bf16";
}

/**
 * From so many rows on, a plain right factor is packed for the one product: oneDNN otherwise copies blocks of it again and
 * again. On Zen 4 packing takes under 1 % of such a product and the product 5 to 9 % less.
 */
const ROWS_WORTH_PACKING = 1024;

/** Smaller weights gain nothing from packing. */
export const SMALLEST_PACKED = 1 << 14;

/** The format a product runs in: bf16 where x is, or where the run is bf16 and either operand is. */
function computeType(x: Operand, weight: Operand | LinearWeight, out: Operand): "f32" | "bf16" {
  return x.dtype === "bf16" || (weight.dtype === "bf16" && out.dtype === "bf16") ? "bf16" : "f32";
}

/** Whether a product of `compute` can be stored as `dtype` by oneDNN. */
const storable = (dtype: string, compute: "f32" | "bf16"): boolean => dtype === "f32" || dtype === compute;

function sameMemory(a: Operand, b: Operand): boolean {
  return a.block === b.block && a.offset === b.offset;
}

/** A block of columns of a result: all of them, or those a block of a weight's rows gives. */
interface Columns {
  start: number;
  count: number;
}

/**
 * Calls `compute` with the place and the epilogue a product can be stored with in one pass: `out` itself where oneDNN can,
 * else a float32 matrix that is finished afterwards. `whole`: rows cannot be taken some at a time (a batch, a turned factor).
 */
function withEpilogue(
  ctx: CpuContext,
  out: Operand,
  options: Epilogue,
  whole: boolean,
  compute: "f32" | "bf16",
  multiply: (target: Operand, epilogue: Epilogue) => void,
): void {
  const { gate, residual, ...inner } = options;
  // A residual in out's own place is added as what the target held; an accumulation takes that place.
  const crowded =
    residual !== undefined && sameMemory(residual, out) && (options.accumulate || residual.dtype !== out.dtype);
  const gateApart = gate !== undefined && whole;
  if (storable(out.dtype, compute) && !crowded && !gateApart) {
    multiply(out, options);
    return;
  }
  using result = float32Result(ctx, out, { keep: options.accumulate === true, apart: true });
  if (gateApart) {
    multiply(result.operand, inner);
    gatedAdd(ctx, residual, result.operand, gate.table, gate.runs, out);
    return;
  }
  using added = residual && asFloat32(ctx, residual);
  multiply(result.operand, { ...options, residual: added?.operand });
  result.store();
}

/**
 * out = epilogue(a · b), for `rows` rows of a [rows, inner] per batch item, in one pass per run of the gate.
 * `out` is the whole result; with `columns` only those are computed.
 */
function product(
  ctx: CpuContext,
  a: Factor,
  b: Factor,
  out: Operand,
  options: Epilogue,
  batch: number,
  columns: Columns = { start: 0, count: lastOf(out) },
): void {
  const width = lastOf(out);
  const rows = rowsOf(out) / batch;
  const { gate, residual, accumulate } = options;
  using packed = batch === 1 && rows >= ROWS_WORTH_PACKING ? packedOnce(ctx, b, rows, out) : undefined;
  const weights = packed?.factor ?? b;
  const residualInPlace = residual !== undefined && sameMemory(residual, out);
  using bias = options.bias && asFloat32(ctx, options.bias);
  using added = residual && !residualInPlace ? floating(ctx, residual) : undefined;
  const runs = gate?.runs ?? [{ start: 0, count: rows, row: 0 }];
  const lead = batch === 1 ? [] : [batch];
  const leadStrides = batch === 1 ? [] : [rows * width];
  for (const { start, count, row } of runs) {
    if (count === 0) continue;
    const dims = [...lead, count, columns.count];
    const at = start * width + columns.start;
    const part = (operand: Operand): { address: number; tensor: TensorDescription } => ({
      address: addressOf(slice(operand, at, [])),
      tensor: tensor(operand.dtype as OneDnnType, dims, [...leadStrides, width, 1]),
    });
    const perColumn = tensor("f32", [...lead.map(() => 1), 1, columns.count]);
    const post: PostOperation<TensorDescription>[] = [];
    const operands: number[] = [];
    const binary = (algorithm: "add" | "multiply", operand: TensorDescription, address: number): void => {
      post.push({ kind: "binary", algorithm, operand });
      operands.push(address);
    };
    const biasAddress = bias && addressOf(slice(bias.operand, columns.start, []));
    const scaled = options.scale !== undefined && options.scale !== 1;
    if (scaled) post.push({ kind: "eltwise", algorithm: "linear", alpha: options.scale!, beta: 0 });
    if (scaled && biasAddress !== undefined) binary("add", perColumn, biasAddress);
    if (accumulate) post.push({ kind: "sum", scale: 1 });
    if (options.activation) post.push({ kind: "eltwise", ...eltwiseOf[options.activation], beta: 0 });
    if (gate) binary("multiply", perColumn, addressOf(slice(gate.table, row * width + columns.start, [])));
    if (residualInPlace) post.push({ kind: "sum", scale: 1 });
    else if (added) {
      const { address, tensor: description } = part(added.operand);
      binary("add", description, address);
    }
    const target = part(out);
    const source = sliceRows(a, start, count);
    const fusedBias = biasAddress !== undefined && !scaled;
    const tensors = {
      source: source.tensor,
      weights: weights.tensor,
      ...(fusedBias ? { bias: perColumn } : {}),
      target: target.tensor,
    };
    ctx.run(
      ctx.dnn.primitive({ kind: "matmul", tensors }, post),
      { source: source.address, weights: weights.address, bias: biasAddress, target: target.address },
      operands,
    );
  }
}

/** A plain right factor packed in scratch memory; undefined for one that is packed. */
function packedOnce(
  ctx: CpuContext,
  { address, tensor: source }: Factor,
  rows: number,
  out: Operand,
): ({ factor: Factor } & Disposable) | undefined {
  if ("id" in (source.strides as object)) return undefined;
  const { layout, description, pack } = rightFactor(ctx, rows, source, out.dtype as "f32" | "bf16");
  const space = ctx.temporary("u8", [layout.bytes]);
  const factor = { address: addressOf(space), tensor: description };
  ctx.run(pack, { source: address, target: factor.address });
  return { factor, [Symbol.dispose]: () => space[Symbol.dispose]() };
}

/** A residual as a post-operation reads it. */
function floating(ctx: CpuContext, operand: Operand) {
  return isFast(operand.dtype) ? converted(ctx, operand, operand.dtype) : asFloat32(ctx, operand);
}

/** Rows `[start, start + count)` of each batch item. */
function sliceRows(factor: Factor, start: number, count: number): Factor {
  const { dtype, dims, strides } = factor.tensor;
  const steps = strides as readonly number[];
  const size = dtype === "bf16" ? 2 : 4;
  return {
    address: factor.address + start * steps.at(-2)! * size,
    tensor: { dtype, dims: [...dims.slice(0, -2), count, dims.at(-1)!], strides },
  };
}

/** A product without terms: the epilogue of zeros. */
function emptyProduct(ctx: CpuContext, out: Operand, options: Epilogue): void {
  const [rows, columns] = [rowsOf(out), lastOf(out)];
  using zeros = ctx.temporary("f32", [rows + columns]);
  zeros.block.bytes.fill(0);
  const a = { address: addressOf(zeros), tensor: tensor("f32", [rows, 1]) };
  const b = { address: addressOf(slice(zeros, rows, [])), tensor: tensor("f32", [1, columns]) };
  withEpilogue(ctx, out, options, false, "f32", (target, epilogue) => product(ctx, a, b, target, epilogue, 1));
}

/** a or b of a batched product as [batch, rows, columns], turned by its strides where it is stored transposed. */
function factor(operand: Operand, batch: number, transpose: boolean): Factor {
  const [stored, inner] = operand.shape.slice(-2) as [number, number];
  const dims = transpose ? [inner, stored] : [stored, inner];
  const strides = transpose ? turnedStrides(inner, stored) : [inner, 1];
  const lead = batch === 1 ? [] : [batch];
  const dtype = operand.dtype as OneDnnType;
  return {
    address: addressOf(operand),
    tensor: tensor(dtype, [...lead, ...dims], [...lead.map(() => stored * inner), ...strides]),
  };
}

export function matmul(
  ctx: CpuContext,
  a: Operand,
  b: Operand,
  out: Operand,
  options: Parameters<Kernels["matmul"]>[3] = {},
): void {
  if (elementCount(out.shape) === 0) return;
  const batch = elementCount(out.shape.slice(0, -2));
  if (elementCount(a.shape) === 0) {
    emptyProduct(ctx, out, options);
    return;
  }
  const compute = computeType(a, b, out);
  using left = converted(ctx, a, compute);
  using right = converted(ctx, b, compute);
  const { transposeA = false, transposeB = false, ...epilogue } = options;
  const [first, second] = [factor(left.operand, batch, transposeA), factor(right.operand, batch, transposeB)];
  withEpilogue(ctx, out, epilogue, batch > 1 || transposeA, compute, (target, rest) =>
    product(ctx, first, second, target, rest, batch),
  );
}

/** x as rows [M, K]. */
const matrixOf = (x: Operand): Factor => ({
  address: addressOf(x),
  tensor: tensor(x.dtype as OneDnnType, [rowsOf(x), lastOf(x)]),
});

function packedFactor(packed: PackedWeight, [outputs, inputs]: readonly [number, number]): Factor {
  const { layout, dtype } = packed.layout as PackedLayout;
  return { address: hostBlock(packed.block).address, tensor: { dtype, dims: [inputs, outputs], strides: layout } };
}

/** Whether a packed weight can be used as it is for this many rows; the layout was chosen for some other number. */
function packedFits(ctx: CpuContext, packed: Factor, rows: number, out: Operand, compute: "f32" | "bf16"): boolean {
  const { dtype, dims } = packed.tensor;
  if (dtype !== compute) return false;
  const tensors = {
    source: tensor(dtype, [rows, dims[0]!]),
    weights: packed.tensor,
    target: tensor(out.dtype as OneDnnType, [rows, dims[1]!]),
  };
  const primitive = ctx.dnn.tryPrimitive({ kind: "matmul", tensors });
  return primitive !== undefined && !primitive.implementation.startsWith("ref");
}

export function linear(ctx: CpuContext, x: Operand, weight: LinearWeight, out: Operand, options: Epilogue = {}): void {
  if (elementCount(out.shape) === 0) return;
  if (elementCount(x.shape) === 0) {
    emptyProduct(ctx, out, options);
    return;
  }
  const compute = computeType(x, weight, out);
  using source = converted(ctx, x, compute);
  const a = matrixOf(source.operand);
  withEpilogue(ctx, out, options, false, compute, (target, epilogue) => {
    if (weight.packed) {
      const packed = packedFactor(weight.packed, weight.shape);
      if (packedFits(ctx, packed, rowsOf(x), target, compute)) {
        product(ctx, a, packed, target, epilogue, 1);
        return;
      }
      using plain = unpacked(ctx, weight, compute);
      product(ctx, a, transposedRows(plain), target, epilogue, 1);
    } else if (weight.dtype === compute && !weight.scale) {
      product(ctx, a, transposedRows(weight.plain!), target, epilogue, 1);
    } else {
      eachWideBlock(ctx, weight, compute, (rows, start, count) => {
        product(ctx, a, transposedRows(rows), target, epilogue, 1, { start, count });
      });
    }
  });
}

/** Rows [N, K] of a weight as the right factor [K, N]. */
const transposedRows = (rows: Operand): Factor => factor(rows, 1, true);

function unpacked(ctx: CpuContext, weight: LinearWeight, dtype: "f32" | "bf16") {
  const plain = ctx.temporary(dtype, weight.shape);
  unpackWeight(ctx, weight.packed!, plain);
  return plain;
}

export function linearBackwardData(
  ctx: CpuContext,
  dy: Operand,
  weight: LinearWeight,
  dx: Operand,
  options: { accumulate?: boolean } = {},
): void {
  if (elementCount(dx.shape) === 0) return;
  if (elementCount(dy.shape) === 0) {
    emptyProduct(ctx, dx, options);
    return;
  }
  const compute = computeType(dy, weight, dx);
  using source = converted(ctx, dy, compute);
  const a = matrixOf(source.operand);
  if (weight.packed || (weight.dtype === compute && !weight.scale)) {
    using plain = weight.packed ? unpacked(ctx, weight, compute) : undefined;
    const b = factor(plain ?? weight.plain!, 1, false);
    withEpilogue(ctx, dx, options, false, compute, (target, epilogue) => product(ctx, a, b, target, epilogue, 1));
    return;
  }
  // A sum over blocks of the weight's rows: kept in float32 until it is whole.
  using result = float32Result(ctx, dx, { keep: options.accumulate === true });
  eachWideBlock(ctx, weight, compute, (rows, start, count) => {
    const part = {
      address: a.address + start * (compute === "bf16" ? 2 : 4),
      tensor: tensor(compute, [rowsOf(dy), count], [lastOf(dy), 1]),
    };
    const accumulate = start > 0 || options.accumulate === true;
    product(ctx, part, factor(rows, 1, false), result.operand, { accumulate }, 1);
  });
  result.store();
}

/** Rows that a weight is packed for where the caller does not know. */
const USUAL_ROWS = 512;

/**
 * Packing pays: on Zen 4 (2 cores, oneDNN 2.6) a packed weight gives 454 to 465 GFLOP/s in bf16 at 512 to 7,800 rows
 * where plain [N, K] gives 420 to 450, 230 against 220 in float32, and four times plain's speed at one row. The layout
 * does not depend on the number of rows on the CPUs seen. The gradient of x wants the other order: it unpacks into scratch
 * memory and packs that, at 2 % of its product.
 */
function packWeight(ctx: CpuContext, plain: Operand, rows = USUAL_ROWS): PackedWeight | undefined {
  const [outputs, inputs] = plain.shape as [number, number];
  const { dtype } = plain;
  if (!isFast(dtype) || outputs * inputs < SMALLEST_PACKED) return undefined;
  const source = transposedRows(plain);
  const { layout, pack } = rightFactor(ctx, rows, source.tensor, dtype);
  const block = ctx.memory.alloc(layout.bytes, "weights");
  ctx.run(pack, { source: source.address, target: block.address });
  return { block, layout: { layout, dtype } satisfies PackedLayout };
}

function unpackWeight(ctx: CpuContext, packed: PackedWeight, out: Operand): void {
  const { layout, dtype } = packed.layout as PackedLayout;
  const [outputs, inputs] = out.shape as [number, number];
  if (out.dtype !== dtype) {
    using same = ctx.temporary(dtype, out.shape);
    unpackWeight(ctx, packed, same);
    cast(ctx, same, out);
    return;
  }
  const dims = [inputs, outputs];
  const reorder = ctx.dnn.primitive({
    kind: "reorder",
    tensors: { source: { dtype, dims, strides: layout }, target: { dtype, dims, strides: [1, inputs] } },
  });
  ctx.run(reorder, { source: hostBlock(packed.block).address, target: addressOf(out) });
}

export const productKernels = (ctx: CpuContext) =>
  ({
    matmul: (a, b, out, options) => matmul(ctx, a, b, out, options),
    linear: (x, weight, out, options) => linear(ctx, x, weight, out, options),
    linearBackwardData: (dy, weight, dx, options) => linearBackwardData(ctx, dy, weight, dx, options),
    packWeight: (plain, rows) => packWeight(ctx, plain, rows),
    unpackWeight: (packed, out) => unpackWeight(ctx, packed, out),
  }) satisfies Partial<Kernels>;
