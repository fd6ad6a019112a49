// The table of models, and what data sets and the command line read from it.
import { describe, expect, it } from "vitest";
import { mediaOf, modelNameSchema, modelNames, runnableModels } from "../../src/protocol/model-media.ts";
import { type WanModel, wanModels } from "../../src/protocol/models.ts";

describe("the table of models", () => {
  it("calls every row by its key", () => {
    expect(Object.entries(wanModels).map(([key, { name }]) => [key, name])).toEqual(modelNames.map((n) => [n, n]));
  });

  it.each([
    ["t2v-A14B", 16, 16, [832, 480], 81, false],
    ["i2v-A14B", 16, 16, [832, 480], 81, true],
    ["flf2v-14B", 16, 16, [832, 480], 81, true],
    ["t2v-1.3B", 16, 16, [832, 480], 81, false],
    ["ti2v-5B", 24, 32, [1280, 704], 121, false],
    ["tiny-t2v", 16, 16, [64, 64], 9, false],
    ["tiny-ti2v", 24, 32, [128, 128], 9, false],
  ] as const)("%s: what its clips are like follows from its row", (name, fps, multiple, size, frames, needsImage) => {
    expect(mediaOf(wanModels[name])).toEqual({
      fps,
      sizeMultiple: multiple,
      defaultSize: size,
      defaultFrames: frames,
      needsImage,
      textLength: wanModels[name].dit.textLength,
    });
  });

  it("has defaults that each model can make", () => {
    for (const model of Object.values<WanModel>(wanModels)) {
      const { sizeMultiple, defaultSize, defaultFrames } = mediaOf(model);
      expect([...defaultSize, model.defaults.width, model.defaults.height].map((side) => side % sizeMultiple)).toEqual([
        0, 0, 0, 0,
      ]);
      expect(defaultFrames % model.vae.stride[0]).toBe(1);
    }
  });

  it("offers what runs, and knows the names of the others", () => {
    expect(modelNames.filter((name) => !runnableModels.includes(name))).toEqual(["i2v-14B", "flf2v-14B"]);
    expect(modelNameSchema.safeParse("i2v-14B").success).toBe(true);
  });
});
