// What the cpu device's kernels hold beside their operands, for plans on the null device: quantised weights, widened a
// block of rows at a time. What the other kernels hold is bounded by a chunk of rows and small beside a model.
import { bytesOf } from "../../base/dtype.ts";
import { elementCount } from "../../base/shape.ts";
import { lastOf, rowsOf } from "../check-operands.ts";
import { HostAllocator, type HostBlock, noMemory } from "../host/allocator.ts";
import type { LinearWeight, Operand } from "../kernels.ts";
import type { MemoryModel } from "../memory-model.ts";
import { isFast } from "./context.ts";
import { SMALLEST_PACKED } from "./products.ts";
import { SHORTEST_TABLE_SPAN, WIDENED, wideRows } from "./quantized-weight.ts";

/** The widened rows of a weight that oneDNN does not multiply as it is. */
function wideBytes(x: Operand, { dtype, shape, packed, scale, blocks }: LinearWeight): number {
  const compute = x.dtype === "bf16" ? "bf16" : "f32";
  if (packed || isFast(dtype)) return 0;
  const elements = wideRows(shape, compute) * shape[1];
  if (blocks)
    return elements * bytesOf(compute) + (compute === "f32" ? 0 : Math.min(WIDENED, elements) * bytesOf("f32"));
  // With few elements to a scale, the values pass through float32 (dequantize).
  const span = (shape[0] * shape[1]) / (scale ? elementCount(scale.shape) : 1);
  return elements * (bytesOf(compute) + (scale && span < SHORTEST_TABLE_SPAN ? bytesOf("f32") : 0));
}

export const cpuMemoryModel: MemoryModel = {
  keeping() {
    const allocator = new HostAllocator(noMemory);
    return {
      take: (bytes, category) => allocator.alloc(bytes, category),
      give: (taken) => allocator.free(taken as HostBlock),
      recategorize: (taken, category) => allocator.recategorize(taken as HostBlock, category),
      trim: () => allocator.trim(),
      get bytes() {
        return allocator.held().bytes;
      },
    };
  },
  // Blocked layouts pad to whole blocks, which the published widths are multiples of.
  packedBytes: ({ dtype, shape }) =>
    isFast(dtype) && elementCount(shape) >= SMALLEST_PACKED ? elementCount(shape) * bytesOf(dtype) : undefined,
  workspace: {
    linear: (x, weight) => wideBytes(x, weight),
    linearBackwardData(dy, weight, dx) {
      const bytes = wideBytes(dy, weight);
      // The sum over blocks is kept in float32.
      return bytes === 0 || dx.dtype === "f32" ? bytes : bytes + rowsOf(dx) * lastOf(dx) * bytesOf("f32");
    },
  },
};
