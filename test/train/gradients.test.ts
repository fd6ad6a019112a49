// A batch in one forward pass gives what its samples give one by one; given first frames and dropout behave.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { freshLora } from "../../src/lora/attach.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { LoraDropout } from "../../src/train/step/dropout.ts";
import { batchLosses, gatherBatchGradients, gatherGradients } from "../../src/train/step/gradients.ts";
import { plainObjective } from "../../src/train/step/losses.ts";
import type { TrainingSample } from "../../src/train/step/model-input.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const { device } = await openDevice("auto");

function samples(count: number): { list: TrainingSample[]; free: () => void } {
  const list = Array.from({ length: count }, (_, i): TrainingSample => {
    const { clean, noise, shape, text } = tinySample(i);
    return {
      clean: fromValues(device, clean, shape),
      noise: fromValues(device, noise, shape),
      sigma: 0.2 + 0.3 * i,
      text: fromValues(device, text, [3, tinyDitConfig.textDim]),
    };
  });
  const free = () => {
    for (const { clean, noise, text } of list) for (const tensor of [clean, noise, text]) tensor[Symbol.dispose]();
  };
  return { list, free };
}

const distance = (a: Float32Array, b: Float32Array): number =>
  Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);

describe("gradients of a batch", () => {
  it("are those of its samples, summed", async () => {
    const { model, weights } = tinyDit(device, { trainable: true });
    using _model = model;
    const { list, free } = samples(3);
    const singles: number[] = [];
    for (const sample of list) singles.push(await gatherGradients(model, sample, { weight: 1 / 3 }));
    const apart = new Map<string, Float32Array>();
    for (const [name, parameter] of weights.parameters) {
      apart.set(name, await parameter.gradient!.read());
      parameter.clearGradient();
    }
    const together = await gatherBatchGradients(model, list, { weight: 1 / 3, recompute: true });
    for (const [i, loss] of together.entries()) expect(loss).toBeCloseTo(singles[i]!, 5);
    for (const [name, parameter] of weights.parameters) {
      expect(distance(await parameter.gradient!.read(), apart.get(name)!), name).toBeLessThan(2e-5);
    }
    free();
  });

  it("are counted as gradients, apart from the step's temporaries", async () => {
    const { model, weights } = tinyDit(device, { trainable: true });
    using _model = model;
    const { list, free } = samples(1);
    const before = device.memory().byCategory.gradients.live;
    await gatherGradients(model, list[0]!);
    const expected = [...weights.parameters.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(device.memory().byCategory.gradients.live - before).toBe(expected);
    for (const parameter of weights.parameters.values()) parameter.clearGradient();
    expect(device.memory().byCategory.gradients.live).toBe(before);
    free();
  });

  it("leave a given first frame out of the loss and out of the noise", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const { list, free } = samples(1);
    using _scope = openScope(device);
    const given = { ...list[0]!, condition: { firstFrame: list[0]!.clean } };
    const [first] = batchLosses(model, [given]);
    const values = await given.noise.read();
    // Other noise on latent frame 0 of every channel: [4, 2, 4, 4].
    for (let channel = 0; channel < 4; channel++) values.fill(9, channel * 32, channel * 32 + 16);
    const [second] = batchLosses(model, [{ ...given, noise: fromValues(device, values, given.noise.shape) }]);
    expect(await second!.item()).toBe(await first!.item());
    const [without] = batchLosses(model, [list[0]!]);
    expect(await without!.item()).not.toBe(await first!.item());
    free();
  });
});

describe("weights of noise levels", () => {
  it("multiply the loss and its gradient, by musubi's thousand levels", async () => {
    const { model, weights } = tinyDit(device, { trainable: true });
    using _model = model;
    const { list, free } = samples(1);
    const gathered = async (weighting: string, sigma: number) => {
      const objective = { ...plainObjective, weighting: { kind: weighting, settings: {} } };
      const loss = await gatherGradients(model, { ...list[0]!, sigma }, { objective });
      const [parameter] = weights.parameters.values();
      const gradient = await parameter!.gradient!.read();
      for (const one of weights.parameters.values()) one.clearGradient();
      return { loss, gradient };
    };
    for (const [weighting, sigma, weight] of [
      ["sigma_sqrt", 0.5, 4],
      ["sigma_sqrt", 0.2504, 16],
      ["sigma_sqrt", 0, 1e6],
      ["cosmap", 0.5, 4 / Math.PI],
      ["cosmap", 1, 2 / Math.PI],
    ] as const) {
      const plain = await gathered("none", sigma);
      const weighted = await gathered(weighting, sigma);
      expect(weighted.loss / plain.loss).toBeCloseTo(weight, 4 - Math.ceil(Math.log10(weight)));
      const scaled = weighted.gradient.map((value) => value / weight);
      expect(distance(scaled, plain.gradient)).toBeLessThan(1e-5);
    }
    free();
  });
});

describe("dropout of adapters", () => {
  it("drops its share, keeps the mean, and draws the same when a block runs again", async () => {
    using dropout = new LoraDropout(device, 0.25);
    using _scope = openScope(device);
    const mask = dropout.of(3);
    expect(mask([4, 4], "f32")).toBeUndefined();
    dropout.begin(11n);
    const values = await mask([64, 256], "f32")!.read();
    expect(new Set(values)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    const share = values.filter((value) => value === 0).length / values.length;
    expect(share).toBeGreaterThan(0.235);
    expect(share).toBeLessThan(0.265);
    expect(await mask([64, 256], "f32")!.read()).toEqual(values);
    expect(await dropout.of(4)([64, 256], "f32")!.read()).not.toEqual(values);
    dropout.begin(12n);
    expect(await mask([64, 256], "f32")!.read()).not.toEqual(values);
    dropout.end();
    expect(mask([4, 4], "f32")).toBeUndefined();
  });

  it("gives one gradient whether blocks are kept or computed again", async () => {
    const { model } = tinyDit(device);
    using _model = model;
    const { list, free } = samples(2);
    using dropout = new LoraDropout(device, 0.5);
    const uniform = (count: number, module: number) =>
      Float32Array.from({ length: count }, (_, i) => (Math.sin(i * 3 + module) + 1) / 2);
    using lora = freshLora(
      model.linears(),
      { rank: 2, select: () => true, dropout: (module) => dropout.of(module) },
      uniform,
    );
    for (const { adapter } of lora.adapters) device.kernels.fill(adapter.parameters().get("up")!, 0.05);
    dropout.begin(5n);
    const runs: Float32Array[][] = [];
    for (const recompute of [false, true]) {
      await gatherBatchGradients(model, list, { recompute });
      const gradients: Float32Array[] = [];
      for (const parameter of lora.parameters().values()) {
        gradients.push(await parameter.gradient!.read());
        parameter.clearGradient();
      }
      runs.push(gradients);
    }
    for (const [i, gradient] of runs[1]!.entries()) expect(distance(gradient, runs[0]![i]!)).toBeLessThan(1e-5);
    dropout.end();
    free();
  });
});
