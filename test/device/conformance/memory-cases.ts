// What every device does with its memory: copies in order with kernels, a stream beside them, and the same errors.
import { expect } from "vitest";
import { codeOf } from "../support.ts";
import type { Case } from "./bench.ts";

export const memoryCases: readonly Case[] = [
  {
    name: "uploads, copies and downloads are in order with kernels, and a download is a copy",
    async run({ device, kernels, computes }) {
      const [a, b] = [device.alloc(16, "activations"), device.alloc(16, "activations")];
      const source = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);
      device.upload(a, 0, source);
      source.fill(0);
      device.copy(a, 4, b, 8, 8);
      const tail = { block: b, offset: 8, dtype: "f32" as const, shape: [2] };
      kernels.affine(tail, 10, undefined, 0, tail);
      const read = await device.download(b, 8, 8);
      device.upload(b, 8, new Uint8Array(8));
      expect(read.length).toBe(8);
      if (computes) expect([...new Float32Array(read.slice().buffer)]).toEqual([20, 30]);
      await device.synchronize();
      device.free(a);
      device.free(b);
    },
  },
  {
    name: "copies within a block as if through another, even where the ranges overlap",
    async run({ device, computes }) {
      const block = device.alloc(24, "activations");
      device.upload(
        block,
        0,
        Uint8Array.from({ length: 24 }, (_, i) => i),
      );
      device.copy(block, 0, block, 8, 16);
      const bytes = await device.download(block, 0, 24);
      if (computes) expect([...bytes.subarray(8)]).toEqual(Array.from({ length: 16 }, (_, i) => i));
      device.free(block);
    },
  },
  {
    name: "a stream's copies are there for kernels that waited, and wait for kernels that read what they overwrite",
    async run({ device, kernels, computes }) {
      using stream = device.createStream();
      const length = 4096;
      const weight = { block: device.alloc(4 * length, "weights"), offset: 0, dtype: "f32" as const, shape: [length] };
      const sums = { block: device.alloc(16, "activations"), offset: 0, dtype: "f32" as const, shape: [4, 1] };
      const row = (index: number) => ({ ...sums, offset: 4 * index, shape: [1] });
      // Sources stay as they are until the end.
      const sources = [1, 2, 3, 4].map((value) => new Uint8Array(new Float32Array(length).fill(value).buffer));
      for (const [index, source] of sources.entries()) {
        stream.wait(device.event());
        stream.upload(weight.block, 0, source);
        device.wait(stream.event());
        kernels.sum(weight, [0], row(index));
      }
      await device.event().passed();
      await device.synchronize();
      const bytes = await device.download(sums.block, 0, 16);
      if (computes) expect([...new Float32Array(bytes.slice().buffer)]).toEqual([1, 2, 3, 4].map((n) => n * length));
      device.free(weight.block);
      device.free(sums.block);
    },
  },
  {
    name: "memory is counted by what it is for",
    async run({ device }) {
      const before = device.memory();
      device.resetPeak();
      const block = device.alloc(1000, "activations");
      device.recategorize(block, "gradients");
      device.free(device.alloc(500, "workspace"));
      const { live, peak, byCategory } = device.memory();
      expect([live - before.live, peak - before.live]).toEqual([1000, 1500]);
      expect(byCategory.gradients.live - before.byCategory.gradients.live).toBe(1000);
      expect(byCategory.activations.live).toBe(before.byCategory.activations.live);
      device.free(block);
      const { total, free } = device.capacity();
      expect(free).toBeGreaterThan(0);
      expect(total).toBeGreaterThanOrEqual(free);
    },
  },
  {
    name: "what cannot be is a coded error",
    async run({ device }) {
      const block = device.alloc(8, "activations");
      using stream = device.createStream();
      expect(codeOf(() => device.upload(block, 1, new Uint8Array(8)))).toBe("memory.out-of-range");
      expect(codeOf(() => stream.upload(block, 1, new Uint8Array(8)))).toBe("memory.out-of-range");
      expect(codeOf(() => device.copy(block, -1, block, 0, 2))).toBe("memory.out-of-range");
      await expect(device.download(block, 0, 9)).rejects.toMatchObject({ code: "memory.out-of-range" });
      expect(codeOf(() => device.alloc(-1, "weights"))).toBe("memory.bad-size");
      expect(codeOf(() => device.free({ size: 8, category: "activations" }))).toBe("memory.foreign-block");
      device.free(block);
      expect(codeOf(() => device.free(block))).toBe("memory.double-free");
      expect(codeOf(() => device.upload(block, 0, new Uint8Array(8)))).toBe("memory.freed");
      const freed = { block, offset: 0, dtype: "f32" as const, shape: [2] };
      expect(codeOf(() => device.kernels.fill(freed, 0))).toBe("memory.freed");
      await expect(device.download(block, 0, 1)).rejects.toMatchObject({ code: "memory.freed" });
    },
  },
];
