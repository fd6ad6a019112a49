import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bytesOf, type DType } from "../../../src/base/dtype.ts";
import { KinoraError } from "../../../src/base/errors.ts";
import { elementCount } from "../../../src/base/shape.ts";
import type { DeviceDescriptor } from "../../../src/device/descriptor.ts";
import type { Device } from "../../../src/device/device.ts";
import { devices } from "../../../src/device/devices.ts";
import { f32View, hostBlock, i32View, operandAddress, u16View, view } from "../../../src/device/host/host-views.ts";
import type { Operand } from "../../../src/device/kernels.ts";
import { createNullDevice } from "../../../src/device/null/null-device.ts";
import { descriptorOf, openDevice } from "../../../src/device/open-device.ts";
import { createReferenceDevice } from "../../../src/device/reference/reference-device.ts";
import { type Address, FileMap } from "../../../src/ffi/host-memory.ts";
import { deviceChoices } from "../../../src/protocol/devices.ts";
import { codeOf } from "../support.ts";

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
    expect(operandAddress({ ...whole, offset: 8, shape: [2] })).toBe(hostBlock(block).address + 8);
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
  test("by name gives that device", async () => {
    for (const name of ["reference", "null"] as const) {
      const { device, note } = await openDevice(name);
      expect([device.name, note]).toEqual([name, undefined]);
      device[Symbol.dispose]();
    }
  });

  test("another name is an error that names the devices", async () => {
    await expect(openDevice("gpu")).rejects.toMatchObject({
      code: "device.unavailable",
      expected: "auto, cuda, cpu, reference",
    });
  });

  test("a unit is handed to the descriptor, and auto passes over what does not open", async () => {
    const opened: (string | undefined)[] = [];
    const row = (name: string, open: DeviceDescriptor["open"]): DeviceDescriptor => ({
      ...devices.reference,
      name,
      units: true,
      open,
      probe: async () => ({ usable: name !== "broken", what: "", why: "it broke" }),
    });
    const table = {
      hidden: { ...devices.null, name: "hidden" },
      broken: row("broken", async () => {
        throw new KinoraError("device.broken", "it broke");
      }),
      working: row("working", async (unit) => {
        opened.push(unit);
        return createReferenceDevice();
      }),
    };
    expect(await openDevice("auto", table)).toMatchObject({ note: "no broken device: it broke" });
    expect(await descriptorOf("auto", table)).toBe(table.working);
    await openDevice("working:2:x", table);
    expect(opened).toEqual([undefined, "2:x"]);
    expect((await openDevice("hidden", table)).device.computes).toBe(false);
  });

  test("the table, and what a configuration may name, are one", () => {
    const rows = Object.entries(devices);
    expect(rows.map(([name, row]) => [name, row.name])).toEqual(rows.map(([name]) => [name, name]));
    const automatic = rows.flatMap(([name, row]) => (row.automatic ? [name] : []));
    expect(deviceChoices).toEqual(["auto", ...automatic]);
  });

  test("auto gives the cpu device, or the reference and the reason", async () => {
    const { device, note } = await openDevice("auto");
    if (device.name === "cpu") expect(note).toBeUndefined();
    else {
      expect(device.name).toBe("reference");
      expect(note).toMatch(/^no cpu device: /);
      await expect(openDevice("cpu")).rejects.toMatchObject({ code: expect.stringMatching(/^device\./) });
    }
    device[Symbol.dispose]();
  });
});
