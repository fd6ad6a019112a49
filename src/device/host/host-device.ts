// All of a device but its name and its kernels, for devices whose memory is the host's and whose work ends when it returns.
import type { DType } from "../../base/dtype.ts";
import { KinoraError } from "../../base/errors.ts";
import { checkedKernels } from "../check-operands.ts";
import type { Block, Device } from "../device.ts";
import type { Kernels } from "../kernels.ts";
import { hostMemory } from "../machine.ts";
import { synchronousWork } from "../synchronous.ts";
import { HostAllocator } from "./allocator.ts";
import { hostBlock } from "./host-views.ts";

/** Bytes `[offset, offset + length)` of a block in host memory. Throws `memory.out-of-range`. */
function range(block: Block, offset: number, length: number): Uint8Array {
  const { bytes, size } = hostBlock(block);
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new KinoraError("memory.out-of-range", "a range of bytes reaches beyond its block", {
      expected: `0 to ${size}`,
      actual: `${offset} to ${offset + length}`,
    });
  }
  return bytes.subarray(offset, offset + length);
}

export interface HostDeviceParts {
  name: string;
  productTypes: readonly DType[];
  /** Gets checked operands (check-operands.ts), and may keep the allocator for workspaces and packed weights. */
  kernels: (memory: HostAllocator) => Kernels;
  /** Frees what the kernels hold, before the memory goes. */
  dispose?: () => void;
}

export function createHostDevice({ name, productTypes, kernels, dispose }: HostDeviceParts): Device {
  const allocator = new HostAllocator();
  let open = true;
  return {
    name,
    computes: true,
    productTypes,
    takesBlocks: true,
    kernels: checkedKernels(kernels(allocator)),
    alloc: (bytes, category) => allocator.alloc(bytes, category),
    free: (block) => allocator.free(block),
    recategorize: (block, category) => allocator.recategorize(block, category),
    mapHost: (address, bytes) => allocator.wrap(address, bytes),
    ...synchronousWork((target, offset, source) => range(target, offset, source.byteLength).set(source)),
    download: async (source, offset, bytes) => range(source, offset, bytes).slice(),
    copy: (source, sourceOffset, target, targetOffset, bytes) =>
      range(target, targetOffset, bytes).set(range(source, sourceOffset, bytes)),
    trim: () => allocator.trim(),
    memory: () => allocator.memory(),
    resetPeak: () => allocator.resetPeak(),
    capacity() {
      const { total, available } = hostMemory();
      return { total, free: available };
    },
    [Symbol.dispose]() {
      if (!open) return;
      open = false;
      dispose?.();
      allocator.dispose();
    },
  };
}
