// Typed views of operands whose blocks lie in host memory. No copies and no conversions.
import { bytesOf, type DType } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { typedArray } from "../../base/float-formats.ts";
import { elementCount } from "../../base/shape.ts";
import type { Address } from "../../ffi/host-memory.ts";
import type { Block } from "../device.ts";
import type { Operand } from "../kernels.ts";
import { HostBlock } from "./allocator.ts";

export type HostView = ReturnType<typeof typedArray>;

/** A block as its memory. Throws `kernel.no-host-memory` for a block of a device without it. */
export function hostBlock(block: Block): HostBlock {
  if (block instanceof HostBlock) return block;
  throw new KinoraError("kernel.no-host-memory", "a block of a device without host memory was given to one with it");
}

/** The number of elements, which must lie in the block. */
function countWithin({ block, offset, dtype, shape }: Operand): number {
  const count = elementCount(shape);
  const end = offset + count * bytesOf(dtype);
  if (offset < 0 || end > block.size) {
    throw new KinoraError("kernel.out-of-block", "an operand reaches beyond its block", {
      expected: `at most ${block.size} bytes`,
      actual: `${offset} to ${end}`,
    });
  }
  return count;
}

/** An operand's elements, narrow floats as their bit patterns. */
export function view(operand: Operand): HostView {
  const bytes = hostBlock(operand.block).bytes;
  return typedArray(operand.dtype, bytes.buffer, bytes.byteOffset + operand.offset, countWithin(operand));
}

function viewAs(operand: Operand, dtype: DType): HostView {
  if (operand.dtype !== dtype) {
    throw new KinoraError("kernel.dtype", "an operand has the wrong dtype", { expected: dtype, actual: operand.dtype });
  }
  return view(operand);
}

export const f32View = (operand: Operand): Float32Array => viewAs(operand, "f32") as Float32Array;
export const i32View = (operand: Operand): Int32Array => viewAs(operand, "i32") as Int32Array;
export const u8View = (operand: Operand): Uint8Array => viewAs(operand, "u8") as Uint8Array;
export const i8View = (operand: Operand): Int8Array => viewAs(operand, "i8") as Int8Array;
/** Bit patterns of bf16 or f16. */
export const u16View = (operand: Operand): Uint16Array => {
  const elements = view(operand);
  if (elements instanceof Uint16Array) return elements;
  throw new KinoraError("kernel.dtype", "an operand has the wrong dtype", {
    expected: "bf16 or f16",
    actual: operand.dtype,
  });
};

/** Where an operand's first element lies, for a foreign function. */
export function operandAddress(operand: Operand): Address {
  countWithin(operand);
  return (hostBlock(operand.block).address + operand.offset) as Address;
}
