// The device in plain TypeScript: simple, float64 inside, any float dtype at its edges. What other devices are tested
// against, and the fall-back where oneDNN is missing. Right before fast.
import type { Device } from "../device.ts";
import { createHostDevice } from "../host/host-device.ts";
import type { Kernels } from "../kernels.ts";
import { attentionKernels } from "./attention.ts";
import { convolutionKernels } from "./convolution.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { movementKernels } from "./movement.ts";
import { normKernels } from "./norms.ts";
import { optimizerKernels } from "./optimizer.ts";
import { productKernels } from "./products.ts";
import { quantizationKernels } from "./quantization.ts";
import { randomKernels } from "./random.ts";

const kernels = {
  ...productKernels,
  ...attentionKernels,
  ...normKernels,
  ...elementwiseKernels,
  ...movementKernels,
  ...convolutionKernels,
  ...optimizerKernels,
  ...randomKernels,
  ...quantizationKernels,
} satisfies Kernels;

export function createReferenceDevice(): Device {
  return createHostDevice({ name: "reference", productTypes: ["f32"], kernels: () => kernels });
}
