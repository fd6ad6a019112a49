// Matrix products through our stack (a Linear's packed weight, through the tensor operation) against oneDNN alone.
import type { Device } from "../src/device/device.ts";
import { linear } from "../src/tensor/ops/index.ts";
import { openScope } from "../src/tensor/scope.ts";
import { empty } from "../src/tensor/tensor.ts";
import { bareProduct, type ProductShape, productFlops } from "./bare-product.ts";
import { formatRatio, interleaved, load, ratioOf } from "./rounds.ts";

/** [M, K, N]: a cube, and the products of the 1.3B at 832×480×17. */
const shapes = [
  [2048, 2048, 2048],
  [7800, 1536, 1536],
  [7800, 1536, 8960],
  [7800, 8960, 1536],
] as const;

/** The same product as a model asks for it. */
function ourProduct(device: Device, { rows, inputs, outputs, dtype }: ProductShape) {
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

/** Prints the table: GFLOP/s of the medians, and how near ours comes. */
export async function benchMatmul(device: Device, rounds: number): Promise<void> {
  console.log("matrix product       M ×    K ×    N   ours GFLOP/s   oneDNN alone   ours/alone");
  for (const dtype of ["f32", "bf16"] as const) {
    for (const [rows, inputs, outputs] of shapes) {
      const shape = { rows, inputs, outputs, dtype };
      using bare = bareProduct(shape);
      using ours = ourProduct(device, shape);
      const times = await interleaved({ alone: bare.run, ours: ours.run }, rounds);
      const sizes = [rows, inputs, outputs].map((size) => String(size).padStart(5)).join(" ×");
      const rates = [times.ours, times.alone]
        .map(({ median }) => (productFlops(shape) / median / 1e9).toFixed(0).padStart(14))
        .join(" ");
      console.log(`  ${dtype.padEnd(16)}${sizes} ${rates}   ${formatRatio(ratioOf(times.alone, times.ours))}`);
    }
  }
  console.log(`  ${rounds} rounds, ${load()}`);
}
