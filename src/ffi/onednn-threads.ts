// On how many threads a primitive runs: all of them, or the caller's alone where it is too small to be shared.
//
// Waking a sleeping thread costs 20 µs and more; on a machine with other work, the time until that thread gets a core. On
// two idle Zen 4 cores a bf16 product of 6 MFLOP took 30 µs alone and 28 to 41 shared when 30 to 100 µs lay before it, one
// of 25 MFLOP 110 and 70 to 86. A small training step is a thousand of the former: 18 ms alone, 24 shared, and 280 shared
// on busy cores.
import type { LibraryHandle } from "koffi";
import { elementCount } from "../base/shape.ts";
import type { Operation, TensorDescription } from "./onednn-operations.ts";

/** OpenMP's number of threads for the primitives that are made and executed next. */
export interface Threads {
  readonly most: number;
  use(count: number): void;
}

/** Undefined where the library does not compute with OpenMP. */
export function openMpThreads(library: LibraryHandle): Threads | undefined {
  try {
    const most = library.func("int omp_get_max_threads()")() as number;
    const set = library.func("void omp_set_num_threads(int)") as (count: number) => void;
    let current = most;
    return {
      most,
      use(count) {
        if (count === current) return;
        set(count);
        current = count;
      },
    };
  } catch {
    return undefined;
  }
}

/** Arithmetic worth sharing: 80 µs in bf16 on a core of Zen 4, twice that in float32. */
const FLOPS_WORTH_SHARING = 2 ** 24;
/** Elements worth sharing: 25 to 200 µs, from copies to activations. */
const ELEMENTS_WORTH_SHARING = 2 ** 18;

const count = ({ dims }: TensorDescription): number => elementCount(dims);

/** Multiplications and additions of a product or a convolution. */
function flopsOf(operation: Operation<TensorDescription>): number {
  switch (operation.kind) {
    case "matmul":
      return 2 * count(operation.tensors.target) * operation.tensors.weights.dims.at(-2)!;
    case "convolution":
      return taps(operation.tensors.weights) * count(operation.tensors.target);
    case "convolution-data":
      return taps(operation.tensors.weights) * count(operation.tensors.diffTarget);
    case "convolution-weights":
      return taps(operation.tensors.diffWeights) * count(operation.tensors.diffTarget);
    default:
      return 0;
  }
}

/** Arithmetic for one output of a convolution with these weights [Co, …]. */
const taps = (weights: TensorDescription): number => (2 * count(weights)) / Math.max(1, weights.dims[0]!);

export function isWorthSharing(operation: Operation<TensorDescription>): boolean {
  const tensors = Object.values(operation.tensors).filter((tensor) => tensor !== undefined);
  return flopsOf(operation) >= FLOPS_WORTH_SHARING || tensors.some((tensor) => count(tensor) >= ELEMENTS_WORTH_SHARING);
}
