import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bytesOf, type DType } from "../../src/base/dtype.ts";
import { elementCount } from "../../src/base/shape.ts";
import type { Device } from "../../src/device/device.ts";
import { f32View, i32View, operandAddress, u16View, view } from "../../src/device/host/host-views.ts";
import type { Operand } from "../../src/device/kernels.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { createReferenceDevice } from "../../src/device/reference/reference-device.ts";
import { type Address, FileMap } from "../../src/ffi/host-memory.ts";
import { codeOf } from "./support.ts";

let device: Device;
beforeEach(() => {
  device = createReferenceDevice();
});
afterEach(() => device[Symbol.dispose]());

const tensor = (shape: readonly number[], dtype: DType = "f32"): Operand => ({
  block: device.alloc(elementCount(shape) * bytesOf(dtype), "activations"),
  offset: 0,
  dtype,
  shape,
});

describe("host device", () => {
  test("uploads, copies and downloads; a download is a copy", async () => {
    const [a, b] = [device.alloc(8, "activations"), device.alloc(8, "activations")];
    device.upload(a, 0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    device.copy(a, 2, b, 4, 4);
    const read = await device.download(b, 4, 4);
    device.upload(b, 4, new Uint8Array(4));
    expect([...read]).toEqual([3, 4, 5, 6]);
    await device.synchronize();
  });

  test("copies within a block even where the ranges overlap", async () => {
    const block = device.alloc(6, "activations");
    device.upload(block, 0, Uint8Array.of(1, 2, 3, 4, 5, 6));
    device.copy(block, 0, block, 2, 4);
    expect([...(await device.download(block, 0, 6))]).toEqual([1, 2, 1, 2, 3, 4]);
  });

  test("ranges are checked", async () => {
    const block = device.alloc(8, "activations");
    expect(codeOf(() => device.upload(block, 1, new Uint8Array(8)))).toBe("memory.out-of-range");
    expect(codeOf(() => device.copy(block, -1, block, 0, 2))).toBe("memory.out-of-range");
    await expect(device.download(block, 0, 9)).rejects.toMatchObject({ code: "memory.out-of-range" });
    device.free(block);
    await expect(device.download(block, 0, 1)).rejects.toMatchObject({ code: "memory.freed" });
  });

  test("a file map is a block, not counted, at any alignment", () => {
    const folder = mkdtempSync(join(tmpdir(), "kinora-"));
    try {
      const path = join(folder, "data");
      const values = Float32Array.of(1, 2, 3);
      writeFileSync(path, Buffer.concat([Buffer.from([9]), Buffer.from(values.buffer)]));
      using map = new FileMap(path);
      const block = device.mapHost((map.address + 1) as Address, 12)!;
      const out = tensor([3]);
      device.kernels.affine({ block, offset: 0, dtype: "f32", shape: [3] }, 2, undefined, 0, out);
      expect([...f32View(out)]).toEqual([2, 4, 6]);
      expect(device.memory().live).toBe(12);
      device.free(block);
      expect(device.memory().live).toBe(12);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("a disposed device gives no more memory", () => {
    const other = createReferenceDevice();
    other[Symbol.dispose]();
    other[Symbol.dispose]();
    expect(codeOf(() => other.alloc(1, "weights"))).toBe("device.disposed");
  });
});

describe("views of operands", () => {
  test("are windows on the block", () => {
    const block = device.alloc(16, "activations");
    const whole: Operand = { block, offset: 0, dtype: "f32", shape: [4] };
    f32View(whole).set([1, 2, 3, 4]);
    expect([...f32View({ ...whole, offset: 8, shape: [1, 2] })]).toEqual([3, 4]);
    expect([...u16View({ ...whole, dtype: "bf16", shape: [2] })]).toEqual([0, 0x3f80]);
    expect(view({ ...whole, dtype: "i64", shape: [2] })).toBeInstanceOf(BigInt64Array);
    expect(operandAddress({ ...whole, offset: 8, shape: [2] })).toBe(block.address! + 8);
  });

  test("wrong dtypes, ranges and devices are coded errors", () => {
    const block = device.alloc(16, "activations");
    const operand: Operand = { block, offset: 0, dtype: "bf16", shape: [4] };
    expect(codeOf(() => f32View(operand))).toBe("kernel.dtype");
    expect(codeOf(() => i32View(operand))).toBe("kernel.dtype");
    expect(codeOf(() => u16View({ ...operand, dtype: "f32" }))).toBe("kernel.dtype");
    expect(codeOf(() => view({ ...operand, shape: [9] }))).toBe("kernel.out-of-block");
    expect(codeOf(() => view({ ...operand, offset: -2 }))).toBe("kernel.out-of-block");
    const elsewhere = createNullDevice().alloc(16, "activations");
    expect(codeOf(() => view({ ...operand, block: elsewhere }))).toBe("kernel.no-host-memory");
    device.free(block);
    expect(codeOf(() => view(operand))).toBe("memory.freed");
  });
});

describe("opening a device", () => {
  test("by name gives that device", () => {
    for (const name of ["reference", "null"] as const) {
      const { device, note } = openDevice(name);
      expect([device.name, note]).toEqual([name, undefined]);
      device[Symbol.dispose]();
    }
  });

  test("auto gives the cpu device, or the reference and the reason", () => {
    const { device, note } = openDevice("auto");
    if (device.name === "cpu") expect(note).toBeUndefined();
    else {
      expect(device.name).toBe("reference");
      expect(note).toMatch(/^no cpu device: /);
      expect(codeOf(() => openDevice("cpu"))).not.toBe("no error");
    }
    device[Symbol.dispose]();
  });
});
