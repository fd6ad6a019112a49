import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import {
  alphaOfMetadata,
  formatHasAlpha,
  type LoraFormat,
  loraNames,
  parseLoraNames,
} from "../../src/lora/key-formats.ts";
import { adaptersFrom } from "../../src/lora/read.ts";
import { ditNames } from "../../src/models/wan/weight-names.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";

const formats: LoraFormat[] = ["kohya", "peft", "diffusers", "diffsynth"];

const modules = [
  ...["q", "k", "v", "o"].flatMap((part) => [`blocks.7.self_attn.${part}`, `blocks.31.cross_attn.${part}`]),
  ...["blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "blocks.12.ffn.0", "blocks.12.ffn.2"],
  ...["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"],
  ...["head.head", "patch_embedding", "img_emb.proj.1", "img_emb.proj.3"],
];

describe("names of each format", () => {
  test("as the tools themselves write them", () => {
    expect(loraNames("kohya", "blocks.3.cross_attn.k_img")).toEqual({
      down: "lora_unet_blocks_3_cross_attn_k_img.lora_down.weight",
      up: "lora_unet_blocks_3_cross_attn_k_img.lora_up.weight",
      alpha: "lora_unet_blocks_3_cross_attn_k_img.alpha",
    });
    expect(loraNames("peft", "blocks.3.self_attn.o")).toEqual({
      down: "diffusion_model.blocks.3.self_attn.o.lora_A.weight",
      up: "diffusion_model.blocks.3.self_attn.o.lora_B.weight",
    });
    expect(loraNames("diffusers", "blocks.3.self_attn.o").down).toBe(
      "transformer.blocks.3.attn1.to_out.0.lora_A.weight",
    );
    expect(loraNames("diffusers", "blocks.3.ffn.0", "low").up).toBe(
      "transformer_2.blocks.3.ffn.net.0.proj.lora_B.weight",
    );
    expect(loraNames("diffsynth", "blocks.3.ffn.2").down).toBe("blocks.3.ffn.2.lora_A.default.weight");
  });

  test.each(formats)("%s: every module comes back from its names", (format) => {
    const names = modules.flatMap((module) => Object.values(loraNames(format, module)));
    const parsed = parseLoraNames(names);
    expect(parsed).toMatchObject({ formats: [format], others: [], unmatched: [] });
    expect(parsed.modules).toEqual(modules.map((module) => ({ module, ...loraNames(format, module) })));
    expect(parsed.modules.every(({ alpha }) => (alpha !== undefined) === formatHasAlpha[format])).toBe(true);
  });

  test("a module that diffusers does not have", () => {
    try {
      loraNames("diffusers", "blocks.0.nothing.here");
      expect.unreachable();
    } catch (error) {
      expect(isKinoraError(error, "lora.unknown-module")).toBe(true);
    }
  });
});

describe("spellings in the wild", () => {
  const q = "blocks.0.self_attn.q";
  const spellings: [string, string, string, string][] = [
    [
      "Wan-Fun",
      "lora_unet__blocks_0_self_attn_q.lora_down.weight",
      "lora_unet__blocks_0_self_attn_q.lora_up.weight",
      "kohya",
    ],
    [
      "OneTrainer",
      "lora_transformer_blocks_0_attn1_to_q.lora_down.weight",
      "lora_transformer_blocks_0_attn1_to_q.lora_up.weight",
      "kohya",
    ],
    ["LyCORIS", "lycoris_blocks_0_attn1_to_q.lora_down.weight", "lycoris_blocks_0_attn1_to_q.lora_up.weight", "kohya"],
    [
      "ComfyUI with kohya's endings",
      "diffusion_model.blocks.0.self_attn.q.lora_down.weight",
      "diffusion_model.blocks.0.self_attn.q.lora_up.weight",
      "peft",
    ],
    [
      "a full prefix",
      "model.diffusion_model.blocks.0.self_attn.q.lora_A.weight",
      "model.diffusion_model.blocks.0.self_attn.q.lora_B.weight",
      "peft",
    ],
    [
      "PEFT's wrapper",
      "base_model.model.blocks.0.self_attn.q.lora_A.weight",
      "base_model.model.blocks.0.self_attn.q.lora_B.weight",
      "diffsynth",
    ],
    [
      "DiffSynth's pipeline",
      "pipe.dit.blocks.0.self_attn.q.lora_A.default.weight",
      "pipe.dit.blocks.0.self_attn.q.lora_B.default.weight",
      "diffsynth",
    ],
    [
      "official names under diffusers' prefix",
      "transformer.blocks.0.self_attn.q.lora_A.weight",
      "transformer.blocks.0.self_attn.q.lora_B.weight",
      "diffusers",
    ],
    [
      "old diffusers",
      "transformer.blocks.0.attn1.to_q.lora.down.weight",
      "transformer.blocks.0.attn1.to_q.lora.up.weight",
      "diffusers",
    ],
    ["no ending", "blocks.0.self_attn.q.lora_A", "blocks.0.self_attn.q.lora_B", "diffsynth"],
    [
      "a named adapter",
      "diffusion_model.blocks.0.self_attn.q.lora_A.style.weight",
      "diffusion_model.blocks.0.self_attn.q.lora_B.style.weight",
      "peft",
    ],
    ["bare diffusers names", "blocks.0.attn1.to_q.lora_A.weight", "blocks.0.attn1.to_q.lora_B.weight", "diffusers"],
  ];
  test.each(spellings)("%s", (_, down, up, format) => {
    expect(parseLoraNames([down, up])).toMatchObject({
      formats: [format],
      modules: [{ module: q, down, up }],
      others: [],
      unmatched: [],
    });
  });

  test("lightx2v's changes of norms, biases and modulation", () => {
    const names = [
      "diffusion_model.blocks.0.norm3.diff",
      "diffusion_model.blocks.0.self_attn.q.diff_b",
      "diffusion_model.blocks.0.diff_m",
      "diffusion_model.head.diff_m",
      "diffusion_model.patch_embedding.diff",
      "diffusion_model.blocks.0.ffn.0.lora_B.bias",
    ];
    const parsed = parseLoraNames(names);
    expect(parsed.others.map(({ module, kind }) => [module, kind])).toEqual([
      ["blocks.0.norm3", "diff"],
      ["blocks.0.self_attn.q", "diff"],
      ["blocks.0.modulation", "diff"],
      ["head.modulation", "diff"],
      ["patch_embedding", "diff"],
      ["blocks.0.ffn.0", "bias"],
    ]);
  });

  test("any names at all: each ends in exactly one list", () => {
    const pieces = fc.constantFrom(
      "lora_unet_",
      "diffusion_model.",
      "transformer.",
      "blocks.0.",
      "blocks_1_",
      "self_attn.q",
      "ffn_0",
      "to_q",
      ".lora_A.weight",
      ".lora_up.weight",
      ".alpha",
      ".diff",
      ".dora_scale",
      "x",
      ".",
    );
    const names = fc.uniqueArray(
      fc.array(pieces, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("")),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(names, (list) => {
        const { modules, others, unmatched } = parseLoraNames(list);
        const used = modules.flatMap(({ down, up, alpha }) => [down, up, ...(alpha === undefined ? [] : [alpha])]);
        expect([...used, ...others.map(({ name }) => name), ...unmatched.map(({ name }) => name)].sort()).toEqual(
          [...list].sort(),
        );
      }),
      { numRuns: 500 },
    );
  });

  test.skipIf(!sharedFolder)(`the reference adapters${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`, () => {
    for (const format of ["kohya", "peft"] as const) {
      using file = SafetensorsFile.open(`${sharedFolder}golden/lora-apply.${format}.safetensors`);
      expect(parseLoraNames(file.names)).toMatchObject({ formats: [format], others: [], unmatched: [] });
      expect(parseLoraNames(file.names).modules.length).toBe(20);
    }
  });
});

test("diffusers' metadata that cannot be read is an error; none is no alpha", () => {
  expect(alphaOfMetadata({}, 4)).toBeUndefined();
  expect(alphaOfMetadata({ lora_adapter_metadata: "[]" }, 4)).toBeUndefined();
  expect(() => alphaOfMetadata({ lora_adapter_metadata: "{" }, 4)).toThrowError("no JSON");
});

test("what cannot be read comes with a hint", () => {
  const shape = () => [2, 2];
  const tensors = { shape, values: () => new Float32Array(4) };
  const names = Object.values(loraNames("peft", "blocks.0.self_attn.q"));
  const hinted = expect.objectContaining({ hint: expect.stringMatching(/./) });
  expect(() => alphaOfMetadata({ lora_adapter_metadata: "{" }, 4)).toThrow(hinted);
  expect(() => loraNames("diffusers", "blocks.0.nothing.here")).toThrow(hinted);
  expect(() => adaptersFrom({ ...tensors, names: [...names, "text_model.q.lora_down.weight"] })).toThrow(hinted);
  expect(() => adaptersFrom({ ...tensors, names, shape: (name) => (/A/.test(name) ? [3, 2] : [2, 2]) })).toThrow(
    hinted,
  );
});

test("diffusers' swap of the second and third norm goes both ways", () => {
  expect(ditNames.fromOfficial("blocks.4.norm3.weight")).toBe("blocks.4.norm2.weight");
  expect(ditNames.toOfficial("blocks.4.norm2.bias")).toEqual({ name: "blocks.4.norm3.bias" });
});
