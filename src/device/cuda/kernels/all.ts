// All kernels of the cuda device.
import type { AnyKernel } from "../../check-operands.ts";
import type { Kernels } from "../../kernels.ts";
import type { CudaContext } from "../context.ts";
import { attentionKernels } from "./attention.ts";
import { convolutionKernels } from "./convolution.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { movementKernels } from "./movement.ts";
import { normKernels } from "./norms.ts";
import { optimizerKernels } from "./optimizer.ts";
import { productKernels } from "./products.ts";

export function cudaKernels(ctx: CudaContext): Kernels {
  const products = productKernels(ctx);
  const movement = movementKernels(ctx);
  const elementwise = elementwiseKernels(ctx);
  const kernels = {
    ...products,
    ...movement,
    ...elementwise,
    ...normKernels(ctx),
    ...optimizerKernels(ctx),
    ...attentionKernels(ctx),
    ...convolutionKernels(ctx, products, movement, elementwise),
  } satisfies Kernels;
  const whole =
    (kernel: AnyKernel): AnyKernel =>
    (...args) =>
      ctx.whole(() => kernel(...args));
  const entries = Object.entries(kernels).map(([name, kernel]) => [name, whole(kernel as AnyKernel)]);
  return Object.fromEntries(entries) as unknown as Kernels;
}
