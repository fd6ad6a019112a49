// Adapters on a model: alone, stacked, merged, on quantised weights, and refused where they do not fit.
import { afterAll, describe, expect, it } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { openDevice } from "../../src/device/open-device.ts";
import type { LoraValues } from "../../src/lora/adapters/lora.ts";
import { attachLora, defaultTargets, freshLora } from "../../src/lora/attach.ts";
import type { WanDit } from "../../src/models/wan/dit/dit.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const wave = (count: number, seed: number, size: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.3 + seed) * size);

function adapters(model: WanDit, rank: number, seed: number, size = 0.2): LoraValues[] {
  return [...model.linears().values()]
    .filter(({ name }) => defaultTargets.test(name))
    .map(({ name, inputs, outputs }, i) => ({
      kind: "lora",
      module: name,
      rank,
      inputs,
      outputs,
      alpha: rank * 2,
      down: wave(rank * inputs, seed + i, size),
      up: wave(outputs * rank, seed - i, size),
    }));
}

async function velocity(model: WanDit): Promise<Float32Array> {
  using _scope = openScope(model.device);
  const { clean, shape, text } = tinySample(2);
  return model
    .forward({
      latents: fromValues(model.device, clean, [1, ...shape]),
      timesteps: [420],
      texts: [fromValues(model.device, text, [3, tinyDitConfig.textDim])],
    })
    .read();
}

describe.each(["auto", "reference"] as const)("LoRA on the %s device", async (name) => {
  const { device } = await openDevice(name);
  afterAll(() => device[Symbol.dispose]());

  it.each([
    ["f32", 1e-5],
    ["bf16", 2e-2],
  ] as const)("merged and unmerged agree in %s, two at once", async (dtype, tolerance) => {
    const live = device.memory().live;
    {
      const { model } = tinyDit(device, { dtype });
      using _model = model;
      const base = await velocity(model);
      const first = attachLora(model, adapters(model, 4, 1), 0.7);
      const second = attachLora(model, adapters(model, 2, 9), -0.4);
      const beside = await velocity(model);
      expect(relativeError(beside, base)).toBeGreaterThan(0.05);
      for (const linear of model.linears().values()) linear.merge();
      const merged = await velocity(model);
      expect(relativeError(merged, beside)).toBeLessThan(tolerance);
      first[Symbol.dispose]();
      second[Symbol.dispose]();
    }
    expect(device.memory().live).toBe(live);
  });

  it("changes nothing at strength 0, and nothing once it is taken off", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const base = await velocity(model);
    {
      using _lora = attachLora(model, adapters(model, 4, 3), 0);
      expect(relativeError(await velocity(model), base)).toBeLessThan(1e-7);
    }
    expect(await velocity(model)).toEqual(base);
  });

  it("starts a fresh one as the base model, on the default modules", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const base = await velocity(model);
    const uniform = (count: number, module: number) => wave(count, module, 0.5).map((value) => value + 0.5);
    using lora = freshLora(model.linears(), { rank: 3, select: (module) => defaultTargets.test(module) }, uniform);
    expect(lora.adapters.length).toBe(10 * tinyDitConfig.layers);
    expect(await velocity(model)).toEqual(base);
    const down = await lora.parameters().get("blocks.1.ffn.2.down")!.read();
    expect(Math.max(...down)).toBeLessThanOrEqual(1 / Math.sqrt(tinyDitConfig.ffnDim));
    expect(Math.min(...down)).toBeLessThan(-0.5 / Math.sqrt(tinyDitConfig.ffnDim));
  });

  it("names what does not fit", () => {
    const { model } = tinyDit(device);
    using _model = model;
    const [fits, ...rest] = adapters(model, 2, 5);
    const wider = { ...rest[0]!, inputs: 64, down: wave(128, 1, 1) };
    const elsewhere = { ...rest[1]!, module: "blocks.7.self_attn.q" };
    const run = () => attachLora(model, [fits!, wider, elsewhere]);
    expect(run).toThrowError(/2 of 3 modules do not fit/);
    expect(run).toThrowError(/64 → 32; the layer is 32 → 32/);
    expect(run).toThrowError(/blocks\.7\.self_attn\.q \(no such layer; nearest blocks\./);
    expect(() => freshLora(model.linears(), { rank: 2, select: () => false }, () => new Float32Array())).toThrowError(
      /matches no linear/,
    );
  });
});
