// Weights from readers: converted once, quantised ones kept or widened, missing and misshapen ones named.
import { afterAll, describe, expect, it } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { f32ToF8e4m3, fromFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { releaseMemory, reserveMemory } from "../../src/ffi/host-memory.ts";
import { FrozenWeight } from "../../src/nn/frozen-weight.ts";
import { Linear } from "../../src/nn/linear.ts";
import type { StoredWeight } from "../../src/nn/stored-weight.ts";
import { readerFrom, WeightLoader, type WeightReader } from "../../src/nn/weights.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";

const outputs = 6;
const inputs = 128;
const values = Float32Array.from({ length: outputs * inputs }, (_, i) => Math.sin(i * 0.7) * (1 + (i % 5)));
const bias = Float32Array.from({ length: outputs }, (_, i) => i - 2);

/** The layer quantised to e4m3 with a scale for every `block` inputs of a row. */
function quantized(block: number): WeightReader {
  const blocks = inputs / block;
  const scales = new Float32Array(outputs * blocks);
  const codes = new Uint8Array(values.length);
  for (let row = 0; row < outputs; row++) {
    for (let b = 0; b < blocks; b++) {
      const start = row * inputs + b * block;
      const part = values.subarray(start, start + block);
      const scale = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 448;
      scales[row * blocks + b] = scale;
      for (let i = 0; i < block; i++) codes[start + i] = f32ToF8e4m3(part[i]! / scale);
    }
  }
  const weight: StoredWeight = {
    dtype: "f8e4m3",
    shape: [outputs, inputs],
    bytes: () => codes,
    scale: { values: scales, shape: [outputs, blocks, 1] },
  };
  const biasWeight: StoredWeight = { dtype: "f32", shape: [outputs], bytes: () => fromFloat32(bias, "f32") };
  return {
    names: () => ["layer.weight", "layer.bias"],
    find: (name) => (name === "layer.weight" ? weight : name === "layer.bias" ? biasWeight : undefined),
    [Symbol.dispose]() {},
  };
}

const plain = (dtype: "f32" | "bf16" | "f16") =>
  readerFrom([
    ["layer.weight", { dtype, shape: [outputs, inputs], bytes: fromFloat32(values, dtype) }],
    ["layer.bias", { dtype, shape: [outputs], bytes: fromFloat32(bias, dtype) }],
    ["extra.weight", { dtype, shape: [1], bytes: fromFloat32(new Float32Array(1), dtype) }],
  ]);

// Inputs along the weights' own rows, so that sums do not cancel and rounding stays small beside them.
const x = values.slice(0, 3 * inputs);
const expected = Float32Array.from({ length: 3 * outputs }, (_, i) => {
  const [row, column] = [Math.floor(i / outputs), i % outputs];
  let sum = bias[column]!;
  for (let k = 0; k < inputs; k++) sum += x[row * inputs + k]! * values[column * inputs + k]!;
  return sum;
});

describe.each(["auto", "reference"] as const)("weights on the %s device", async (name) => {
  const { device } = await openDevice(name);
  afterAll(() => device[Symbol.dispose]());

  async function product(weights: WeightLoader, dtype: "f32" | "bf16"): Promise<Float32Array> {
    using _weights = weights;
    using _scope = openScope(device);
    const layer = new Linear(weights, "layer", inputs, outputs, { dtype });
    return layer.forward(fromValues(device, x, [3, inputs], dtype), { dtype: "f32" }).read();
  }

  it.each([
    ["f32", 1e-6],
    ["f16", 1e-3],
    ["bf16", 8e-3],
  ] as const)("from %s are widened to what the layer asks", async (dtype, tolerance) => {
    const live = device.memory().live;
    const weights = new WeightLoader(device, plain(dtype));
    expect(relativeError(await product(weights, "f32"), expected)).toBeLessThan(tolerance);
    expect(weights.unused()).toEqual(["extra.weight"]);
    expect(device.memory().live).toBe(live);
  });

  it("packed give what plain ones give", async () => {
    const options = { pack: true };
    expect(relativeError(await product(new WeightLoader(device, plain("f32"), options), "f32"), expected)).toBeLessThan(
      1e-6,
    );
    expect(
      relativeError(await product(new WeightLoader(device, plain("bf16"), options), "bf16"), expected),
    ).toBeLessThan(8e-3);
  });

  it.each([64, 128])("in fp8 with a scale for %i inputs act alike kept and widened", async (block) => {
    const kept = await product(new WeightLoader(device, quantized(block), { keepQuantized: true }), "bf16");
    const widened = await product(new WeightLoader(device, quantized(block)), "f32");
    expect(relativeError(widened, expected)).toBeLessThan(4e-2);
    expect(relativeError(kept, widened)).toBeLessThan(1e-2);
  });

  it("kept in fp8 take a quarter of float32's memory", () => {
    using weights = new WeightLoader(device, quantized(64), { keepQuantized: true });
    const before = device.memory().live;
    const weight = weights.linear("layer.weight", [outputs, inputs], "bf16");
    expect(weight).toBeInstanceOf(FrozenWeight);
    expect(device.memory().live - before).toBe(outputs * inputs + (outputs * inputs * 4) / 64);
  });

  it("that were copied or packed give their file's pages back; those read in place keep them", () => {
    const shape = [256, 128] as const;
    const address = reserveMemory(2 * elementCount(shape));
    const given: string[] = [];
    const reader: WeightReader = {
      names: () => ["table", "layer"],
      find: (name) => ({
        dtype: "bf16",
        shape,
        bytes: () => new Uint8Array(2 * elementCount(shape)),
        address,
        discard: () => void given.push(name),
      }),
      [Symbol.dispose]() {},
    };
    {
      using weights = new WeightLoader(device, reader, { pack: true });
      weights.tensor("table", shape, "bf16");
      expect(given).toEqual([]);
      weights.tensor("table", shape, "f32");
      expect(given).toEqual(["table"]);
      const { packed } = weights.linear("layer", shape, "bf16") as FrozenWeight;
      expect(given).toEqual(packed ? ["table", "layer"] : ["table"]);
    }
    releaseMemory(address, 2 * elementCount(shape));
  });

  it("missing or misshapen are named with what was expected", () => {
    using weights = new WeightLoader(device, plain("f32"));
    expect(() => weights.tensor("layer.scale", [4], "f32")).toThrowError(/lack layer\.scale; expected \[4\]/);
    expect(() => weights.linear("layer.weight", [outputs, 64], "f32")).toThrowError(/expected \[6,64\]; got \[6,128\]/);
  });

  it("trainable are float32 leaves under their own names", () => {
    using weights = new WeightLoader(device, plain("bf16"), { trainable: true });
    new Linear(weights, "layer", inputs, outputs, { dtype: "bf16" });
    expect([...weights.parameters].map(([key, tensor]) => [key, tensor.dtype, tensor.requiresGrad])).toEqual([
      ["layer.weight", "f32", true],
      ["layer.bias", "f32", true],
    ]);
  });
});
