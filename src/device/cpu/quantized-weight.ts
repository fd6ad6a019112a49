// Weights in formats oneDNN does not multiply (f16, fp8, int8, blocks, or a float other than the run's), widened some rows
// at a time so that the wide copy stays small.
import { type BlockFormat, blockBytes, widenBlocks } from "../../base/block-format.ts";
import { bytesOf } from "../../base/dtype.ts";
import { f32ToBf16 } from "../../base/float-formats.ts";
import { elementCount } from "../../base/shape.ts";
import { f32View, u8View, view } from "../host/host-views.ts";
import type { LinearWeight, Operand } from "../kernels.ts";
import { cast, codesOf } from "./cast.ts";
import { type CpuContext, isFast, slice } from "./context.ts";
import { lookUp, valueTable } from "./narrow-floats.ts";

/** Bytes of widened weight at once. Large enough that products over a block run at full speed. */
const BLOCK_BYTES = 32 * 2 ** 20;

/** Below this many elements per scale, a table per scale costs more than it saves. */
export const SHORTEST_TABLE_SPAN = 1024;

/** Rows of a weight [N, K] that are widened at once. */
export function wideRows([outputs, inputs]: LinearWeight["shape"], dtype: "f32" | "bf16"): number {
  return Math.min(outputs, Math.max(64, Math.floor(BLOCK_BYTES / (inputs * bytesOf(dtype)) / 64) * 64));
}

/** Calls `use` with the rows of a weight in `dtype`, some at a time: a matrix [count, K] from row `start`. */
export function eachWideBlock(
  ctx: CpuContext,
  weight: LinearWeight,
  dtype: "f32" | "bf16",
  use: (rows: Operand, start: number, count: number) => void,
): void {
  const [outputs, inputs] = weight.shape;
  const { blocks } = weight;
  const stored = blocks ? blockBytes(blocks, inputs) : inputs;
  const perBlock = wideRows(weight.shape, dtype);
  using wide = ctx.temporary(dtype, [perBlock, inputs]);
  for (let start = 0; start < outputs; start += perBlock) {
    const shape = [Math.min(perBlock, outputs - start), inputs];
    const rows = slice(wide, 0, shape);
    const data = slice(weight.plain!, start * stored, [shape[0]!, stored]);
    dequantize(ctx, data, weight.scale && scaleOfRows(weight.scale, start, shape[0]!), rows, blocks);
    use(rows, start, shape[0]!);
  }
}

/** The scales of some rows; a scale per tensor is every row's. */
function scaleOfRows(scale: Operand, start: number, count: number): Operand {
  if (scale.shape.length <= 1) return scale;
  const perRow = elementCount(scale.shape.slice(1));
  return slice(scale, start * perRow, [count, perRow]);
}

/** out = data·scale. Each scale belongs to a run of elements in row-major order. */
export function dequantize(
  ctx: CpuContext,
  data: Operand,
  scale: Operand | undefined,
  out: Operand,
  blocks?: BlockFormat,
): void {
  if (blocks) {
    widen(ctx, data, blocks, scale, out);
    return;
  }
  if (!scale) {
    cast(ctx, data, out);
    return;
  }
  const values = valueTable(data.dtype);
  const scales = f32View(scale);
  const count = elementCount(data.shape);
  const span = count / scales.length;
  const tabled = values && bytesOf(data.dtype) === 1 && isFast(out.dtype) && span >= SHORTEST_TABLE_SPAN;
  if (!tabled) {
    using wide = ctx.temporary("f32", data.shape);
    cast(ctx, data, wide);
    scaleRuns(f32View(wide), scales);
    cast(ctx, wide, out);
    return;
  }
  const codes = codesOf(data);
  const [table, target] =
    out.dtype === "f32"
      ? [new Float32Array(values.length), f32View(out)]
      : [new Uint16Array(values.length), view(out) as Uint16Array];
  const round = out.dtype === "f32" ? Math.fround : f32ToBf16;
  for (let group = 0; group < scales.length; group++) {
    const factor = scales[group]!;
    for (let code = 0; code < values.length; code++) table[code] = round(values[code]! * factor);
    lookUp(codes, table, target, group * span, (group + 1) * span);
  }
}

function scaleRuns(values: Float32Array, scales: Float32Array): void {
  const span = values.length / scales.length;
  for (let group = 0; group < scales.length; group++) {
    const scale = scales[group]!;
    for (let i = group * span; i < (group + 1) * span; i++) values[i]! *= scale;
  }
}

/** Elements of blocks that are widened to float32 at once: what fits in a core's cache. */
export const WIDENED = 1 << 16;

/** The same for blocks, by way of a little float32. */
function widen(ctx: CpuContext, data: Operand, blocks: BlockFormat, scale: Operand | undefined, out: Operand): void {
  const bytes = u8View(data);
  const count = elementCount(out.shape);
  const scales = scale && f32View(scale);
  // With a few scales, a run of one scale is widened at a time.
  const span = scales ? count / scales.length : count;
  const most = Math.max(blocks.elements, Math.min(WIDENED, count));
  using scratch = out.dtype === "f32" ? undefined : ctx.temporary("f32", [most]);
  for (let start = 0; start < count; start += most) {
    const shape = [Math.min(most, count - start)];
    const target = slice(out, start, shape);
    const wide = scratch ? slice(scratch, 0, shape) : target;
    const values = f32View(wide);
    widenBlocks(blocks, bytes.subarray(blockBytes(blocks, start), blockBytes(blocks, start + shape[0]!)), values);
    if (scales) {
      for (let i = 0; i < values.length; ) {
        const group = Math.floor((start + i) / span);
        const end = Math.min(values.length, (group + 1) * span - start);
        for (const factor = scales[group]!; i < end; i++) values[i]! *= factor;
      }
    }
    if (scratch) cast(ctx, wide, target);
  }
}
