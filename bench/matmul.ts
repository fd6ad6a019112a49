// Matrix products through our stack (a Linear's packed weight, through the tensor operation) against oneDNN alone: the bare
// primitive over memory in its own layout, nothing around it. Both in turn, in one run, the best of each.
import { bytesOf } from "../src/base/dtype.ts";
import type { Device } from "../src/device/device.ts";
import { openDevice } from "../src/device/open-device.ts";
import { releaseMemory, reserveMemory } from "../src/ffi/host-memory.ts";
import { OneDnn } from "../src/ffi/onednn.ts";
import type { TensorDescription } from "../src/ffi/onednn-operations.ts";
import { linear } from "../src/tensor/ops/index.ts";
import { openScope } from "../src/tensor/scope.ts";
import { empty } from "../src/tensor/tensor.ts";

export interface MatmulRow {
  rows: number;
  inputs: number;
  outputs: number;
  dtype: "f32" | "bf16";
  /** GFLOP/s */
  ours: number;
  oneDnn: number;
}

/** [M, K, N]: a cube, and the products of the 1.3B at 832×480×17. */
const shapes = [
  [2048, 2048, 2048],
  [7800, 1536, 1536],
  [7800, 1536, 8960],
  [7800, 8960, 1536],
] as const;

/** One product of oneDNN's own, ready to run. */
function bareProduct(rows: number, inputs: number, outputs: number, dtype: "f32" | "bf16") {
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

/** The same product as a model asks for it. */
function ourProduct(device: Device, rows: number, inputs: number, outputs: number, dtype: "f32" | "bf16") {
  const scope = openScope(device);
  const x = empty(device, [rows, inputs], dtype);
  const plain = empty(device, [outputs, inputs], dtype);
  for (const operand of [x, plain]) device.kernels.fill(operand, 0.5);
  const packed = device.kernels.packWeight(plain, rows);
  const weight = { dtype, shape: [outputs, inputs] as const, ...(packed ? { packed } : { plain }) };
  return {
    run() {
      using _inner = openScope(device);
      linear(x, weight);
    },
    [Symbol.dispose]() {
      if (packed) device.free(packed.block);
      scope[Symbol.dispose]();
    },
  };
}

function seconds(body: () => void): number {
  const started = performance.now();
  body();
  return (performance.now() - started) / 1000;
}

export function measureMatmul(device: Device, repeat = 5): MatmulRow[] {
  const result: MatmulRow[] = [];
  for (const dtype of ["f32", "bf16"] as const) {
    for (const [rows, inputs, outputs] of shapes) {
      using bare = bareProduct(rows, inputs, outputs, dtype);
      using ours = ourProduct(device, rows, inputs, outputs, dtype);
      bare.run();
      ours.run();
      let [bareBest, oursBest] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      for (let i = 0; i < repeat; i++) {
        bareBest = Math.min(bareBest, seconds(bare.run));
        oursBest = Math.min(oursBest, seconds(ours.run));
      }
      const work = (2 * rows * inputs * outputs) / 1e9;
      result.push({ rows, inputs, outputs, dtype, ours: work / oursBest, oneDnn: work / bareBest });
    }
  }
  return result;
}

/** Prints the table. */
export async function benchMatmul(repeat = 5): Promise<MatmulRow[]> {
  const { device } = await openDevice("cpu");
  const rows = measureMatmul(device, repeat);
  device[Symbol.dispose]();
  console.log("matrix product       M ×    K ×    N   ours GFLOP/s   oneDNN alone   ratio");
  for (const row of rows) {
    const shape = [row.rows, row.inputs, row.outputs].map((size) => String(size).padStart(5)).join(" ×");
    const rates = [row.ours, row.oneDnn].map((rate) => rate.toFixed(0).padStart(14)).join(" ");
    console.log(
      `  ${row.dtype.padEnd(16)}${shape} ${rates}   ${((100 * row.ours) / row.oneDnn).toFixed(0).padStart(4)} %`,
    );
  }
  return rows;
}
