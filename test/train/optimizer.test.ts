// AdamW in both forms against each other and against a plain computation; the state of every optimizer saved and put back.
// Their numbers are held to the published code's by the golden fixtures (optimizer-*).
import { describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { createAdamW } from "../../src/train/optimizers/adamw.ts";
import { createAdamW8bit, SMALLEST_8BIT } from "../../src/train/optimizers/adamw8bit.ts";
import { createOptimizer, optimizers } from "../../src/train/optimizers/index.ts";
import { globalNorm, type Optimizer, showing } from "../../src/train/optimizers/optimizer.ts";
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

/** Some of two axes, so that factored moments and orthogonal steps have their turn. */
function matrices(): Map<string, Tensor> {
  const next = draws(2);
  const shapes: Record<string, number[]> = { large: [80, 64], tall: [24, 4], row: [9], kernel: [3, 4, 2] };
  return new Map(
    Object.entries(shapes).map(([name, shape]) => {
      const tensor = ownedEmpty(device, shape, "f32", "weights").requireGradient();
      tensor.write(Float32Array.from({ length: tensor.size }, next));
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
});

/** As their rows make them; a large rate, so that few steps go far. */
const made = (kind: string, all: ReadonlyMap<string, Tensor>, more: Record<string, unknown> = {}): Optimizer =>
  createOptimizer({ device, parameters: all }, { kind, settings: optimizers[kind]!.settings.parse(more) });

const variants: [string, Record<string, unknown>][] = [
  ...Object.keys(optimizers).map((kind): [string, Record<string, unknown>] => [kind, {}]),
  ["adamw", { amsgrad: true }],
  ["adafactor", { beta1: 0.9, relative_step: true, scale_parameter: true }],
  ["prodigy", { slice_p: 7, use_bias_correction: true, weight_decay: 0.1, decouple: false }],
  ["adamw_schedulefree", { warmup_steps: 4, weight_decay: 0.1 }],
  ["muon", { nesterov: false, adjust_lr: "original" }],
];

describe("every optimizer of the table", () => {
  it.each(variants)("%s %o goes on from its saved state with the same bits", async (kind, more) => {
    const [whole, parts] = [matrices(), matrices()];
    const rate = optimizers[kind]!.learningRate.lora * 10;
    using unbroken = made(kind, whole, more);
    using first = made(kind, parts, more);
    for (let i = 0; i < 6; i++) await step(unbroken, i, rate, 0.5);
    for (let i = 0; i < 3; i++) await step(first, i, rate, 0.5);
    const saved = new Map<string, Uint8Array>();
    for (const [name, tensor] of first.state().tensors) saved.set(name, await tensor.readBytes());
    using second = made(kind, parts, more);
    expect([...second.state().tensors.keys()].sort()).toEqual([...saved.keys()].sort());
    for (const [name, tensor] of second.state().tensors) tensor.writeBytes(saved.get(name)!);
    second.restore(first.state().numbers);
    for (let i = 3; i < 6; i++) await step(second, i, rate, 0.5);
    expect(await read(parts)).toEqual(await read(whole));
    expect(second.state().numbers).toEqual(unbroken.state().numbers);
    expect(await read(parts)).not.toEqual(await read(matrices()));
    free(whole);
    free(parts);
  });

  it("finds the minimum of a bowl", async () => {
    // Half of ‖p‖²: the gradient is the parameter itself.
    for (const kind of Object.keys(optimizers)) {
      const all = matrices();
      const size = async () => Math.hypot(...[...(await read(all)).values()].flatMap((values) => [...values]));
      const begin = await size();
      using optimizer = made(kind, all);
      const rate = kind === "prodigy" ? 1 : 0.02;
      for (let i = 0; i < 60; i++) {
        for (const tensor of all.values())
          tensor.slot!.gradient = fromValues(device, await tensor.read(), tensor.shape);
        await optimizer.update(rate);
      }
      {
        using _shown = showing(device, optimizer);
        // Prodigy begins with steps of a millionth.
        expect(await size(), kind).toBeLessThan(begin * (kind === "prodigy" ? 0.999 : 0.8));
      }
      free(all);
    }
  });
});

describe("schedule-free AdamW", () => {
  it("shows its average and goes on with what trains, to the bit", async () => {
    const all = matrices();
    using optimizer = made("adamw_schedulefree", all, { warmup_steps: 2 });
    for (let i = 0; i < 4; i++) await step(optimizer, i, 1e-2);
    const training = await read(all);
    const shown = showing(device, optimizer);
    expect(await read(all)).not.toEqual(training);
    shown[Symbol.dispose]();
    expect(await read(all)).toEqual(training);
    free(all);
  });
});
