// Convolutions on the cuda device, channels last: unfolded rows times the weight forward, gathers for gradients.
import { bytesOf } from "../../../base/dtype.ts";
import { elementCount } from "../../../base/shape.ts";
import type { ConvolutionOptions, Kernels, Operand } from "../../kernels.ts";
import { type CudaContext, reshaped, viewOf } from "../context.ts";
import { int32s } from "../structs.ts";
import { typed } from "./elementwise.ts";
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
) {
  const { launcher } = ctx;
  return {
    conv3d(x, weight, bias, out, options) {
      const [outputs, channels, ...sides] = weight.shape as [number, number, number, number, number];
      const taps = elementCount(sides);
      const inner = taps * channels;
      const rows = elementCount(out.shape.slice(0, -1));
      if (rows === 0 || outputs === 0) return;
      const type = x.dtype === "bf16" && weight.dtype === "bf16" ? "bf16" : "f32";
      // The weight [Co, Ci, taps] with its channels last, as the unfolded rows have them.
      using turned = ctx.temporary(weight.dtype, [outputs, taps, channels]);
      const from = { operand: weight, offset: 0, strides: [inner, 1, taps] };
      movement.stridedCopy(from, { operand: turned, offset: 0, strides: [inner, channels, 1] }, [
        outputs,
        taps,
        channels,
      ]);
      const matrix = reshaped(turned, [outputs, inner]);
      const shape = shapeOf(x, weight, out, options);
      const perPart = Math.max(1, Math.min(rows, Math.floor(COLUMN_BYTES / Math.max(1, inner * bytesOf(type)))));
      using columns = ctx.temporary(type, [perPart, inner]);
      const kernel = launcher.kernel(FILE, "unfold", "pipisll");
      for (let first = 0; first < rows; first += perPart) {
        const count = Math.min(perPart, rows - first);
        const elements = count * inner;
        launcher.launch(
          kernel,
          ctx.blocksFor(elements),
          ...typed(ctx, x),
          ...typed(ctx, columns),
          shape,
          first,
          elements,
        );
        const part = viewOf(out, {
          offset: out.offset + first * outputs * bytesOf(out.dtype),
          shape: [count, outputs],
        });
        products.matmul(reshaped(columns, [count, inner]), matrix, part, {
          transposeB: true,
          ...(bias ? { bias } : {}),
        });
      }
    },
    conv3dBackwardData(dy, weight, dx, options) {
      const count = elementCount(dx.shape);
      const kernel = launcher.kernel(FILE, "convolution_backward_data", "pipipisl");
      const operands = [dy, weight, dx].flatMap((operand) => typed(ctx, operand));
      launcher.launch(kernel, ctx.blocksFor(count), ...operands, shapeOf(dx, weight, dy, options), count);
    },
    conv3dBackwardWeights(x, dy, dweight, dbias, options) {
      const positions = elementCount(dy.shape.slice(0, -1));
      const kernel = launcher.kernel(FILE, "convolution_backward_weights", "pipipisl");
      const operands = [x, dy, dweight].flatMap((operand) => typed(ctx, operand));
      const shape = shapeOf(x, dweight, dy, options);
      launcher.launch(kernel, elementCount(dweight.shape), ...operands, shape, positions);
      const outputs = dy.shape.at(-1)!;
      if (dbias) movement.sum(reshaped(dy, [positions, outputs]), [0], reshaped(dbias, [1, outputs]));
    },
  } satisfies Partial<Kernels>;
}
