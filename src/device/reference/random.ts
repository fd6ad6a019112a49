// Normal random numbers from the counter-based generator that all devices share.
import { fillNormal } from "../../base/philox.ts";
import { f32View } from "../host-views.ts";
import type { Kernels } from "../kernels.ts";

export const randomKernels = {
  normal: (out, generator) => fillNormal(f32View(out), generator),
} satisfies Partial<Kernels>;
