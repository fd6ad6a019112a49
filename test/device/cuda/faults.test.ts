// What goes wrong on a card, ordered from the emulated driver: every fault gets an error that says what to do, nothing is left
// open, and what can go on goes on.
import { afterEach, describe, expect, it } from "vitest";
import { isKinoraError } from "../../../src/base/errors.ts";
import type { Device } from "../../../src/device/device.ts";
import type { LinearWeight, Operand } from "../../../src/device/kernels.ts";
import { emulatorControls, emulatorMissing, nothingOpen, openEmulated } from "./emulated.ts";

const missing = emulatorMissing();

/** A step of everything that takes memory: products with epilogues, narrow weights, attention, copies. */
async function work(device: Device): Promise<Uint8Array> {
  const made: Operand[] = [];
  const operand = (dtype: Operand["dtype"], shape: number[], bytesEach: number): Operand => {
    const size = shape.reduce((product, axis) => product * axis, 1) * bytesEach;
    const block = device.alloc(size, "activations");
    const whole = { block, offset: 0, dtype, shape };
    made.push(whole);
    return whole;
  };
  try {
    const { kernels } = device;
    const x = operand("bf16", [64, 128], 2);
    kernels.fill(x, 0.25);
    const plain = operand("bf16", [128, 128], 2);
    kernels.fill(plain, 0.125);
    const data = operand("f8e4m3", [128, 128], 1);
    const scale = operand("f32", [128, 1], 4);
    kernels.quantize(plain, data, scale);
    const weight: LinearWeight = { dtype: "f8e4m3", shape: [128, 128], plain: data, scale };
    const bias = operand("f32", [128], 4);
    kernels.fill(bias, 0.5);
    const table = operand("f32", [1, 128], 4);
    kernels.fill(table, 2);
    const y = operand("bf16", [64, 128], 2);
    const gate = { table, runs: [{ start: 0, count: 64, row: 0 }] };
    kernels.linear(x, weight, y, { bias, activation: "gelu-tanh", gate, residual: x });
    const dx = operand("bf16", [64, 128], 2);
    kernels.linearBackwardData(y, weight, dx);
    const tokens = (like: Operand): Operand => ({ ...like, shape: [1, 64, 1, 128] });
    const out = operand("bf16", [1, 64, 1, 128], 2);
    const logSumExp = operand("f32", [1, 1, 64], 4);
    const [q, k, v] = [tokens(x), tokens(y), tokens(dx)];
    kernels.attention(q, k, v, out, { scale: 0.1 }, logSumExp);
    const [dq, dk, dv] = [1, 2, 3].map(() => operand("bf16", [1, 64, 1, 128], 2));
    const input = { q, k, v, out, logSumExp, dout: out };
    kernels.attentionBackward(input, { scale: 0.1 }, { dq: dq!, dk: dk!, dv: dv! });
    device.upload(x.block, 0, new Uint8Array(x.block.size));
    return await device.download(dk!.block, 0, dk!.block.size);
  } finally {
    for (const { block } of made) device.free(block);
  }
}

