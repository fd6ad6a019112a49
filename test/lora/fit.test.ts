// Whether modules of a LoRA go on a model's layers, from names and sizes alone.
import { expect, it } from "vitest";
import { checkFit, fits, layersOf } from "../../src/lora/fit.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";

const { dit } = wanModels["tiny-t2v"];
const layers = layersOf(ditShapes(dit));
const words = { message: "it does not fit", hint: "take another" };
const square = { inputs: dit.dim, outputs: dit.dim };

it("knows matrices and convolutions by name, and nothing that is no layer", () => {
  expect(layers.get("blocks.0.self_attn.q")).toEqual(square);
  expect(layers.get("patch_embedding")).toEqual({ inputs: dit.inputChannels * 4, outputs: dit.dim });
  expect(layers.has("blocks.0.self_attn.norm_q")).toBe(false);
});

it("lists what does not fit: the widths, or the nearest layer", () => {
  const right = { module: "blocks.0.self_attn.q", ...square };
  const wide = { module: "blocks.0.self_attn.k", inputs: 7, outputs: dit.dim };
  const mistyped = { module: "blocks.0.self_atn.v", ...square };
  const norm = { module: "blocks.0.self_attn.norm_q", inputs: 1, outputs: dit.dim };
  expect([right, wide, mistyped, norm].map((module) => fits(layers, module))).toEqual([true, false, false, false]);
  checkFit(layers, [right], words);
  expect(() => checkFit(layers, [right, wide, mistyped, norm], words)).toThrow(
    expect.objectContaining({
      code: "lora.unmatched",
      message: expect.stringMatching(/^it does not fit; got 3 of 4 modules do not fit: .*self_attn\.k \(7 → \d+; the/),
      actual: expect.stringContaining("blocks.0.self_atn.v (no such layer; nearest blocks.0.self_attn."),
      hint: "take another",
    }),
  );
});

it("lists ten of many", () => {
  const many = Array.from({ length: 12 }, (_, i) => ({ module: `blocks.${100 + i}.x`, ...square }));
  expect(() => checkFit(layers, many, words)).toThrow(/12 of 12 modules do not fit: .* and 2 more$/);
});
