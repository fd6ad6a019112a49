// Keys and values of a text that passes of a film share: the same bits in fewer products, made anew with other weights.
import { afterAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { attachLora, freshLora } from "../../src/lora/attach.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import { KeptKeys } from "../../src/models/wan/dit/kept-keys.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const { device } = await openDevice("auto");
const { model } = tinyDit(device);
afterAll(() => {
  model[Symbol.dispose]();
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

/** Latents [4, 2, side, side] and a text of three rows. */
const input = (on: Device, timestep: number, side = 4) => ({
  latents: fromValues(on, tinySampleOf(side), [1, 4, 2, side, side]),
  timesteps: [timestep],
  texts: [fromValues(on, tinySample(2).text, [3, tinyDitConfig.textDim])],
});
const tinySampleOf = (side: number) => Float32Array.from({ length: 8 * side * side }, (_, i) => Math.sin(i));

async function velocity(of: WanDit, timestep: number, kept?: KeptKeys): Promise<Float32Array> {
  using _scope = openScope(of.device);
  return of.forward({ ...input(of.device, timestep), kept }).read();
}

/** Compares passes with and without `kept`, and says for how many blocks it then holds keys. */
async function expectSame(kept: KeptKeys, timesteps: readonly number[]): Promise<number> {
  for (const timestep of timesteps) {
    expect(await velocity(model, timestep, kept)).toEqual(await velocity(model, timestep));
  }
  return kept.size;
}

const wave = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i) / 3);

/** A LoRA on the keys of the second block's text, which changes them. */
const lora = (strength: number) =>
  attachLora(
    model,
    [
      {
        kind: "lora",
        module: "blocks.1.cross_attn.k",
        rank: 2,
        inputs: 32,
        outputs: 32,
        alpha: 2,
        down: wave(64),
        up: wave(64),
      },
    ],
    strength,
  );

describe("kept keys and values", () => {
  test("give the bits that a pass without them gives", async () => {
    const kept = new KeptKeys();
    expect(await expectSame(kept, [900, 500, 100])).toBe(tinyDitConfig.layers);
    const live = device.memory().live;
    kept.forget();
    expect(kept.size).toBe(0);
    const rows = 2 * tinyDitConfig.layers * tinyDitConfig.textLength;
    expect(live - device.memory().live).toBe(rows * tinyDitConfig.dim * 4);
  });

  test("save the text's products in every pass but the first", () => {
    const nowhere = createNullDevice();
    using small = tinyDit(nowhere).model;
    const kept = new KeptKeys();
    const flops = [1, 2, 3].map((timestep) => {
      using _scope = openScope(nowhere);
      nowhere.counters.reset();
      small.forward({ ...input(nowhere, timestep), kept });
      return nowhere.counters.total.flops;
    });
    const { dim, textDim, textLength, layers } = tinyDitConfig;
    const saved = 2 * textLength * dim * (textDim + dim + layers * 2 * dim);
    expect(flops[0]! - flops[1]!).toBeGreaterThanOrEqual(saved);
    expect(flops[2]).toBe(flops[1]);
    kept.forget();
  });

  test("follow adapters that come, change their strength, merge and go", async () => {
    const kept = new KeptKeys();
    await expectSame(kept, [500]);
    const weak = lora(0.5);
    await expectSame(kept, [500, 400]);
    weak[Symbol.dispose]();
    const strong = lora(2);
    await expectSame(kept, [500, 400]);
    strong[Symbol.dispose]();
    await expectSame(kept, [500, 400]);
    const merging = lora(1);
    model.linears().get("blocks.1.cross_attn.k")!.merge();
    merging[Symbol.dispose]();
    await expectSame(kept, [500, 400]);
    kept.forget();
  });

  test("follow the model that they are handed to", async () => {
    const kept = new KeptKeys();
    await expectSame(kept, [500]);
    using other = tinyDit(device).model;
    expect(await velocity(other, 500, kept)).toEqual(await velocity(other, 500));
    kept.forget();
  });

  test("hold those of a picture's CLIP features beside the text's", async () => {
    const config = { ...tinyDitConfig, imageBranch: { featureDim: 8, firstLast: false } };
    using withPicture = new WanDit(new RandomWeights(device, { seed: 3n }), config, { dtype: "f32" });
    const kept = new KeptKeys();
    const images = () => [fromValues(device, wave(257 * 8), [257, 8])];
    for (const timestep of [900, 500]) {
      using _scope = openScope(device);
      const [fresh, shared] = [undefined, kept].map((keys) =>
        withPicture.forward({ ...input(device, timestep), images: images(), kept: keys }).read(),
      );
      expect(await shared).toEqual(await fresh);
    }
    expect(kept.size).toBe(config.layers);
    kept.forget();
  });

  test("stay empty while something trains, under a tape, and where there are many tokens", async () => {
    const kept = new KeptKeys();
    {
      const training = freshLora(model.linears(), { rank: 2, select: (name) => name.endsWith("ffn.0") }, wave);
      for (const parameter of training.parameters().values()) parameter.requireGradient();
      expect(await expectSame(kept, [500, 400])).toBe(0);
      training[Symbol.dispose]();
    }
    using _scope = openScope(device);
    {
      using _tape = new Tape(device);
      model.forward({ ...input(device, 500), kept });
    }
    expect(kept.size).toBe(0);
    model.forward({ ...input(device, 500, 16), kept });
    expect(kept.size).toBe(0);
    model.forward({ ...input(device, 500, 8), kept });
    expect(kept.size).toBe(tinyDitConfig.layers);
    kept.forget();
  });
});
