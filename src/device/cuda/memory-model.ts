// What the cuda device holds beside the operands, for plans on the null device. The kernels' own host code tells: it runs
// against parts that count what it asks for and compute nothing.

import type { CudaHandle, DeviceAddress } from "../../ffi/cuda-driver.ts";
import { type AnyKernel, type KernelName, kernelNames } from "../check-operands.ts";
import type { Kernels, Operand } from "../kernels.ts";
import type { MemoryModel } from "../memory-model.ts";
import { CudaContext } from "./context.ts";
import { cudaKernels } from "./kernels/all.ts";
import { type CudaBlock, CudaMemory, type MemorySource } from "./memory.ts";

/** Memory that is not there. */
function nowhere(): MemorySource {
  let next = 0;
  return { take: () => ++next as DeviceAddress, give() {}, settle() {} };
}

/** Kernels ask for addresses of operands, which a plan's blocks do not have. */
class PlannedContext extends CudaContext {
  override address(_operand: Operand): DeviceAddress {
    return 0 as DeviceAddress;
  }
}

/** Bytes at most that a kernel takes for itself while it runs. */
function temporaries(): (name: KernelName, args: readonly unknown[]) => number {
  const memory = new CudaMemory(nowhere());
  const handle = 0 as CudaHandle;
  const kernels = cudaKernels(
    new PlannedContext({
      memory,
      stream: handle,
      // An Ampere card of middle size: what kernels divide by it differs little.
      multiprocessors: 82,
      capability: 80,
      launcher: {
        kernel: (_file, name, signature, { threads = 0, shared = 0 } = {}) => ({
          name,
          signature,
          threads,
          shared,
          handle,
        }),
        launch() {},
      },
      cublas: {
        prepare: () => ({
          workspaceBytes: 0,
          handles: { operation: handle, a: handle, b: handle, out: handle },
          algorithm: new Uint8Array(),
          hasBias: false,
        }),
        run() {},
        forget() {},
      },
      uploadSmall() {},
    }),
  );
  return (name, args) => {
    memory.resetPeak();
    (kernels[name] as AnyKernel)(...args);
    return memory.memory().peak;
  };
}

let measure: ReturnType<typeof temporaries> | undefined;
const workspaceOf =
  (name: KernelName): AnyKernel =>
  (...args) => {
    measure ??= temporaries();
    return measure(name, args);
  };

/** Layouts of the device's own do not exist: these two hold nothing. */
const without: readonly KernelName[] = ["packWeight", "unpackWeight"];
const workspace = Object.fromEntries(
  kernelNames.filter((name) => !without.includes(name)).map((name) => [name, workspaceOf(name)]),
) as { readonly [K in keyof Kernels]?: (...args: Parameters<Kernels[K]>) => number };

export const cudaMemoryModel: MemoryModel = {
  mapsHost: false,
  takesBlocks: false,
  workspace,
  keeping() {
    const memory = new CudaMemory(nowhere());
    return {
      take: (bytes, category) => memory.alloc(bytes, category),
      give: (taken) => memory.free(taken as CudaBlock),
      recategorize: (taken, category) => memory.recategorize(taken as CudaBlock, category),
      trim: () => memory.trim(),
      get bytes() {
        return memory.heldBytes;
      },
    };
  },
};
