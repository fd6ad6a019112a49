// Matrix products on the cuda device: cuBLASLt with its epilogues, a kernel for what they do not cover. Row-major matrices
// are the library's column-major ones turned over: out = A·B is outᵀ = Bᵀ·Aᵀ.
import { bytesOf } from "../../../base/dtype.ts";
import { KinoraError } from "../../../base/errors.ts";
import { broadcastShape, elementCount } from "../../../base/shape.ts";
import { type CublasType, MOST_ALIGNMENT, type Product, type ProductShape } from "../../../ffi/cublaslt.ts";
import type { DeviceAddress } from "../../../ffi/cuda-driver.ts";
import { lastOf, rowsOf } from "../../check-operands.ts";
import type { Epilogue, Kernels, LinearWeight, Operand } from "../../kernels.ts";
import { type CudaContext, EIGHT, reshaped, type Temporary, viewOf } from "../context.ts";
import { activationCodes, typed } from "./elementwise.ts";
import { movementKernels } from "./movement.ts";

/** What an algorithm may use beside the operands. */
const WORKSPACE = 32 * 2 ** 20;
/** Prepared products; shapes of a model are few. */
const MOST_PRODUCTS = 512;
/** Bytes of a quantised weight that are widened at once. */
const WIDE_BYTES = 64 * 2 ** 20;

interface Matrices {
  a: Operand;
  b: Operand;
  out: Operand;
  /** Rows, columns, and what is summed over. */
  m: number;
  n: number;
  k: number;
  transposeA: boolean;
  transposeB: boolean;
  batch?: { count: number; strides: readonly [a: number, b: number, out: number] };
}

