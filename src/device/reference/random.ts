// Normal random numbers from the counter-based generator that all devices share.
import { philoxNormals } from "../../base/rng/philox-rng.ts";
import { f32View } from "../host/host-views.ts";
import type { Kernels } from "../kernels.ts";

export const randomKernels = {
  normal: (out, { seed, stream, offset }) => philoxNormals(seed, stream, offset, f32View(out)),
} satisfies Partial<Kernels>;
