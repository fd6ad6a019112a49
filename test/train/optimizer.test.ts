// The two optimizers against each other and against a plain computation; their state saved and put back.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { createAdamW } from "../../src/train/optimizers/adamw.ts";
import { createAdamW8bit, SMALLEST_8BIT } from "../../src/train/optimizers/adamw8bit.ts";
import { globalNorm, type Optimizer } from "../../src/train/optimizers/optimizer.ts";
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
async function step(optimizer: Optimizer, seed: number, rate = 1e-2, scale = 1): Promise<void> {
  const next = draws(100 + seed);
  for (const tensor of optimizer.parameters.values()) {
    const values = Float32Array.from({ length: tensor.size }, () => 0.1 * next() + 0.05);
    tensor.slot!.gradient = fromValues(device, values, tensor.shape);
  }
  await optimizer.update(rate, scale);
}

const read = async (all: ReadonlyMap<string, Tensor>) => {
  const values = new Map<string, Float32Array>();
  for (const [name, tensor] of all) values.set(name, await tensor.read());
  return values;
};

describe("the global norm", () => {
  it("is that of all gradients together", async () => {
    const all = parameters();
    let sum = 0;
    for (const [i, tensor] of [...all.values()].entries()) {
      const values = new Float32Array(tensor.size).fill(i + 1);
      sum += tensor.size * (i + 1) ** 2;
      tensor.slot!.gradient = fromValues(device, values, tensor.shape);
    }
    expect(await globalNorm(device, all)).toBeCloseTo(Math.sqrt(sum), 4);
    free(all);
  });
});

describe("a parameter's own factor", () => {
  it("multiplies its learning rate alone", async () => {
    const [plain, grouped] = [parameters(), parameters()];
    const start = await read(plain);
    using one = createAdamW({ device, parameters: plain }, settings);
    using two = createAdamW(
      { device, parameters: grouped, rateOf: (name) => (name === "small" ? 16 : 1) },
      { ...settings, weightDecay: 0 },
    );
    await step(one, 1, 1e-3);
    await step(two, 1, 1e-3);
    const [a, b] = [await read(plain), await read(grouped)];
    const way = (values: Float32Array, name: string) =>
      Math.hypot(...values.map((value, i) => value - start.get(name)![i]!));
    expect(way(b.get("large")!, "large") / way(a.get("large")!, "large")).toBeCloseTo(1, 1);
    expect(way(b.get("small")!, "small") / way(a.get("small")!, "small")).toBeCloseTo(16, 0);
    free(plain);
    free(grouped);
  });
});

describe("AdamW in 8 bits", () => {
  it("follows AdamW closely on large parameters and exactly on small ones", async () => {
    const [wide, narrow] = [parameters(), parameters()];
    const start = await read(wide);
    using exact = createAdamW({ device, parameters: wide }, settings);
    using short = createAdamW8bit({ device, parameters: narrow }, settings);
    for (let i = 0; i < 25; i++) {
      await step(exact, i);
      await step(short, i);
    }
    const [a, b] = [await read(wide), await read(narrow)];
    expect(b.get("small")).toEqual(a.get("small"));
    const way = Math.hypot(...a.get("large")!.map((value, i) => value - start.get("large")![i]!));
    const apart = Math.hypot(...b.get("large")!.map((value, i) => value - a.get("large")![i]!));
    expect(apart).toBeGreaterThan(0);
    expect(apart / way).toBeLessThan(0.05);
    const bytes = (optimizer: Optimizer, name: string) =>
      [...optimizer.state().tensors]
        .filter(([key]) => key.startsWith(name))
        .reduce((sum, [, tensor]) => sum + tensor.byteLength, 0);
    expect(bytes(short, "large") / bytes(exact, "large")).toBeLessThan(0.27);
    free(wide);
    free(narrow);
  });

  it.each([createAdamW, createAdamW8bit])(
    "and in 32: %o goes on from its saved state with the same bits",
    async (create) => {
      const [whole, parts] = [parameters(), parameters()];
      using unbroken = create({ device, parameters: whole }, settings);
      using first = create({ device, parameters: parts }, settings);
      for (let i = 0; i < 6; i++) await step(unbroken, i, 1e-2, 0.5);
      for (let i = 0; i < 3; i++) await step(first, i, 1e-2, 0.5);
      const saved = new Map<string, Uint8Array>();
      for (const [name, tensor] of first.state().tensors) saved.set(name, await tensor.readBytes());
      using second = create({ device, parameters: parts }, settings);
      expect([...second.state().tensors.keys()].sort()).toEqual([...saved.keys()].sort());
      for (const [name, tensor] of second.state().tensors) tensor.writeBytes(saved.get(name)!);
      second.restore(first.state().numbers);
      for (let i = 3; i < 6; i++) await step(second, i, 1e-2, 0.5);
      expect(await read(parts)).toEqual(await read(whole));
      free(whole);
      free(parts);
    },
  );
});
