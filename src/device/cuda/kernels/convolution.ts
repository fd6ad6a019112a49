// Convolutions on the cuda device, channels last: unfolded rows of neighbours times the weight, or times the gradient.
import { bytesOf } from "../../../base/dtype.ts";
import { elementCount } from "../../../base/shape.ts";
import type { ConvolutionOptions, Kernels, Operand } from "../../kernels.ts";
import { type CudaContext, EIGHT, reshaped, viewOf } from "../context.ts";
import { int32s } from "../structs.ts";
import { type elementwiseKernels, typed } from "./elementwise.ts";
import type { movementKernels } from "./movement.ts";
import type { productKernels } from "./products.ts";

const FILE = "convolution";
/** Bytes of unfolded rows at once. */
const COLUMN_BYTES = 256 * 2 ** 20;

/** The kernels' Shape. */
function shapeOf(x: Operand, weight: Operand, out: Operand, { stride, padding }: ConvolutionOptions): Uint8Array {
  const [, time, height, width, channels] = x.shape as [number, number, number, number, number];
  const [, outTime, outHeight, outWidth, outChannels] = out.shape as [number, number, number, number, number];
  const kernel = weight.shape.slice(2);
  const front = padding.map(([before]) => before);
  return int32s([
    time,
    height,
    width,
    channels,
    outTime,
    outHeight,
    outWidth,
    outChannels,
    ...kernel,
    ...stride,
    ...front,
  ]);
}

export function convolutionKernels(
  ctx: CudaContext,
  products: ReturnType<typeof productKernels>,
  movement: ReturnType<typeof movementKernels>,
  elementwise: ReturnType<typeof elementwiseKernels>,
) {
  const { launcher } = ctx;

  /** The weight [Co, Ci, taps] with its axes in another order: the forward one has its channels last. */
  function copyWeight(weight: Operand, turned: Operand, strides: readonly number[], back = false): void {
    const [outputs, channels, ...sides] = weight.shape as [number, number, number, number, number];
    const taps = elementCount(sides);
    const own = { operand: weight, offset: 0, strides: [channels * taps, taps, 1] };
    const other = { operand: turned, offset: 0, strides };
    const extent = [outputs, channels, taps];
    if (back) movement.stridedCopy(other, own, extent);
    else movement.stridedCopy(own, other, extent);
  }

  /** Rows of neighbours, some at a time, to `use`. */
  function eachPart(
    name: "unfold" | "unfold_back",
    from: Operand,
    type: "f32" | "bf16",
    { rows, inner, shape }: { rows: number; inner: number; shape: Uint8Array },
    use: (columns: Operand, first: number, count: number) => void,
  ): void {
    const perPart = Math.max(1, Math.min(rows, Math.floor(COLUMN_BYTES / Math.max(1, inner * bytesOf(type)))));
    using columns = ctx.temporary(type, [perPart, inner]);
    const kernel = launcher.kernel(FILE, name, "pipisll");
    for (let first = 0; first < rows; first += perPart) {
      const count = Math.min(perPart, rows - first);
      const blocks = ctx.blocksFor(count * inner, EIGHT);
      launcher.launch(kernel, blocks, ...typed(ctx, from), ...typed(ctx, columns), shape, first, count);
      use(reshaped(columns, [count, inner]), first, count);
    }
  }

  const commonType = (a: Operand, b: Operand) => (a.dtype === "bf16" && b.dtype === "bf16" ? "bf16" : "f32");
  /** Rows `first` … of an operand whose last axis has `columns`. */
  const rowsFrom = (operand: Operand, columns: number, first: number, count: number): Operand =>
    viewOf(operand, { offset: operand.offset + first * columns * bytesOf(operand.dtype), shape: [count, columns] });

  return {
    conv3d(x, weight, bias, out, options) {
      const [outputs, channels, ...sides] = weight.shape as [number, number, number, number, number];
      const taps = elementCount(sides);
      const inner = taps * channels;
      const rows = elementCount(out.shape.slice(0, -1));
      if (rows === 0 || outputs === 0) return;
      using turned = ctx.temporary(weight.dtype, [outputs, inner]);
      copyWeight(weight, turned, [inner, 1, channels]);
      const sizes = { rows, inner, shape: shapeOf(x, weight, out, options) };
      eachPart("unfold", x, commonType(x, weight), sizes, (columns, first, count) => {
        const product = { transposeB: true, ...(bias ? { bias } : {}) };
        products.matmul(columns, turned, rowsFrom(out, outputs, first, count), product);
      });
    },
    conv3dBackwardData(dy, weight, dx, options) {
      const [outputs, channels, ...sides] = weight.shape as [number, number, number, number, number];
      const inner = elementCount(sides) * outputs;
      const rows = elementCount(dx.shape.slice(0, -1));
      if (rows === 0 || channels === 0) return;
      using turned = ctx.temporary(weight.dtype, [inner, channels]);
      copyWeight(weight, turned, [channels, 1, outputs * channels]);
      const sizes = { rows, inner, shape: shapeOf(dx, weight, dy, options) };
      eachPart("unfold_back", dy, commonType(dy, weight), sizes, (columns, first, count) => {
        products.matmul(columns, turned, rowsFrom(dx, channels, first, count));
      });
    },
    conv3dBackwardWeights(x, dy, dweight, dbias, options) {
      const [outputs, channels, ...sides] = dweight.shape as [number, number, number, number, number];
      const inner = elementCount(sides) * channels;
      const rows = elementCount(dy.shape.slice(0, -1));
      if (rows === 0) elementwise.fill(dweight, 0);
      else if (elementCount(dweight.shape) > 0) {
        // Parts add up in float32.
        using sum = ctx.temporary("f32", [outputs, inner]);
        const sizes = { rows, inner, shape: shapeOf(x, dweight, dy, options) };
        eachPart("unfold", x, commonType(x, dy), sizes, (columns, first, count) => {
          const product = { transposeA: true, accumulate: first > 0 };
          products.matmul(rowsFrom(dy, outputs, first, count), columns, sum, product);
        });
        using rounded = ctx.temporary(dweight.dtype, sum.shape);
        elementwise.cast(sum, rounded);
        copyWeight(dweight, rounded, [inner, 1, channels], true);
      }
      if (dbias) movement.sum(reshaped(dy, [rows, outputs]), [0], reshaped(dbias, [1, outputs]));
    },
  } satisfies Partial<Kernels>;
}
