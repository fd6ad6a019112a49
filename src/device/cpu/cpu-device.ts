// The fast device on CPUs: oneDNN for the heavy kernels, plain loops for the light ones. Numerics as the reference's.
import { OneDnn } from "../../ffi/onednn.ts";
import type { Device } from "../device.ts";
import { createHostDevice } from "../host/host-device.ts";
import type { Kernels } from "../kernels.ts";
import { randomKernels } from "../reference/random.ts";
import { attentionKernels } from "./attention.ts";
import { attentionBackwardKernels } from "./attention-backward.ts";
import { CpuContext } from "./context.ts";
import { convolutionKernels } from "./convolution.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { modulationKernels } from "./modulation.ts";
import { normKernels } from "./norms.ts";
import { normBackwardKernels } from "./norms-backward.ts";
import { optimizerKernels } from "./optimizer.ts";
import { productKernels } from "./products.ts";
import { quantizationKernels } from "./quantization.ts";
import { reductionKernels } from "./reductions.ts";
import { ropeKernels } from "./rope.ts";
import { stridedCopyKernels } from "./strided-copy.ts";

/** Throws `device.onednn-missing` where the library is not on this machine. */
export function createCpuDevice(): Device {
  const dnn = new OneDnn();
  return createHostDevice({
    name: "cpu",
    productTypes: ["bf16", "f32"],
    kernels: (memory): Kernels => {
      const ctx = new CpuContext(dnn, memory);
      return {
        ...randomKernels,
        ...productKernels(ctx),
        ...modulationKernels(ctx),
        ...normKernels(ctx),
        ...normBackwardKernels(ctx),
        ...elementwiseKernels(ctx),
        ...ropeKernels(ctx),
        ...convolutionKernels(ctx),
        ...stridedCopyKernels(ctx),
        ...reductionKernels(ctx),
        ...optimizerKernels(ctx),
        ...quantizationKernels(ctx),
        ...attentionKernels(ctx),
        ...attentionBackwardKernels(ctx),
      } satisfies Kernels;
    },
    dispose: () => dnn[Symbol.dispose](),
  });
}
