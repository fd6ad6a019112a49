// Conversions between dtypes: oneDNN's reorder for float32 and bf16, tables for the narrow formats, loops for the rest.
import { elementCount } from "../../base/shape.ts";
import { f32View, view } from "../host/host-views.ts";
import type { Operand } from "../kernels.ts";
import { elementwiseKernels } from "../reference/elementwise.ts";
import { addressOf, type CpuContext, isFast, slice, type Temporary, tensor } from "./context.ts";
import { bf16Table, lookUp, roundToF8, roundToF16, valueTable } from "./narrow-floats.ts";

/** Elements at a time where a conversion passes through float32. */
const CHUNK = 1 << 16;

/** The float32 bit patterns of an f32 operand. */
function bitsOf(operand: Operand): Uint32Array {
  const floats = f32View(operand);
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

/** The bit patterns of a narrow format. */
export function codesOf(operand: Operand): Uint8Array | Uint16Array {
  const codes = view(operand);
  return codes instanceof Int8Array
    ? new Uint8Array(codes.buffer, codes.byteOffset, codes.length)
    : (codes as Uint8Array | Uint16Array);
}

function copyBytes(x: Operand, out: Operand): void {
  const [from, to] = [view(x), view(out)];
  const bytes = (array: typeof from) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  bytes(to).set(bytes(from));
}

/** Converts x into out, same element count. out may be x only where the dtypes agree. */
export function cast(ctx: CpuContext, x: Operand, out: Operand): void {
  const count = elementCount(x.shape);
  if (count === 0) return;
  if (x.dtype === out.dtype) {
    copyBytes(x, out);
    return;
  }
  if (isFast(x.dtype) && isFast(out.dtype)) {
    const tensors = { source: tensor(x.dtype, [count]), target: tensor(out.dtype, [count]) };
    ctx.run(ctx.dnn.primitive({ kind: "reorder", tensors }), { source: addressOf(x), target: addressOf(out) });
    return;
  }
  const values = valueTable(x.dtype);
  if (values && isFast(out.dtype)) {
    const codes = codesOf(x);
    if (out.dtype === "f32") lookUp(codes, values, f32View(out), 0, count);
    else lookUp(codes, bf16Table(values), view(out) as Uint16Array, 0, count);
    return;
  }
  if (isFast(x.dtype) && (out.dtype === "f16" || out.dtype === "f8e4m3" || out.dtype === "f8e5m2")) {
    narrow(ctx, x, out, count);
    return;
  }
  elementwiseKernels.cast(x, out);
}

function narrow(ctx: CpuContext, x: Operand, out: Operand, count: number): void {
  for (let start = 0; start < count; start += CHUNK) {
    const shape = [Math.min(CHUNK, count - start)];
    using wide = asFloat32(ctx, slice(x, start, shape));
    const target = view(slice(out, start, shape));
    if (out.dtype === "f16") roundToF16(bitsOf(wide.operand), target as Uint16Array);
    else roundToF8(out.dtype as "f8e4m3" | "f8e5m2", bitsOf(wide.operand), target as Uint8Array);
  }
}

/** An operand in another dtype: itself where it has it, else converted in scratch memory. */
export class Converted implements Disposable {
  readonly operand: Operand;
  readonly #scratch: Temporary | undefined;

  constructor(operand: Operand, scratch?: Temporary) {
    this.operand = operand;
    this.#scratch = scratch;
  }

  [Symbol.dispose](): void {
    this.#scratch?.[Symbol.dispose]();
  }
}

export function converted(ctx: CpuContext, operand: Operand, dtype: "f32" | "bf16"): Converted {
  if (operand.dtype === dtype) return new Converted(operand);
  const scratch = ctx.temporary(dtype, operand.shape);
  try {
    cast(ctx, operand, scratch);
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
  return new Converted(scratch, scratch);
}

export const asFloat32 = (ctx: CpuContext, operand: Operand): Converted => converted(ctx, operand, "f32");

/** A place to compute a result: `out` itself where it has the right format, else scratch that `store` rounds into out. */
export class Result extends Converted {
  readonly #ctx: CpuContext;
  readonly #out: Operand;

  constructor(ctx: CpuContext, out: Operand, scratch?: Temporary) {
    super(scratch ?? out, scratch);
    this.#ctx = ctx;
    this.#out = out;
  }

  store(): void {
    if (this.operand !== this.#out) cast(this.#ctx, this.operand, this.#out);
  }
}

/** `keep`: starts with what `out` holds. `apart`: not in out's own memory even where it is float32. */
export function float32Result(
  ctx: CpuContext,
  out: Operand,
  { keep = false, apart = false }: { keep?: boolean; apart?: boolean } = {},
): Result {
  if (out.dtype === "f32" && !apart) return new Result(ctx, out);
  const scratch = ctx.temporary("f32", out.shape);
  if (keep) cast(ctx, out, scratch);
  return new Result(ctx, out, scratch);
}
