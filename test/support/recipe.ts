// A recipe that uses every part, for tests of what carries recipes.
import type { Recipe } from "../../src/protocol/recipe.ts";

export const hashOf = (digit: string) => digit.repeat(64);

export const recipe: Recipe = {
  kind: "kinora.recipe",
  version: 1,
  kinora: "0.1.0",
  task: "tiny-t2v",
  prompt: "a red circle",
  negative: "",
  seed: "-9223372036854775808",
  noise: "torch-cuda:RTX 4090",
  sampler: "unipc",
  steps: 3,
  shift: 5,
  guidance: { low: 3, high: 4 },
  boundary: 0.875,
  size: { width: 64, height: 64 },
  video: { width: 64, height: 64 },
  frames: 9,
  fps: 16,
  weights: {
    high: { name: "high", sha256: hashOf("1") },
    low: { name: "low", sha256: hashOf("2") },
    vae: { name: "vae", sha256: hashOf("3") },
    textEncoder: { name: "t5", sha256: hashOf("4") },
    tokenizer: { name: "tokenizer.json", sha256: hashOf("5") },
  },
  loras: [{ name: "style.safetensors", sha256: hashOf("6"), strength: 0.5, expert: "high" }],
  dtype: "f32",
  device: "cpu",
};