describe.skipIf(missing !== undefined)(`faults of a card${missing ? ` (${missing})` : ""}`, () => {
  const controls = missing === undefined ? emulatorControls() : undefined!;
  afterEach(() => {
    controls.mend();
    for (const name of ["VERSION", "COUNT", "CAPABILITY", "MEMORY", "POOLS"]) delete process.env[`EMULATOR_${name}`];
    expect(controls.open()).toEqual(nothingOpen);
  });

  it("a device that was used and closed leaves nothing, nor does one with blocks that nobody freed", async () => {
    const device = openEmulated();
    await work(device);
    device.alloc(5000, "weights");
    device.createStream();
    expect(controls.open()).toMatchObject({ streams: 2, contexts: 1, pinned: 3 });
    device[Symbol.dispose]();
    device[Symbol.dispose]();
    expect(controls.open()).toEqual(nothingOpen);
  });

  it.each([
    ["cuInit", 100, "cuda.no-device", /CUDA_VISIBLE_DEVICES/],
    ["cuInit", 304, "cuda.no-permission", /dev\/nvidia/],
    ["cuInit", 803, "cuda.failed", /restart or update/],
    ["cuDevicePrimaryCtxRetain", 2, "memory.exhausted", undefined],
    ["cuDevicePrimaryCtxRetain", 46, "cuda.failed", undefined],
    ["cuStreamCreate", 2, "memory.exhausted", undefined],
    ["cuEventCreate", 719, "cuda.lost", /run the command again/],
    ["cuMemHostAlloc", 2, "memory.exhausted", undefined],
  ] as const)("%s answering %i at the start is %s", (call, code, expected, hint) => {
    controls.fail(call, 1, code);
    let error: unknown;
    try {
      openEmulated();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: expected });
    if (hint) expect((error as { hint: string }).hint).toMatch(hint);
  });

  it.each([
    ["VERSION", "11040", "cuda.old-driver", "CUDA 11.4"],
    ["COUNT", "0", "cuda.no-device", undefined],
    ["CAPABILITY", "75", "cuda.too-old", "7.5"],
  ])("a driver whose %s is %s is %s", (name, value, code, actual) => {
    process.env[`EMULATOR_${name}`] = value;
    expect(() => openEmulated()).toThrowError(expect.objectContaining({ code, ...(actual ? { actual } : {}) }));
  });

  it("a card that is not there, another one beside it, and libraries that are no such libraries are told", () => {
    const code = (options: Parameters<typeof openEmulated>[0]) => {
      try {
        openEmulated(options)[Symbol.dispose]();
        return undefined;
      } catch (error) {
        return isKinoraError(error) ? error.code : error;
      }
    };
    expect(code({ index: 3 })).toBe("cuda.no-device");
    expect(code({ index: 0.5 })).toBe("cuda.no-device");
    expect(code({ driver: "/nowhere/libcuda.so.1" })).toBe("cuda.no-driver");
    const plain = process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6";
    expect(code({ driver: plain })).toBe("cuda.no-driver");
    expect(code({ cublasLt: plain })).toBe("cuda.no-cublas");
    expect(code({ cublasLt: "/nowhere/libcublasLt.so.12" })).toBe("cuda.no-cublas");
    process.env.EMULATOR_COUNT = "2";
    const first = openEmulated({ index: 1 });
    expect(code({ index: 0 })).toBe("cuda.one-card");
    expect(code({ index: 1 })).toBeUndefined();
    first[Symbol.dispose]();
    expect(code({ index: 0 })).toBeUndefined();
  });

  it.each(["1", "0"])(
    "memory that runs out anywhere is told, frees what was held, and work goes on (pools %s)",
    async (pools) => {
      process.env.EMULATOR_POOLS = pools;
      const call = pools === "1" ? "cuMemAllocAsync" : "cuMemAlloc";
      const expected = await (async () => {
        using device = openEmulated();
        return work(device);
      })();
      let failures = 0;
      for (let at = 1; ; at++) {
        using device = openEmulated();
        controls.fail(call, at, 2);
        const error = await work(device).catch((thrown: unknown) => thrown);
        const asked = controls.calls(call);
        controls.mend();
        expect(device.memory().live).toBe(0);
        if (asked < at) break;
        // The first of all has nothing to give back; later ones find room once what is kept has gone.
        if (error instanceof Uint8Array) expect(error).toEqual(expected);
        else {
          failures++;
          expect(error).toMatchObject({ code: "memory.exhausted", hint: expect.any(String) });
        }
        expect(await work(device)).toEqual(expected);
      }
      expect(failures).toBeGreaterThan(2);
    },
  );

  it("a card too small for the work says what is in use, by purpose", async () => {
    process.env.EMULATOR_MEMORY = String(200_000);
    using device = openEmulated();
    const weights = device.alloc(50_000, "weights");
    await expect(work(device)).rejects.toMatchObject({
      code: "memory.exhausted",
      actual: expect.stringContaining("weights 50"),
    });
    device.free(weights);
    expect(device.memory().live).toBe(0);
  });

  it.each([
    ["cuLaunchKernel", 700],
    ["cuMemcpyHtoDAsync", 719],
    ["cuMemcpyDtoHAsync", 714],
    ["cuEventQuery", 700],
  ] as const)("a card that is lost at %s is told as such, and its device closes", async (call, code) => {
    const device = openEmulated();
    controls.fail(call, 1, code);
    await expect(work(device)).rejects.toMatchObject({ code: "cuda.lost", actual: expect.stringContaining(call) });
    expect(device.memory().live).toBe(0);
    device[Symbol.dispose]();
  });

  it("kernels that are missing or broken are told", async () => {
    const without = openEmulated({ images: "/nowhere", cacheFolder: "/nowhere", shippedIn: "/nowhere" });
    await expect(work(without)).rejects.toMatchObject({ code: "cuda.no-kernels" });
    without[Symbol.dispose]();
    const device = openEmulated();
    controls.fail("cuModuleLoadData", 1, 209);
    await expect(work(device)).rejects.toMatchObject({ code: "cuda.failed" });
    device[Symbol.dispose]();
  });
});
