// The two optimizers against each other and against a plain computation; their state saved and put back.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { AdamW } from "../../src/train/optimizers/adamw.ts";
import { AdamW8bit, SMALLEST_8BIT } from "../../src/train/optimizers/adamw8bit.ts";
import type { Optimizer } from "../../src/train/optimizers/optimizer.ts";
import { draws } from "../support/drawn-weights.ts";

const { device } = await openDevice("auto");
const settings = { betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.01 };
const sizes = { large: 5000, small: SMALLEST_8BIT - 96 };

function parameters(): Map<string, Tensor> {
  const next = draws(1);
  return new Map(
    Object.entries(sizes).map(([name, size]) => {
      const tensor = ownedEmpty(device, [size], "f32", "weights").requireGradient();
      tensor.write(Float32Array.from({ length: size }, next));
      return [name, tensor];
    }),
  );
}

function free(all: ReadonlyMap<string, Tensor>): void {
  for (const tensor of all.values()) {
    tensor.clearGradient();
    tensor[Symbol.dispose]();
  }
}

/** Gives every parameter a gradient and steps. */
function step(optimizer: Optimizer, seed: number, rate = 1e-2, scale = 1): void {
  const next = draws(100 + seed);
  for (const tensor of optimizer.parameters.values()) {
    const values = Float32Array.from({ length: tensor.size }, () => 0.1 * next() + 0.05);
    tensor.slot!.gradient = fromValues(device, values, tensor.shape);
  }
  optimizer.update(rate, scale);
}

const read = async (all: ReadonlyMap<string, Tensor>) => {
  const values = new Map<string, Float32Array>();
  for (const [name, tensor] of all) values.set(name, await tensor.read());
  return values;
};

describe("the global norm", () => {
  it("is that of all gradients together", async () => {
    const all = parameters();
    using optimizer = new AdamW(device, all, settings);
    let sum = 0;
    for (const [i, tensor] of [...all.values()].entries()) {
      const values = new Float32Array(tensor.size).fill(i + 1);
      sum += tensor.size * (i + 1) ** 2;
      tensor.slot!.gradient = fromValues(device, values, tensor.shape);
    }
    expect(await optimizer.gradientNorm()).toBeCloseTo(Math.sqrt(sum), 4);
    free(all);
  });
});

describe("AdamW in 8 bits", () => {
  it("follows AdamW closely on large parameters and exactly on small ones", async () => {
    const [wide, narrow] = [parameters(), parameters()];
    const start = await read(wide);
    using exact = new AdamW(device, wide, settings);
    using short = new AdamW8bit(device, narrow, settings);
    for (let i = 0; i < 25; i++) {
      step(exact, i);
      step(short, i);
    }
    const [a, b] = [await read(wide), await read(narrow)];
    expect(b.get("small")).toEqual(a.get("small"));
    const way = Math.hypot(...a.get("large")!.map((value, i) => value - start.get("large")![i]!));
    const apart = Math.hypot(...b.get("large")!.map((value, i) => value - a.get("large")![i]!));
    expect(apart).toBeGreaterThan(0);
    expect(apart / way).toBeLessThan(0.05);
    const bytes = (optimizer: Optimizer, name: string) =>
      [...optimizer.state()]
        .filter(([key]) => key.startsWith(name))
        .reduce((sum, [, tensor]) => sum + tensor.byteLength, 0);
    expect(bytes(short, "large") / bytes(exact, "large")).toBeLessThan(0.27);
    free(wide);
    free(narrow);
  });

  it.each([AdamW, AdamW8bit])("and in 32: %o goes on from its saved state with the same bits", async (Kind) => {
    const [whole, parts] = [parameters(), parameters()];
    using unbroken = new Kind(device, whole, settings);
    using first = new Kind(device, parts, settings);
    for (let i = 0; i < 6; i++) step(unbroken, i, 1e-2, 0.5);
    for (let i = 0; i < 3; i++) step(first, i, 1e-2, 0.5);
    const saved = new Map<string, Uint8Array>();
    for (const [name, tensor] of first.state()) saved.set(name, await tensor.readBytes());
    using second = new Kind(device, parts, settings);
    expect([...second.state().keys()].sort()).toEqual([...saved.keys()].sort());
    for (const [name, tensor] of second.state()) tensor.writeBytes(saved.get(name)!);
    second.step = first.step;
    for (let i = 3; i < 6; i++) step(second, i, 1e-2, 0.5);
    expect(await read(parts)).toEqual(await read(whole));
    free(whole);
    free(parts);
  });
});
