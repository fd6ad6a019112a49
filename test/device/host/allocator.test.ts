import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { MemoryCategory } from "../../../src/device/device.ts";
import { HostAllocator, type HostBlock } from "../../../src/device/host/allocator.ts";
import type { Address } from "../../../src/ffi/host-memory.ts";
import { codeOf } from "../support.ts";

const MiB = 2 ** 20;

describe("host allocator", () => {
  test("counts exactly what was asked for, by category, and the peak", () => {
    const memory = new HostAllocator();
    const weights = memory.alloc(1_000_001, "weights");
    const small = memory.alloc(3, "activations");
    memory.free(memory.alloc(70_000, "activations"));
    memory.free(memory.alloc(0, "workspace"));
    expect(memory.memory()).toEqual({
      live: 1_000_004,
      peak: 1_070_004,
      byCategory: {
        weights: { live: 1_000_001, peak: 1_000_001 },
        gradients: { live: 0, peak: 0 },
        optimizer: { live: 0, peak: 0 },
        activations: { live: 3, peak: 70_003 },
        workspace: { live: 0, peak: 0 },
      },
    });
    memory.resetPeak();
    expect(memory.memory().peak).toBe(1_000_004);
    memory.free(weights);
    memory.free(small);
    expect(memory.memory().live).toBe(0);
    memory.dispose();
  });

  test("blocks are aligned, apart from each other, and hold what was written, whatever the order of frees", () => {
    const size = fc.oneof(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 3 * MiB }));
    const step = fc.record({ free: fc.boolean(), size, pick: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const memory = new HostAllocator();
        const live: { block: HostBlock; mark: number }[] = [];
        let mark = 0;
        for (const { free, size, pick } of steps) {
          if (free && live.length > 0) {
            const [item] = live.splice(pick % live.length, 1);
            expect(item!.block.bytes.every((byte) => byte === item!.mark)).toBe(true);
            memory.free(item!.block);
          } else {
            const block = memory.alloc(size, "activations");
            expect(block.address % 64).toBe(0);
            mark = (mark + 1) % 256;
            block.bytes.fill(mark);
            live.push({ block, mark });
          }
          expect(memory.memory().live).toBe(live.reduce((sum, { block }) => sum + block.size, 0));
        }
        for (const { block, mark } of live) {
          expect(block.bytes.every((byte) => byte === mark)).toBe(true);
          memory.free(block);
        }
        expect(memory.memory().live).toBe(0);
        memory.dispose();
      }),
      { numRuns: 40 },
    );
  });

  test("freed memory is used again", () => {
    const memory = new HostAllocator();
    for (const bytes of [100, 16_384, 16_385, 5 * MiB]) {
      const first = memory.alloc(bytes, "activations");
      const address = first.address;
      memory.free(first);
      const second = memory.alloc(bytes, "activations");
      expect(second.address).toBe(address);
      memory.free(second);
    }
    memory.dispose();
  });

  test("a repeated working set stays warm; a smaller one lets go down to the floor", () => {
    const memory = new HostAllocator();
    const addresses = new Set<Address>();
    for (let step = 0; step < 5; step++) {
      const blocks = Array.from({ length: 8 }, () => memory.alloc(64 * MiB, "activations"));
      for (const block of blocks) addresses.add(block.address);
      for (const block of blocks) memory.free(block);
    }
    expect(addresses.size).toBe(8);
    expect(memory.held()).toEqual({ bytes: 512 * MiB, idle: 512 * MiB });
    for (let request = 0; request < 2 * 4096; request++) memory.free(memory.alloc(MiB, "activations"));
    expect(memory.held().idle).toBeLessThanOrEqual((256 + 1) * MiB);
    memory.dispose();
  });

  test("idle memory of other sizes never adds up beyond the recent peak and the floor", () => {
    const memory = new HostAllocator();
    let peak = 0;
    for (let size = 20; size < 120; size++) {
      const block = memory.alloc(size * 5 * MiB, "workspace");
      peak = Math.max(peak, memory.memory().live * 1.125);
      expect(memory.held().bytes).toBeLessThanOrEqual(peak + 256 * MiB);
      memory.free(block);
    }
    memory.trim();
    expect(memory.held()).toEqual({ bytes: 0, idle: 0 });
    memory.dispose();
  });

  test("after a trim the peak before it keeps nothing any more", () => {
    const memory = new HostAllocator();
    const work = (count: number, size: number) => {
      const blocks = Array.from({ length: count }, () => memory.alloc(size * MiB, "activations"));
      for (const block of blocks) memory.free(block);
    };
    work(16, 64);
    memory.trim();
    for (let size = 32; size < 64; size++) work(1, size);
    expect(memory.held().idle).toBeLessThanOrEqual((256 + 64) * MiB);
    memory.dispose();
  });

  test("weights go back to the system at once", () => {
    const memory = new HostAllocator();
    memory.free(memory.alloc(100 * MiB, "weights"));
    expect(memory.held()).toEqual({ bytes: 0, idle: 0 });
    memory.dispose();
  });

  test("a long mixed life does not grow the process", () => {
    const memory = new HostAllocator();
    const residentMiB = () => process.memoryUsage.rss() / MiB;
    const life = (rounds: number) => {
      for (let round = 0; round < rounds; round++) {
        const blocks = Array.from({ length: 30 }, (_, i) =>
          memory.alloc(1 + ((round * 7919 + i * 104_729) % (MiB / 2)), (["activations", "gradients"] as const)[i % 2]!),
        );
        for (const block of blocks) {
          block.bytes.fill(1);
          memory.free(block);
        }
      }
    };
    life(200);
    const before = residentMiB();
    life(2000);
    expect(residentMiB() - before).toBeLessThan(64);
    memory.dispose();
  }, 60_000);

  test("misuse is a coded error", () => {
    const memory = new HostAllocator();
    const other = new HostAllocator();
    for (const bytes of [10, 100_000]) {
      const block = memory.alloc(bytes, "activations");
      expect(codeOf(() => other.free(block))).toBe("memory.foreign-block");
      memory.free(block);
      expect(codeOf(() => memory.free(block))).toBe("memory.double-free");
      expect(codeOf(() => block.bytes)).toBe("memory.freed");
      expect(codeOf(() => block.address)).toBe("memory.freed");
    }
    expect(codeOf(() => memory.free({ size: 1, category: "weights" }))).toBe("memory.foreign-block");
    expect(codeOf(() => memory.alloc(-1, "weights"))).toBe("memory.bad-size");
    expect(codeOf(() => memory.alloc(1.5, "weights"))).toBe("memory.bad-size");
    expect(codeOf(() => memory.alloc(2 ** 50, "weights"))).toBe("memory.exhausted");
    const survivor = memory.alloc(100_000, "activations");
    expect(survivor.bytes.length).toBe(100_000);
    memory.dispose();
    other.dispose();
    expect(codeOf(() => survivor.bytes)).toBe("memory.freed");
    expect(codeOf(() => memory.alloc(1, "weights" satisfies MemoryCategory))).toBe("device.disposed");
  });

  test("a wrapped block is someone else's memory and is not counted", () => {
    const memory = new HostAllocator();
    const owner = memory.alloc(64, "weights");
    owner.bytes.set([1, 2, 3]);
    const window = memory.wrap((owner.address + 1) as Address, 2);
    expect([...window.bytes]).toEqual([2, 3]);
    expect(memory.memory().live).toBe(64);
    memory.free(window);
    expect(codeOf(() => window.bytes)).toBe("memory.freed");
    expect([...owner.bytes.subarray(0, 3)]).toEqual([1, 2, 3]);
    memory.free(owner);
    memory.dispose();
  });
});
