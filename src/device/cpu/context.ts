// What the cpu device's kernels share: oneDNN, scratch memory that is counted and given back, operands as oneDNN sees them.
import { bytesOf, type DType } from "../../base/dtype.ts";
import { elementCount, rowMajorStrides } from "../../base/shape.ts";
import type { OneDnn, Primitive } from "../../ffi/onednn.ts";
import type { OneDnnType, TensorDescription, TensorName } from "../../ffi/onednn-operations.ts";
import type { HostAllocator, HostBlock } from "../host/allocator.ts";
import type { Operand } from "../kernels.ts";

/** An operand in scratch memory, given back at the end of its `using` block. */
export class Temporary implements Operand, Disposable {
  readonly block: HostBlock;
  readonly offset = 0;
  readonly dtype: DType;
  readonly shape: readonly number[];

  constructor(block: HostBlock, dtype: DType, shape: readonly number[]) {
    this.block = block;
    this.dtype = dtype;
    this.shape = shape;
  }

  [Symbol.dispose](): void {
    this.block.owner.free(this.block);
  }
}

export class CpuContext {
  readonly dnn: OneDnn;
  readonly memory: HostAllocator;

  constructor(dnn: OneDnn, memory: HostAllocator) {
    this.dnn = dnn;
    this.memory = memory;
  }

  temporary(dtype: DType, shape: readonly number[]): Temporary {
    return new Temporary(this.memory.alloc(elementCount(shape) * bytesOf(dtype), "workspace"), dtype, shape);
  }

  /** Runs a primitive with its scratchpad in workspace memory. */
  run(primitive: Primitive, tensors: Partial<Record<TensorName, number>>, post?: readonly number[]): void {
    if (primitive.scratchpadBytes === 0) {
      primitive.execute(tensors, post);
      return;
    }
    const scratch = this.memory.alloc(primitive.scratchpadBytes, "workspace");
    try {
      primitive.execute(tensors, post, scratch.address);
    } finally {
      this.memory.free(scratch);
    }
  }
}

export { operandAddress as addressOf } from "../host/host-views.ts";

export function tensor(dtype: OneDnnType, dims: readonly number[], strides = rowMajorStrides(dims)): TensorDescription {
  return { dtype, dims, strides };
}

/**
 * The strides of a matrix [rows, columns] that is stored turned, [columns, rows]. A single row or column lies the same
 * either way; it is described as not turned, since oneDNN 3.6 mistakes the other description.
 */
export const turnedStrides = (rows: number, columns: number): number[] =>
  rows > 1 && columns > 1 ? [1, rows] : [columns, 1];

/** An operand's elements from `start` on, seen as `shape`. */
export function slice(operand: Operand, start: number, shape: readonly number[]): Operand {
  const { block, offset, dtype } = operand;
  return { block, offset: offset + start * bytesOf(dtype), dtype, shape };
}

/** The formats that oneDNN computes in on every CPU. */
export const isFast = (dtype: DType): dtype is "f32" | "bf16" => dtype === "f32" || dtype === "bf16";
