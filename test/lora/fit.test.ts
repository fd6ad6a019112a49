// Whether modules of a LoRA go on a model's layers, from names and sizes alone.
import { expect, it } from "vitest";
import { checkFit, fits, layersOf } from "../../src/lora/fit.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";

const { dit } = wanModels["tiny-t2v"];
const shapes = ditShapes(dit);
const layers = layersOf(shapes);
const words = { message: "it does not fit", hint: "take another" };
const square = { inputs: dit.dim, outputs: dit.dim };

it("knows matrices and convolutions by name, and nothing that is no layer", () => {
  expect(layers.get("blocks.0.self_attn.q")).toEqual(square);
  expect(layers.get("patch_embedding")).toEqual({ inputs: dit.inputChannels * 4, outputs: dit.dim });
  expect(layers.has("blocks.0.self_attn.norm_q")).toBe(false);
});

it("lists what does not fit: the widths, or the nearest layer", () => {
  const at = (parameter: string, ...shape: number[]) => ({ parameter, shape });
  const right = at("blocks.0.self_attn.q.weight", dit.dim, dit.dim);
  const wide = at("blocks.0.self_attn.k.weight", dit.dim, 7);
  const mistyped = at("blocks.0.self_atn.v.weight", dit.dim, dit.dim);
  const bias = at("blocks.0.self_attn.norm_q.bias", dit.dim);
  expect([right, wide, mistyped, bias].map((place) => fits(shapes, place))).toEqual([true, false, false, false]);
  // Norms and tables, a convolution's kernel flattened or not, and leading ones do not matter.
  expect(fits(shapes, at("blocks.0.self_attn.norm_q.weight", dit.dim))).toBe(true);
  expect(fits(shapes, at("blocks.0.modulation", 6, dit.dim))).toBe(true);
  expect(fits(shapes, at("blocks.0.modulation", 1, 6, dit.dim))).toBe(true);
  expect(fits(shapes, at("patch_embedding.weight", dit.dim, dit.inputChannels * 4))).toBe(true);
  expect(fits(shapes, at("patch_embedding.weight", dit.dim, dit.inputChannels, 1, 2, 2))).toBe(true);
  checkFit(shapes, [right], words);
  expect(() => checkFit(shapes, [right, wide, mistyped, bias], words)).toThrow(
    expect.objectContaining({
      code: "lora.unmatched",
      message: expect.stringMatching(/^it does not fit; got 3 of 4 modules do not fit: .*self_attn\.k \(7 → \d+; the/),
      actual: expect.stringContaining("blocks.0.self_atn.v (no such layer; nearest blocks.0.self_attn."),
      hint: "take another",
    }),
  );
});

it("lists ten of many", () => {
  const many = Array.from({ length: 12 }, (_, i) => ({ parameter: `blocks.${100 + i}.x.weight`, shape: [1, 2] }));
  expect(() => checkFit(shapes, many, words)).toThrow(/12 of 12 modules do not fit: .* and 2 more$/);
});
