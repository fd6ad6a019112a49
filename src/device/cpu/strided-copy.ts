// Copies between strided windows. Runs of memory are moved as such; large windows go to oneDNN's reorder, which permutes on
// all cores; the rest, and repeats, are loops.
import { elementCount } from "../../base/shape.ts";
import type { PostOperation, TensorDescription } from "../../ffi/onednn-operations.ts";
import { view } from "../host/host-views.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { movementKernels as reference } from "../reference/movement.ts";
import { addressOf, type CpuContext, isFast, slice } from "./context.ts";

type Window = Parameters<Kernels["stridedCopy"]>[0];

/** Below this a loop is done before a primitive would be found. */
const SMALLEST_REORDER = 1 << 13;
const MOST_AXES = 8;

/** One axis of a copy. */
interface Axis {
  readonly extent: number;
  readonly from: number;
  readonly to: number;
}

/** The axes that matter, the target's widest stride first, neighbours that run on in both windows joined. */
export function copyAxes(extent: readonly number[], from: readonly number[], to: readonly number[]): Axis[] {
  const axes = extent
    .map((size, axis) => ({ extent: size, from: from[axis]!, to: to[axis]! }))
    .filter((axis) => axis.extent !== 1)
    .sort((a, b) => Math.abs(b.to) - Math.abs(a.to));
  const joined: Axis[] = [];
  for (const axis of axes) {
    const outer = joined.at(-1);
    if (outer && outer.from === axis.from * axis.extent && outer.to === axis.to * axis.extent) {
      joined[joined.length - 1] = { ...axis, extent: outer.extent * axis.extent };
    } else joined.push(axis);
  }
  return joined;
}

/** Whether no two elements share a place and all strides are positive: what oneDNN calls a layout. */
function nested(axes: readonly Axis[], side: "from" | "to"): boolean {
  let reach = 1;
  for (const axis of axes.toSorted((a, b) => a[side] - b[side])) {
    if (axis[side] < reach) return false;
    reach = axis[side] * axis.extent;
  }
  return true;
}

function reorder(
  ctx: CpuContext,
  source: Operand,
  target: Operand,
  axes: readonly Axis[],
  post: readonly PostOperation<TensorDescription>[] = [],
): void {
  const dtype = source.dtype as "f32" | "bf16";
  const dims = axes.map(({ extent }) => extent);
  const tensors = {
    source: { dtype, dims, strides: axes.map(({ from }) => from) },
    target: { dtype, dims, strides: axes.map(({ to }) => to) },
  };
  const addresses = { source: addressOf(source), target: addressOf(target) };
  ctx.run(ctx.dnn.primitive({ kind: "reorder", tensors }, post), addresses);
}

/** Views as one kind of array: elements move as they are, whatever they are. */
type Elements = Uint8Array;

function copyLoop(from: Elements, at: number, to: Elements, toAt: number, axes: readonly Axis[], level: number): void {
  const { extent, from: step, to: toStep } = axes[level]!;
  if (level < axes.length - 1) {
    for (let i = 0; i < extent; i++) copyLoop(from, at + i * step, to, toAt + i * toStep, axes, level + 1);
  } else if (step === 1 && toStep === 1 && extent >= 64) {
    to.set(from.subarray(at, at + extent), toAt);
  } else if (step === 0 && toStep === 1) {
    to.fill(from[at]!, toAt, toAt + extent);
  } else {
    for (let i = 0; i < extent; i++) to[toAt + i * toStep] = from[at + i * step]!;
  }
}

function stridedCopy(
  ctx: CpuContext,
  source: Window,
  target: Window,
  extent: readonly number[],
  options: { accumulate?: boolean } = {},
): void {
  const count = elementCount(extent);
  if (count === 0) return;
  const { dtype } = source.operand;
  const axes = copyAxes(extent, source.strides, target.strides);
  const small = count < SMALLEST_REORDER;
  if (options.accumulate) {
    const fits = axes.length > 0 && axes.length <= MOST_AXES && nested(axes, "from") && nested(axes, "to");
    if (small || !isFast(dtype) || !fits) {
      reference.stridedCopy(source, target, extent, options);
      return;
    }
    const [from, to] = [slice(source.operand, source.offset, []), slice(target.operand, target.offset, [])];
    reorder(ctx, from, to, axes, [{ kind: "sum", scale: 1 }]);
    return;
  }
  // Repeats go outermost: what is inside them is copied once per repetition, as a layout.
  const repeats = axes.filter((axis) => axis.from === 0);
  const inner = axes.filter((axis) => axis.from !== 0);
  const innerCount = elementCount(inner.map((axis) => axis.extent));
  const contiguous = inner.length === 1 && inner[0]!.from === 1 && inner[0]!.to === 1;
  const reorders =
    isFast(dtype) &&
    innerCount >= SMALLEST_REORDER &&
    !contiguous &&
    inner.length <= MOST_AXES &&
    nested(inner, "from") &&
    nested(inner, "to");
  if (reorders) {
    const place = (operand: Operand, at: number): Operand => slice(operand, at, []);
    eachOffset(repeats, target.offset, (at) =>
      reorder(ctx, place(source.operand, source.offset), place(target.operand, at), inner),
    );
    return;
  }
  const [from, to] = [view(source.operand) as Elements, view(target.operand) as Elements];
  if (axes.length === 0) to[target.offset] = from[source.offset]!;
  else copyLoop(from, source.offset, to, target.offset, axes, 0);
}

/** Calls `visit` with the target's offset for each combination of the axes' positions. */
function eachOffset(axes: readonly Axis[], offset: number, visit: (offset: number) => void): void {
  const [axis, ...rest] = axes;
  if (!axis) {
    visit(offset);
    return;
  }
  for (let i = 0; i < axis.extent; i++) eachOffset(rest, offset + i * axis.to, visit);
}

export const stridedCopyKernels = (ctx: CpuContext) =>
  ({
    stridedCopy: (source, target, extent, options) => stridedCopy(ctx, source, target, extent, options),
  }) satisfies Partial<Kernels>;