export function productKernels(ctx: CudaContext) {
  const products = new Map<string, Product | undefined>();
  const copies = movementKernels(ctx);
  let workspace: Operand | undefined;

  const prepared = (shape: ProductShape): Product | undefined => {
    const key = JSON.stringify(shape);
    let found = products.get(key);
    if (!products.has(key)) {
      if (products.size >= MOST_PRODUCTS) {
        for (const product of products.values()) if (product) ctx.cublas.forget(product);
        products.clear();
      }
      found = ctx.cublas.prepare(shape);
      products.set(key, found);
    }
    return found;
  };

  /** One format for both factors: the narrower where they agree, else float32. */
  const alike = (operand: Operand, type: "f32" | "bf16" | "f16", held: Disposable[]): Operand => {
    if (operand.dtype === type) return operand;
    const converted = ctx.temporary(type, operand.shape);
    copyCast(operand, converted);
    held.push(converted);
    return converted;
  };

  /** The largest power of two up to what the library asks about that addresses are multiples of. */
  const alignment = (operand: Operand): number => {
    const address = ctx.address(operand);
    let bytes = MOST_ALIGNMENT;
    while (address % bytes !== 0) bytes /= 2;
    return bytes;
  };

  /** out = alpha·A·B (+ bias, GELU) (+ out). False, and nothing done, where the library has no such product. */
  function multiply(
    matrices: Matrices,
    { alpha, beta, bias, gelu }: { alpha: number; beta: number; bias?: Operand | undefined; gelu: boolean },
  ): boolean {
    const { out, m, n, k, transposeA, transposeB, batch } = matrices;
    const held: Disposable[] = [];
    const type = matrices.a.dtype === matrices.b.dtype && matrices.a.dtype === "bf16" ? "bf16" : "f32";
    const [a, b] = [alike(matrices.a, type, held), alike(matrices.b, type, held)];
    // The library stores the factors' format or float32.
    const direct = out.dtype === "f32" || out.dtype === type;
    const target = direct ? out : ctx.temporary("f32", out.shape);
    if (!direct) held.push(target as Temporary);
    if (!direct && beta !== 0) copyCast(out, target);
    const added = bias && alike(bias, target.dtype as "f32" | "bf16", held);
    const layout = (rows: number, columns: number, operand: Operand, stride: number | undefined) => ({
      type: operand.dtype as CublasType,
      rows,
      columns,
      leading: rows,
      ...(batch && stride !== undefined ? { batch: batch.count, stride } : {}),
    });
    const product = prepared({
      // Column-major, the second factor comes first.
      a: layout(transposeB ? k : n, transposeB ? n : k, b, batch?.strides[1]),
      b: layout(transposeA ? m : k, transposeA ? k : m, a, batch?.strides[0]),
      out: layout(n, m, target, batch?.strides[2]),
      transposeA: transposeB,
      transposeB: transposeA,
      compute: ctx.tf32 && type === "f32" ? "tf32" : "f32",
      epilogue: bias ? (gelu ? "geluBias" : "bias") : gelu ? "gelu" : "none",
      ...(added ? { biasType: added.dtype as CublasType } : {}),
      workspace: WORKSPACE,
      alignments: { a: alignment(b), b: alignment(a), out: alignment(target) },
    });
    const release = () => {
      for (const one of held) one[Symbol.dispose]();
    };
    if (!product) {
      release();
      if (bias || gelu) return false;
      throw new KinoraError("cuda.no-product", "cuBLASLt has no algorithm for a product", {
        actual: `${m}x${k}x${n}, ${type}`,
        hint: "update cuBLAS; kinora doctor shows which one is used",
      });
    }
    if (product.workspaceBytes > 0)
      workspace ??= { block: ctx.memory.permanent(WORKSPACE), offset: 0, dtype: "u8", shape: [WORKSPACE] };
    ctx.cublas.run(product, {
      a: ctx.address(b),
      b: ctx.address(a),
      out: ctx.address(target),
      ...(added ? { bias: ctx.address(added) } : {}),
      alpha,
      beta,
      workspace: workspace ? ctx.address(workspace) : (0 as DeviceAddress),
      stream: ctx.stream,
    });
    if (!direct) copyCast(target, out);
    release();
    return true;
  }

  function copyCast(from: Operand, to: Operand): void {
    const count = elementCount(from.shape);
    const kernel = ctx.launcher.kernel("elementwise", "cast", "pipil");
    ctx.launcher.launch(kernel, ctx.blocksFor(count, EIGHT), ...typed(ctx, from), ...typed(ctx, to), count);
  }

  /** The product with everything that comes before it is stored. */
  function withEpilogue(matrices: Matrices, options: Epilogue): void {
    const { scale = 1, bias, accumulate, activation, gate, residual } = options;
    const { out, n, k } = matrices;
    if (elementCount(out.shape) === 0) return;
    const gelu = activation === "gelu-tanh" && !accumulate;
    const covered = !gate && !residual && (activation === undefined || gelu) && k > 0;
    const how = { alpha: scale, beta: accumulate ? 1 : 0 };
    if (covered && multiply(matrices, { ...how, bias, gelu })) return;
    // The rest goes over the product once more, in float32 where it is added to.
    using z = ctx.temporary("f32", out.shape);
    if (accumulate) copyCast(out, z);
    // The library knows no sums over nothing, and not every epilogue for every shape.
    const fused = k > 0 && multiply({ ...matrices, out: z }, { ...how, bias, gelu });
    if (k > 0 && !fused) multiply({ ...matrices, out: z }, { ...how, gelu: false });
    if (k === 0 && !accumulate) fillZero(z);
    using runs = ctx.runs(gate?.runs ?? []);
    const kernel = ctx.launcher.kernel("elementwise", "epilogue", "pipiippipipiil");
    const kind = activation && !(gelu && fused) ? activationCodes[activation] : -1;
    const count = elementCount(out.shape);
    const table = [ctx.optional(gate?.table), ctx.address(runs), gate?.runs.length ?? 0];
    const ends = [...typed(ctx, residual), ...typed(ctx, out), n, count];
    const left = fused ? undefined : bias;
    ctx.launcher.launch(
      kernel,
      ctx.blocksFor(count, EIGHT),
      ...typed(ctx, z),
      ...typed(ctx, left),
      kind,
      ...table,
      ...ends,
    );
  }

  function fillZero(z: Operand): void {
    const count = elementCount(z.shape);
    ctx.launcher.launch(
      ctx.launcher.kernel("elementwise", "fill", "pifl"),
      ctx.blocksFor(count, EIGHT),
      ...typed(ctx, z),
      0,
      count,
    );
  }

  /** Columns `from` … of one matrix to columns `to` … of another of as many rows. */
  function copyColumns(source: Operand, from: number, target: Operand, to: number, count: number): void {
    const side = (operand: Operand, offset: number) => ({ operand, offset, strides: [lastOf(operand), 1] });
    copies.stridedCopy(side(source, from), side(target, to), [rowsOf(source), count]);
  }

  /** Rows of a weight [N, K] in a format that is multiplied, some at a time where it has to be widened. */
  function eachPart(
    weight: LinearWeight,
    type: "f32" | "bf16",
    use: (rows: Operand, start: number, count: number) => void,
  ): void {
    const [outputs, inputs] = weight.shape;
    const plain = weight.plain!;
    if (!weight.scale && (plain.dtype === "f32" || plain.dtype === "bf16")) {
      use(reshaped(plain, [outputs, inputs]), 0, outputs);
      return;
    }
    const perPart = Math.max(1, Math.min(outputs, Math.floor(WIDE_BYTES / Math.max(1, inputs * bytesOf(type)))));
    for (let start = 0; start < outputs; start += perPart) {
      const count = Math.min(perPart, outputs - start);
      using wide = ctx.temporary(type, [count, inputs]);
      const kernel = ctx.launcher.kernel("optimizer", "dequantize", "pippill");
      const offset = plain.offset + start * inputs * bytesOf(plain.dtype);
      const perTensor = weight.scale && elementCount(weight.scale.shape) === 1;
      const perRow = weight.scale && !perTensor ? elementCount(weight.scale.shape) / outputs : 1;
      const scale =
        weight.scale &&
        (perTensor ? weight.scale : viewOf(weight.scale, { offset: weight.scale.offset + start * perRow * 4 }));
      const total = count * inputs;
      const span = weight.scale && !perTensor ? inputs / perRow : Math.max(1, total);
      const values = [...typed(ctx, viewOf(plain, { offset })), ctx.optional(scale), ...typed(ctx, wide), span, total];
      ctx.launcher.launch(kernel, ctx.blocksFor(total, EIGHT), ...values);
      use(wide, start, count);
    }
  }

  return {
    matmul(a, b, out, options = {}) {
      const { transposeA = false, transposeB = false } = options;
      const [rows, inner] = a.shape.slice(-2) as [number, number];
      const [m, k] = transposeA ? [inner, rows] : [rows, inner];
      const n = out.shape.at(-1)!;
      const shape = { m, n, k, transposeA, transposeB };
      const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
      const outBatch = broadcastShape(batchA, batchB);
      const count = elementCount(outBatch);
      const [countA, countB] = [elementCount(batchA), elementCount(batchB)];
      const plainCase = (countA === count || countA === 1) && (countB === count || countB === 1);
      if (!plainCase) {
        throw new KinoraError(
          "kernel.shape",
          "the cuda device multiplies batches of one shape, or one matrix by a batch",
          {
            actual: `[${a.shape}] and [${b.shape}]`,
          },
        );
      }
      const strides = [countA === 1 ? 0 : m * k, countB === 1 ? 0 : k * n, m * n] as const;
      const batch = count === 1 ? {} : { batch: { count, strides } };
      withEpilogue({ a, b, out, ...shape, ...batch }, options);
    },
    linear(x, weight, out, options = {}) {
      const [m, k] = [rowsOf(x), lastOf(x)];
      const n = weight.shape[0];
      const type = x.dtype === "bf16" ? "bf16" : "f32";
      const flat = { a: reshaped(x, [m, k]), out: reshaped(out, [m, n]) };
      const whole = weight.plain && !weight.scale && (weight.plain.dtype === "f32" || weight.plain.dtype === "bf16");
      const shape = { m, k, transposeA: false, transposeB: true };
      if (whole) {
        withEpilogue({ ...flat, b: reshaped(weight.plain!, [n, k]), n, ...shape }, options);
        return;
      }
      // Parts of the weight give columns of the result, which lie apart: each goes through a temporary.
      eachPart(weight, type, (rows, start, count) => {
        if (count === n) {
          withEpilogue({ ...flat, b: rows, n, ...shape }, options);
          return;
        }
        using part = ctx.temporary(out.dtype, [m, count]);
        if (options.accumulate) copyColumns(flat.out, start, part, 0, count);
        const column = (operand: Operand | undefined) =>
          operand && viewOf(operand, { offset: operand.offset + start * bytesOf(operand.dtype), shape: [count] });
        using residual = options.residual ? ctx.temporary(options.residual.dtype, [m, count]) : undefined;
        if (options.residual && residual) copyColumns(reshaped(options.residual, [m, n]), start, residual, 0, count);
        const tableRows = options.gate ? rowsOf(options.gate.table) : 0;
        using table = options.gate ? ctx.temporary(options.gate.table.dtype, [tableRows, count]) : undefined;
        if (options.gate && table) copyColumns(options.gate.table, start, table, 0, count);
        withEpilogue(
          { a: flat.a, out: part, b: rows, n: count, ...shape },
          {
            ...options,
            ...(options.bias ? { bias: column(options.bias)! } : {}),
            ...(residual ? { residual } : {}),
            ...(options.gate && table ? { gate: { table, runs: options.gate.runs } } : {}),
          },
        );
        copyColumns(part, 0, flat.out, start, count);
      });
    },
    linearBackwardData(dy, weight, dx, options = {}) {
      const [outputs, inputs] = weight.shape;
      const m = rowsOf(dy);
      const type = dy.dtype === "bf16" ? "bf16" : "f32";
      const target = reshaped(dx, [m, inputs]);
      eachPart(weight, type, (rows, start, count) => {
        const accumulate = options.accumulate === true || start > 0;
        const shape = { m, n: inputs, k: count, transposeA: false, transposeB: false };
        if (count === outputs) {
          withEpilogue({ a: reshaped(dy, [m, outputs]), b: rows, out: target, ...shape }, { accumulate });
          return;
        }
        using part = ctx.temporary(dy.dtype, [m, count]);
        copyColumns(reshaped(dy, [m, outputs]), start, part, 0, count);
        withEpilogue({ a: part, b: rows, out: target, ...shape }, { accumulate });
      });
    },
    packWeight: () => undefined,
    unpackWeight() {
      throw new KinoraError("kernel.option", "the cuda device packs no weights");
    },
  } satisfies Partial<Kernels>;
}
