// 2.1 image-to-video's CLIP branch and FLF2V against diffusers, recorded by bench/peers/image-branch-fixture.py.
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { Fixture, relativeError } from "../../scripts/golden/fixture.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import type { DitConfig } from "../../src/models/wan/params.ts";
import { ditNames } from "../../src/models/wan/weight-names.ts";
import type { StoredWeight } from "../../src/nn/stored-weight.ts";
import { WeightLoader, type WeightReader } from "../../src/nn/weights.ts";
import { openScope } from "../../src/tensor/scope.ts";

const fixture = new Fixture(fileURLToPath(new URL("../fixtures/image-branch.safetensors", import.meta.url)));
afterAll(() => fixture[Symbol.dispose]());

/** The fixture's diffusers names as the official ones. */
function reader(key: string): WeightReader {
  const theirs = fixture.weights(`weights.${key}.`);
  const byOfficial = new Map<string, string>();
  for (const name of theirs.names()) byOfficial.set(ditNames.toOfficial(name)!.name, name);
  return {
    names: () => byOfficial.keys(),
    find: (name): StoredWeight | undefined => theirs.find(byOfficial.get(name) ?? ""),
    [Symbol.dispose]() {},
  };
}

const config = (firstLast: boolean): DitConfig => ({
  patchSize: [1, 2, 2],
  textLength: 512,
  inputChannels: 36,
  outputChannels: 16,
  dim: 48,
  ffnDim: 80,
  frequencyDim: 64,
  textDim: 32,
  heads: 2,
  layers: 2,
  eps: 1e-6,
  imageBranch: { featureDim: 40, firstLast },
});

describe.each([
  ["i2v", false],
  ["flf2v", true],
] as const)("the CLIP branch of %s", (key, firstLast) => {
  it.each(["auto", "reference"] as const)("equals diffusers on the %s device", async (name) => {
    const { device } = await openDevice(name);
    const live = device.memory().live;
    {
      const weights = new WeightLoader(device, reader(key));
      using model = new WanDit(weights, config(firstLast), { dtype: "f32" });
      using _scope = openScope(device);
      const velocity = model.forward({
        latents: fixture.tensor(device, `inputs.${key}.x`, [1, ...fixture.shape(`inputs.${key}.x`)]),
        timesteps: [fixture.config.timestep as number],
        texts: [fixture.tensor(device, `inputs.${key}.context`)],
        images: [fixture.tensor(device, `inputs.${key}.image`)],
      });
      expect(weights.unused()).toEqual([]);
      expect(relativeError(await velocity.read(), fixture.values(`outputs.${key}.out`))).toBeLessThan(2e-5);
    }
    expect(device.memory().live).toBe(live);
    device[Symbol.dispose]();
  });

  it("says what is missing without the picture's features", async () => {
    const { device } = await openDevice("reference");
    using model = new WanDit(new WeightLoader(device, reader(key)), config(firstLast), { dtype: "f32" });
    using _scope = openScope(device);
    const run = () =>
      model.forward({
        latents: fixture.tensor(device, `inputs.${key}.x`, [1, ...fixture.shape(`inputs.${key}.x`)]),
        timesteps: [500],
        texts: [fixture.tensor(device, `inputs.${key}.context`)],
      });
    expect(run).toThrowError(/CLIP features/);
  });
});
