// Training samples as the device makes them: mixing, given frames and conditions against plain loops, and what is drawn.
import { describe, expect, it } from "vitest";
import { philoxNormals } from "../../src/base/rng/philox-rng.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { pictureCondition } from "../../src/models/wan/conditioning.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues, type Tensor } from "../../src/tensor/tensor.ts";
import { plannedSample } from "../../src/train/plan/planned-inputs.ts";
import { drawNoise, drawSeed } from "../../src/train/step/draws.ts";
import { velocityTarget } from "../../src/train/step/flow-matching.ts";
import { type TrainingSample, trainingInput } from "../../src/train/step/model-input.ts";
import { draws } from "../support/drawn-weights.ts";

/** Two channels, three latent frames of 2 × 2. */
const shape = [2, 3, 2, 2] as const;
const plane = 4;

describe.each(["auto", "reference"] as const)("on the %s device", async (name) => {
  const { device } = await openDevice(name);
  const next = draws(3);
  const values = () => Float32Array.from({ length: 24 }, next);
  const sample = (sigma: number, more: Partial<TrainingSample> = {}): TrainingSample & { text: Tensor } => ({
    clean: fromValues(device, values(), shape),
    noise: fromValues(device, values(), shape),
    sigma,
    text: fromValues(device, new Float32Array(3), [1, 3]),
    ...more,
  });
  const near = (actual: Float32Array, expected: readonly number[]) => {
    expect(actual.length).toBe(expected.length);
    for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 6);
  };

  it("clean latents and noise are mixed at each sample's level, and the target is their difference", async () => {
    using _scope = openScope(device);
    const batch = [sample(0), sample(0.3), sample(1)];
    const input = trainingInput(device, batch, 2).latents;
    expect(input.shape).toEqual([3, ...shape]);
    const expected: number[] = [];
    for (const { clean, noise, sigma } of batch) {
      const [x, n] = [await clean.read(), await noise.read()];
      expected.push(...x.map((value, i) => (1 - sigma) * value + sigma * n[i]!));
      near(
        await velocityTarget(clean, noise).read(),
        Array.from(x, (value, i) => n[i]! - value),
      );
    }
    near(await input.read(), expected);
  });

  it("a given first frame stays as it is, in every channel and in its own sample alone", async () => {
    using _scope = openScope(device);
    const [plain, led] = [sample(0.5), sample(0.5)];
    const batch = [plain, { ...led, condition: { firstFrame: led.clean } }];
    const input = await trainingInput(device, batch, 2).latents.read();
    for (const [s, { clean, noise }] of batch.entries()) {
      const [x, n] = [await clean.read(), await noise.read()];
      for (let i = 0; i < x.length; i++) {
        const given = s === 1 && i % (3 * plane) < plane;
        expect(input[s * x.length + i]).toBeCloseTo(given ? x[i]! : (x[i]! + n[i]!) / 2, 6);
      }
    }
  });

  it("a condition stands behind the latents: four mask channels, 1 on the first frame, then its own", async () => {
    using _scope = openScope(device);
    const encoded = values();
    const condition = pictureCondition("channels", fromValues(device, encoded, shape));
    const channels = condition.channels!;
    expect(channels.shape).toEqual([6, 3, 2, 2]);
    const mask = Array.from({ length: 4 * 3 * plane }, (_, i) => (i % (3 * plane) < plane ? 1 : 0));
    near(await channels.read(), [...mask, ...encoded]);
    const batch = [sample(1, { condition }), sample(1, { condition })];
    const input = trainingInput(device, batch, 2).latents;
    expect(input.shape).toEqual([2, 8, 3, 2, 2]);
    const expected: number[] = [];
    for (const { noise } of batch) expected.push(...(await noise.read()), ...mask, ...encoded);
    near(await input.read(), expected);
  });

  it("noise is that of its place, whatever was drawn before", async () => {
    using _scope = openScope(device);
    const draw = (index: number, within: number) => drawNoise(device, 7n, "noise", shape, { index, within }).read();
    const first = await draw(3, 1);
    await draw(3, 2);
    expect(await draw(3, 1)).toEqual(first);
    expect(await draw(3, 2)).not.toEqual(first);
    expect(await draw(4, 1)).not.toEqual(first);
    const expected = new Float32Array(24);
    philoxNormals(drawSeed(7n, "noise", 3, 1), 0, 0, expected);
    expect(first).toEqual(expected);
  });
});

it("a planned sample counts the noise that is drawn", () => {
  const device = createNullDevice();
  using _scope = openScope(device);
  const { clean } = plannedSample(device, wanModels["i2v-A14B"], { width: 832, height: 480, frames: 17 });
  expect(device.counters.byKernel.get("normal")?.elementwiseOps).toBe(clean.size);
});
