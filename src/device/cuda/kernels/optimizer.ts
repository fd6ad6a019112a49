// AdamW with float32 and 8-bit states, quantising and widening on the cuda device.
import { elementCount } from "../../../base/shape.ts";
import { DYNAMIC_BLOCK, signedCode, unsignedCode } from "../../dynamic-code.ts";
import type { AdamWOptions, Kernels, Operand } from "../../kernels.ts";
import { largest } from "../../reference/quantization.ts";
import { type CudaContext, EIGHT } from "../context.ts";
import { float32s } from "../structs.ts";
import { typed } from "./elementwise.ts";

const FILE = "optimizer";

/** The kernels' AdamW, its corrections worked out in double. */
function adamw({ learningRate, beta1, beta2, eps, weightDecay, step, gradientScale }: AdamWOptions): Uint8Array {
  const decay = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  return float32s([decay, rate, beta1, beta2, eps, Math.sqrt(1 - beta2 ** step), gradientScale]);
}

export function optimizerKernels(ctx: CudaContext) {
  const { launcher } = ctx;
  let codes: Operand | undefined;
  return {
    adamw(parameter, gradient, m, v, options) {
      const count = elementCount(parameter.shape);
      const kernel = launcher.kernel(FILE, "adamw", "ppippsl");
      const values = [ctx.address(parameter), ...typed(ctx, gradient), ctx.address(m), ctx.address(v), adamw(options)];
      launcher.launch(kernel, ctx.blocksFor(count, EIGHT), ...values, count);
    },
    adamw8bit(parameter, gradient, { m, mScale, v, vScale }, options) {
      const count = elementCount(parameter.shape);
      codes ??= ctx.floats(Float32Array.from([...signedCode.values, ...unsignedCode.values]));
      const kernel = launcher.kernel(FILE, "adamw_8bit", "ppipppppsl");
      const state = [m, mScale, v, vScale, codes].map((operand) => ctx.address(operand));
      const values = [ctx.address(parameter), ...typed(ctx, gradient), ...state, adamw(options)];
      launcher.launch(kernel, Math.ceil(count / DYNAMIC_BLOCK), ...values, count);
    },
    quantize(x, data, scale) {
      const groups = elementCount(scale.shape);
      const kernel = launcher.kernel(FILE, "quantize", "pipiplf");
      const top = largest[data.dtype as keyof typeof largest];
      const values = [...typed(ctx, x), ...typed(ctx, data), ctx.address(scale)];
      launcher.launch(kernel, groups, ...values, groups === 0 ? 0 : elementCount(data.shape) / groups, top);
    },
    dequantize(data, scale, out) {
      const count = elementCount(data.shape);
      const kernel = launcher.kernel(FILE, "dequantize", "pippill");
      const span = scale ? count / elementCount(scale.shape) : Math.max(1, count);
      const values = [...typed(ctx, data), ctx.optional(scale), ...typed(ctx, out), span];
      launcher.launch(kernel, ctx.blocksFor(count, EIGHT), ...values, count);
    },
  } satisfies Partial<Kernels>;
}
