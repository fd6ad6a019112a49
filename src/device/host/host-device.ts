// All of a device but its name and its kernels, for devices whose memory is the host's and whose work ends when it returns.
import { KinoraError } from "../../base/errors.ts";
import { HostAllocator } from "../allocator.ts";
import { checkedKernels } from "../check-operands.ts";
import type { Block, Device, DeviceName } from "../device.ts";
import type { Kernels } from "../kernels.ts";

/** Bytes `[offset, offset + length)` of a block in host memory. Throws `memory.out-of-range`. */
function range(block: Block, offset: number, length: number): Uint8Array {
  if (block.bytes === undefined) {
    throw new KinoraError("memory.foreign-block", "a block of a device without host memory was given to one with it");
  }
  if (offset < 0 || length < 0 || offset + length > block.size) {
    throw new KinoraError("memory.out-of-range", "a range of bytes reaches beyond its block", {
      expected: `0 to ${block.size}`,
      actual: `${offset} to ${offset + length}`,
    });
  }
  return block.bytes.subarray(offset, offset + length);
}

/**
 * A device over host memory. `build` makes the kernels, which get checked operands (check-operands.ts) and may keep the
 * allocator for workspaces and packed weights;
 * `dispose` frees what the kernels hold, before the memory goes.
 */
export function createHostDevice(
  name: DeviceName,
  build: (memory: HostAllocator) => Kernels,
  dispose: () => void = () => {},
): Device {
  const allocator = new HostAllocator();
  let open = true;
  return {
    name,
    kernels: checkedKernels(build(allocator)),
    alloc: (bytes, category) => allocator.alloc(bytes, category),
    free: (block) => allocator.free(block),
    recategorize: (block, category) => allocator.recategorize(block, category),
    mapHost: (address, bytes) => allocator.wrap(address, bytes),
    upload: (target, offset, source) => range(target, offset, source.byteLength).set(source),
    download: async (source, offset, bytes) => range(source, offset, bytes).slice(),
    copy: (source, sourceOffset, target, targetOffset, bytes) =>
      range(target, targetOffset, bytes).set(range(source, sourceOffset, bytes)),
    synchronize: async () => {},
    trim: () => allocator.trim(),
    memory: () => allocator.memory(),
    resetPeak: () => allocator.resetPeak(),
    [Symbol.dispose]() {
      if (!open) return;
      open = false;
      dispose();
      allocator.dispose();
    },
  };
}
