// A row is all that a model needs: one is added here as docs/extending.md says, planned, loaded, run and trained.
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import { checkTransformer } from "../../src/models/wan/check-files.ts";
import { planForward } from "../../src/models/wan/forward-cost.ts";
import { latentSize } from "../../src/models/wan/geometry.ts";
import { loadDit } from "../../src/models/wan/load.ts";
import { vae22, type WanModel, wanModels } from "../../src/models/wan/params.ts";
import { mediaOf } from "../../src/protocol/model-media.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { empty } from "../../src/tensor/tensor.ts";
import { clips } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyCheckpoint } from "../support/tiny-checkpoint.ts";
import { narrowSettings, stepsOf, trainAll } from "../support/training-run.ts";

/** Two experts over the 2.2 autoencoder: no published model is that. */
const model: WanModel = {
  name: "pair-48",
  family: "2.2",
  dit: { ...wanModels["tiny-ti2v"].dit, dim: 128, ffnDim: 160, heads: 1, layers: 2, frequencyDim: 32 },
  vae: vae22,
  image: "none",
  boundary: 0.8,
  defaults: { steps: 8, shift: 3, guidance: [2, 3], frames: 13, fps: 12, width: 96, height: 64 },
  clipSize: [64, 64],
};

const path = temporaryFolder();
const folder = path("pair");
const table: Record<string, WanModel> = wanModels;
beforeAll(async () => {
  table[model.name] = model;
  await writeTinyCheckpoint(join(folder, "checkpoint"), model);
  await clips(join(folder, "clips"), 2, { frames: 9, width: 64, height: 64 });
});

afterAll(() => {
  delete table[model.name];
});

it("its clips, sizes and plan follow from the row", () => {
  expect(mediaOf(model)).toEqual({
    fps: 12,
    sizeMultiple: 32,
    defaultSize: [64, 64],
    defaultFrames: 13,
    needsImage: false,
    textLength: model.dit.textLength,
  });
  expect(latentSize(model, model.defaults)).toEqual({ shape: [48, 4, 4, 6], tokens: 24 });
  expect(() => latentSize(model, { width: 80, height: 64, frames: 5 })).toThrowError(/pair-48 cannot make 80×64/);
  const plan = planForward(model, model.defaults, { dtype: "f32" });
  expect(plan).toMatchObject({ experts: 2, tokens: 24 });
});

it("its files are told from other models', and it runs", async () => {
  const file = join(folder, "checkpoint/high_noise_model/diffusion_pytorch_model.safetensors");
  expect(checkTransformer(file, model).kind).toBe("dit");
  expect(() => checkTransformer(file, wanModels["tiny-ti2v"])).toThrowError(
    expect.objectContaining({ code: "checkpoint.wrong-model" }),
  );
  const { device } = await openDevice("auto");
  {
    using dit = loadDit(device, file, { dtype: "f32" });
    using _scope = openScope(device);
    const { shape } = latentSize(model, model.defaults);
    const input = empty(device, [1, ...shape], "f32");
    device.kernels.normal(input, { seed: 1n, stream: 0, offset: 0 });
    const velocity = dit.forward({ latents: input, timesteps: [900], texts: [empty(device, [0, 128], "f32")] });
    expect(velocity.shape).toEqual([1, ...shape]);
    expect((await velocity.read()).every(Number.isFinite)).toBe(true);
  }
  device[Symbol.dispose]();
});

it("it trains, each expert in its turn", async () => {
  const settings = await narrowSettings(folder, {
    steps: 4,
    model: { name: model.name },
    experts: { switch_every: 4, high_share: 0.5 },
    dataset: { resolution: [64, 64] },
  });
  const { events } = await trainAll({ ...settings, model });
  expect(stepsOf(events).map(({ expert }) => expert)).toEqual(["high", "high", "low", "low"]);
});
