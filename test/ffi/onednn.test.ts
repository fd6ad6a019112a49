// The binding to oneDNN: which library it takes and what it says without one, and that primitives outlive the cache's bound.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { releaseMemory, reserveMemory, viewBytes } from "../../src/ffi/host-memory.ts";
import { OneDnn } from "../../src/ffi/onednn.ts";
import { check } from "../../src/ffi/onednn-library.ts";

function open(): OneDnn | undefined {
  try {
    return new OneDnn(8);
  } catch (error) {
    if (isKinoraError(error, "device.onednn-missing")) return undefined;
    throw error;
  }
}

const dnn = open();
const vector = (size: number) => ({ dtype: "f32" as const, dims: [size], strides: [1] });

describe.skipIf(!dnn)("oneDNN", () => {
  const bytes = 1 << 16;
  const address = reserveMemory(bytes);
  const floats = new Float32Array(viewBytes(address, bytes).buffer);
  afterAll(() => {
    releaseMemory(address, bytes);
    dnn?.[Symbol.dispose]();
  });

  const scaled = (size: number) =>
    dnn!.primitive({
      kind: "eltwise",
      tensors: { source: vector(size), target: vector(size) },
      algorithm: "linear",
      alpha: 2,
      beta: 1,
    });

  test("a primitive is made once per description and again after the cache dropped it", () => {
    const first = scaled(10);
    expect(scaled(10)).toBe(first);
    for (let size = 11; size < 30; size++) scaled(size);
    const again = scaled(10);
    expect(again).not.toBe(first);
    floats.set([1, 2, 3]);
    again.execute({ source: address, target: address });
    expect(Array.from(floats.subarray(0, 3))).toEqual([3, 5, 7]);
  });

  test("a layout stays usable when the primitive that chose it is gone, and alike layouts are one object", () => {
    const matmul = (rows: number) =>
      dnn!.primitive({
        kind: "matmul",
        tensors: {
          source: { dtype: "f32", dims: [rows, 40], strides: [40, 1] },
          weights: { dtype: "f32", dims: [40, 70], strides: "any" },
          target: { dtype: "f32", dims: [rows, 70], strides: [70, 1] },
        },
      });
    const layout = dnn!.layoutOf(matmul(64), "weights", 2);
    expect(dnn!.layoutOf(matmul(64), "weights", 2)).toBe(layout);
    for (let size = 100; size < 120; size++) scaled(size);
    const plain = { dtype: "f32", dims: [40, 70], strides: [70, 1] } as const;
    const blocked = { ...plain, strides: layout };
    const values = Float32Array.from({ length: 2800 }, (_, i) => i);
    floats.set(values);
    const there = dnn!.primitive({ kind: "reorder", tensors: { source: plain, target: blocked } });
    there.execute({ source: address, target: address + 16_384 });
    floats.fill(0, 0, 2800);
    const back = dnn!.primitive({ kind: "reorder", tensors: { source: blocked, target: plain } });
    back.execute({ source: address + 16_384, target: address });
    expect(floats.subarray(0, 2800)).toEqual(values);
    expect(layout.bytes).toBeGreaterThanOrEqual(2800 * 4);
  });

  test("what the library has no code for is undefined when asked for, a coded error when demanded", () => {
    const operation = {
      kind: "softmax",
      tensors: {
        source: { dtype: "i32", dims: [4, 4], strides: [4, 1] },
        target: { dtype: "i32", dims: [4, 4], strides: [4, 1] },
      },
      axis: 1,
    } as const;
    expect(dnn!.tryPrimitive(operation)).toBeUndefined();
    expect(() => dnn!.primitive(operation)).toThrow(expect.objectContaining({ code: "onednn.failed" }));
  });
});

test("every status but success is a coded error that names the call", () => {
  expect(() => check(0, "nothing")).not.toThrow();
  expect(() => check(2, "a matmul")).toThrow(
    expect.objectContaining({ code: "onednn.failed", message: expect.stringContaining("a matmul") }),
  );
});

describe("without a library", () => {
  const folder = mkdtempSync(join(tmpdir(), "kinora-onednn-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  /** What a process with this library path reports. */
  function report(path: string): { code: string; hint: string; actual: string } {
    const script = join(folder, "open.mts");
    const source = fileURLToPath(new URL("../../src/device/open-device.ts", import.meta.url));
    writeFileSync(
      script,
      `import { openDevice } from ${JSON.stringify(source)};
       try { await openDevice("cpu"); console.log("{}"); }
       catch (error) { console.log(JSON.stringify({ code: error.code, hint: error.hint, actual: error.actual })); }`,
    );
    const tsx = fileURLToPath(new URL("../../node_modules/tsx/dist/cli.mjs", import.meta.url));
    const env = { ...process.env, KINORA_ONEDNN: path };
    const { stdout } = spawnSync(process.execPath, [tsx, script], { encoding: "utf8", env });
    return JSON.parse(stdout);
  }

  test("the error is coded and says what to install", () => {
    const { code, hint } = report(join(folder, "libdnnl.so.3"));
    expect(code).toBe("device.onednn-missing");
    expect(hint).toContain("KINORA_ONEDNN");
  });

  test("a file that is no library is refused with its reason", () => {
    const path = join(folder, "broken.so");
    writeFileSync(path, "not a library");
    const { code, actual } = report(path);
    expect(code).toBe("device.onednn-missing");
    expect(actual).toContain("broken.so");
  });
});
