// A matrix product of oneDNN alone: the bare primitive over memory in its own layout, nothing around it. What the CPU's
// products can be held against.
import { bytesOf } from "../src/base/dtype.ts";
import { releaseMemory, reserveMemory } from "../src/ffi/host-memory.ts";
import { OneDnn } from "../src/ffi/onednn.ts";
import type { TensorDescription } from "../src/ffi/onednn-operations.ts";

export interface ProductShape {
  rows: number;
  inputs: number;
  outputs: number;
  dtype: "f32" | "bf16";
}

export const productFlops = ({ rows, inputs, outputs }: ProductShape): number => 2 * rows * inputs * outputs;

/** One product of oneDNN's own, ready to run. */
export function bareProduct({ rows, inputs, outputs, dtype }: ProductShape): { run: () => void } & Disposable {
  const dnn = new OneDnn();
  const plain = (dims: readonly [number, number]): TensorDescription => ({ dtype, dims, strides: [dims[1], 1] });
  const weights = { dtype, dims: [inputs, outputs], strides: "any" } as const;
  const primitive = dnn.primitive({
    kind: "matmul",
    tensors: { source: plain([rows, inputs]), weights, target: plain([rows, outputs]) },
  });
  const sizes = [
    rows * inputs * bytesOf(dtype),
    dnn.layoutOf(primitive, "weights", 2).bytes,
    rows * outputs * bytesOf(dtype),
    primitive.scratchpadBytes,
  ].map((bytes) => Math.max(4096, bytes));
  const memory = sizes.map(reserveMemory);
  const [source, weight, target, scratchpad] = memory.map(Number) as [number, number, number, number];
  return {
    run: () => primitive.execute({ source, weights: weight, target }, [], scratchpad),
    [Symbol.dispose]() {
      memory.forEach((address, i) => {
        releaseMemory(address, sizes[i]!);
      });
      dnn[Symbol.dispose]();
    },
  };
}
