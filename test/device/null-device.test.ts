import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.ts";
import { bytesOf } from "../../src/base/dtype.ts";
import { elementCount } from "../../src/base/shape.ts";
import type { Block } from "../../src/device/device.ts";
import { devices } from "../../src/device/devices.ts";
import { HostAllocator, type HostBlock } from "../../src/device/host/allocator.ts";
import { hostBlock } from "../../src/device/host/host-views.ts";
import { createNullDevice, type NullDevice } from "../../src/device/null/null-device.ts";
import type { Address } from "../../src/ffi/host-memory.ts";
import { codeOf } from "./support.ts";

describe("null device", () => {
  let device: NullDevice;
  beforeEach(() => {
    device = createNullDevice();
  });
  afterEach(() => device[Symbol.dispose]());

  const tensor = (shape: readonly number[], dtype: DType = "f32", on = device) => ({
    block: on.alloc(elementCount(shape) * bytesOf(dtype), "activations"),
    offset: 0,
    dtype,
    shape,
  });
  const flopsOf = (run: () => void) => {
    device.counters.reset();
    run();
    return device.counters.total.flops;
  };

  test("products cost 2·M·N·K", () => {
    const [x, w, y] = [tensor([7, 10], "bf16"), tensor([20, 10], "bf16"), tensor([7, 20], "bf16")];
    const weight = { dtype: "bf16", shape: [20, 10], plain: w } as const;
    expect(flopsOf(() => device.kernels.linear(x, weight, y))).toBe(2 * 7 * 20 * 10);
    expect(device.counters.total.bytes).toBe(2 * (70 + 200 + 140));
    expect(flopsOf(() => device.kernels.linearBackwardData(y, weight, x))).toBe(2 * 7 * 20 * 10);
    const [a, b, c] = [tensor([3, 10, 7]), tensor([3, 10, 20]), tensor([3, 7, 20])];
    expect(flopsOf(() => device.kernels.matmul(a, b, c, { transposeA: true }))).toBe(3 * 2 * 7 * 20 * 10);
    expect(device.counters.byKernel.get("matmul")).toMatchObject({ calls: 1, elementwiseOps: 0 });
  });

  test("attention costs 4·B·H·Lq·Lk·D, its gradients 2.5 times that, and masked keys nothing", () => {
    const [q, k, out] = [tensor([2, 5, 3, 8]), tensor([2, 7, 3, 8]), tensor([2, 5, 3, 8])];
    const forward = 4 * 2 * 3 * 5 * 7 * 8;
    expect(flopsOf(() => device.kernels.attention(q, k, k, out, { scale: 1 }))).toBe(forward);
    expect(flopsOf(() => device.kernels.attention(q, k, k, out, { scale: 1, keyLengths: [7, 0] }))).toBe(forward / 2);
    const given = { q, k, v: k, out, logSumExp: tensor([2, 3, 5]), dout: out };
    const all = { dq: q, dk: k, dv: k };
    expect(flopsOf(() => device.kernels.attentionBackward(given, { scale: 1 }, all))).toBe(2.5 * forward);
    // Scores, dP and dQ.
    expect(flopsOf(() => device.kernels.attentionBackward(given, { scale: 1 }, { dq: q }))).toBe(1.5 * forward);
  });

  test("convolutions cost 2·out·Ci·kernel each way", () => {
    const [x, w, y] = [tensor([1, 4, 8, 8, 3]), tensor([5, 3, 3, 3, 3]), tensor([1, 4, 8, 8, 5])];
    const options = {
      stride: [1, 1, 1],
      padding: [
        [2, 0],
        [1, 1],
        [1, 1],
      ],
    } as const;
    const expected = 2 * (4 * 8 * 8 * 5) * 3 * 27;
    expect(flopsOf(() => device.kernels.conv3d(x, w, undefined, y, options))).toBe(expected);
    expect(flopsOf(() => device.kernels.conv3dBackwardData(y, w, x, options))).toBe(expected);
    expect(flopsOf(() => device.kernels.conv3dBackwardWeights(x, y, w, undefined, options))).toBe(expected);
  });

  test("elementwise kernels count elements, and a window only its own bytes", () => {
    const [x, y] = [tensor([100, 10]), tensor([100, 10])];
    expect(flopsOf(() => device.kernels.activation("silu", x, y))).toBe(0);
    expect(device.counters.total).toEqual({ calls: 1, flops: 0, elementwiseOps: 1000, bytes: 8000 });
    device.counters.reset();
    const window = (operand: typeof x) => ({ operand, offset: 0, strides: [10, 1] });
    device.kernels.stridedCopy(window(x), window(y), [5, 2]);
    expect(device.counters.total).toEqual({ calls: 1, flops: 0, elementwiseOps: 10, bytes: 80 });
  });

  test("allocates nothing: a petabyte is counted, by category, live and peak", () => {
    const block = device.alloc(2 ** 50, "weights");
    expect(codeOf(() => hostBlock(block))).toBe("kernel.no-host-memory");
    const other = device.alloc(100, "workspace");
    device.free(other);
    expect(device.memory()).toMatchObject({ live: 2 ** 50, peak: 2 ** 50 + 100 });
    expect(device.memory().byCategory.workspace).toEqual({ live: 0, peak: 100 });
    device.resetPeak();
    expect(device.memory().peak).toBe(2 ** 50);
    device.free(block);
    expect(device.memory().live).toBe(0);
  });

  test("reads back zeros and maps host memory without counting it", async () => {
    const block = device.alloc(16, "activations");
    device.upload(block, 0, new Uint8Array(16).fill(7));
    expect(await device.download(block, 4, 8)).toEqual(new Uint8Array(8));
    const mapped = device.mapHost(4096 as Address, 1000)!;
    expect(mapped.size).toBe(1000);
    expect(device.memory().live).toBe(16);
    device.free(mapped);
    device.free(block);
  });

  test("counts mapped memory as resident from its first use on, but not a table that is only looked up", () => {
    const own = createNullDevice();
    const mapped = (shape: number[]) => {
      const block = own.mapHost(4096 as Address, 4 * elementCount(shape))!;
      return { block, offset: 0, dtype: "f32" as const, shape };
    };
    const [weight, table] = [mapped([10, 10]), mapped([1000, 10])];
    const [x, y] = [tensor([5, 10], "f32", own), tensor([5, 10], "f32", own)];
    const ids = { ...tensor([5], "f32", own), dtype: "i32" as const };
    own.kernels.embedding(table, ids, x);
    expect(own.resident().live).toBe(own.memory().live);
    own.kernels.linear(x, { dtype: "f32", shape: [10, 10], plain: weight }, y);
    own.kernels.linear(x, { dtype: "f32", shape: [10, 10], plain: weight }, y);
    expect(own.resident().live).toBe(own.memory().live + 400);
    own.free(weight.block);
    own.free(table.block);
    expect(own.resident()).toEqual({ live: own.memory().live, peak: own.memory().live + 400 });
    own.resetPeak();
    expect(own.resident().peak).toBe(own.memory().live);
  });

  test("holds to the byte what the cpu device's allocator would, freed memory that it keeps included", () => {
    const categories = ["weights", "activations", "gradients", "workspace"] as const;
    const request = fc.record({ bytes: fc.nat(4 << 20), category: fc.constantFrom(...categories), frees: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 40 }), fc.boolean(), (requests, trims) => {
        const [real, planned] = [new HostAllocator(), createNullDevice(devices.cpu.memoryModel)];
        const blocks: { real: HostBlock; planned: Block }[] = [];
        let peak = 0;
        for (const { bytes, category, frees } of requests) {
          blocks.push({ real: real.alloc(bytes, category), planned: planned.alloc(bytes, category) });
          peak = Math.max(peak, real.held().bytes);
          const gone = frees < 3 ? blocks.splice(frees % blocks.length, 1)[0] : undefined;
          if (gone) {
            real.free(gone.real);
            planned.free(gone.planned);
          }
        }
        if (trims) for (const each of [real, planned]) each.trim();
        expect(planned.resident()).toEqual({ live: real.held().bytes, peak });
        real.dispose();
      }),
      { numRuns: 30 },
    );
  });

  test("maps no file for a device that copies its weights", () => {
    expect(createNullDevice({ mapsHost: false }).mapHost(4096 as Address, 1000)).toBeUndefined();
  });

  test("a device model adds what another device would hold", () => {
    const modelled = createNullDevice({
      workspace: { matmul: (a) => 2 * elementCount(a.shape) },
      packedBytes: (plain) => elementCount(plain.shape) * 4 + 64,
    });
    const make = (shape: readonly number[]) => tensor(shape, "f32", modelled);
    const [a, b, c] = [make([4, 5]), make([5, 6]), make([4, 6])];
    const before = modelled.memory().live;
    modelled.kernels.matmul(a, b, c);
    expect(modelled.memory()).toMatchObject({ live: before, peak: before + 40 });
    const packed = modelled.kernels.packWeight(b)!;
    expect(packed.block.size).toBe(30 * 4 + 64);
    const weight = { dtype: "f32", shape: [5, 6], packed } as const;
    modelled.kernels.linear(make([4, 6]), weight, make([4, 5]));
    expect(modelled.counters.byKernel.get("linear")?.flops).toBe(2 * 4 * 5 * 6);
    modelled.free(packed.block);
  });
});
