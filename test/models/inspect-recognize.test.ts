// The published models by their true names and shapes, in files of holes; relatives and LoRAs told apart.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { inspectWeights, type WeightReport } from "../../src/lora/inspect.ts";
import type { LoraFormat } from "../../src/lora/key-formats.ts";
import { umt5Xxl, type WanModelName, wanModels } from "../../src/models/wan/params.ts";
import { expertOfPath, type RecognizedDit } from "../../src/models/wan/recognize.ts";
import { vaeConfigs } from "../../src/models/wan/vae/config.ts";
import {
  clipVisionShapes,
  ditShapes,
  type Shapes,
  textEncoderShapes,
  vaeShapes,
} from "../../src/models/wan/weight-shapes.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { loraShapes, writeSparse } from "../support/wan-files.ts";

const path = temporaryFolder();

function inspect(file: string): WeightReport {
  using source = openTensorSource(file);
  return inspectWeights(source);
}

function transformer(name: string, shapes: Shapes): RecognizedDit {
  const [network] = inspect(writeSparse(path(name), shapes, "bf16")).networks;
  expect(network!.recognized.kind).toBe("dit");
  return network!.recognized as RecognizedDit;
}

describe("published models, by shapes alone", () => {
  const expected: [WanModelName, WanModelName[]][] = [
    ["t2v-1.3B", ["t2v-1.3B"]],
    ["t2v-14B", ["t2v-A14B", "t2v-14B"]],
    ["t2v-A14B", ["t2v-A14B", "t2v-14B"]],
    ["i2v-A14B", ["i2v-A14B"]],
    ["ti2v-5B", ["ti2v-5B"]],
    ["i2v-14B", ["i2v-14B"]],
    ["flf2v-14B", ["flf2v-14B"]],
  ];
  test.each(expected)("%s", (name, models) => {
    const { dit } = wanModels[name];
    const found = transformer("model.safetensors", ditShapes(dit));
    expect(found.config).toEqual(dit);
    expect(found.models).toEqual(models);
    expect(found.expert).toBeUndefined();
    const [network] = inspect(path("model.safetensors")).networks;
    expect(network!.complete).toBe(true);
  });

  test("parameter counts are those the models are named after", () => {
    const billions: [WanModelName, number][] = [
      ["t2v-A14B", 14.3],
      ["i2v-A14B", 14.3],
      ["ti2v-5B", 5],
      ["t2v-1.3B", 1.4],
      ["t2v-14B", 14.3],
      ["i2v-14B", 16.4],
      ["flf2v-14B", 16.4],
    ];
    for (const [name, count] of billions) {
      const [network] = inspect(writeSparse(path("count.safetensors"), ditShapes(wanModels[name].dit), "f32")).networks;
      expect([name, Math.round(network!.parameters / 1e8) / 10]).toEqual([name, count]);
    }
  });

  test("autoencoders and encoders", () => {
    const clip = { imageSize: 224, patchSize: 14, dim: 1280, mlpDim: 5120, heads: 16, layers: 32, projectionDim: 1024 };
    const rows: [Shapes, object, string][] = [
      [vaeShapes(vaeConfigs.vae21), vaeConfigs.vae21, "Wan 2.1 video autoencoder"],
      [vaeShapes(vaeConfigs.vae22), vaeConfigs.vae22, "Wan 2.2 video autoencoder"],
      [textEncoderShapes(umt5Xxl), umt5Xxl, "UMT5-XXL"],
      [clipVisionShapes(clip), clip, "CLIP ViT-H/14"],
    ];
    for (const [shapes, config, label] of rows) {
      const [network] = inspect(writeSparse(path("other.safetensors"), shapes, "bf16")).networks;
      expect(network!.recognized.config).toEqual(config);
      expect(network!.recognized.label).toContain(label);
      expect(network!.complete).toBe(true);
    }
  });

  test("a path settles which expert a file is", () => {
    mkdirSync(path("high_noise_model"));
    const found = transformer("high_noise_model/model.safetensors", ditShapes(wanModels["t2v-A14B"].dit));
    expect(found).toMatchObject({ models: ["t2v-A14B"], expert: "high" });
    expect(found.label).toBe("Wan 2.2 t2v-A14B, the high-noise expert");
    // The 5B has no experts, whatever its name says.
    expect(transformer("5B_high.safetensors", ditShapes(wanModels["ti2v-5B"].dit)).expert).toBeUndefined();
  });

  test("relatives that Kinora does not run are named for what they add", () => {
    const rows: [string, string][] = [
      ["vace_patch_embedding.weight", "VACE"],
      ["face_adapter.fuser_blocks.0.k_norm.weight", "Animate"],
      ["casual_audio_encoder.encoder.final_linear.weight", "S2V"],
      ["control_adapter.conv.weight", "camera"],
      ["ref_conv.weight", "reference"],
    ];
    for (const [name, variant] of rows) {
      const shapes = ditShapes(wanModels["t2v-1.3B"].dit).set(name, [4, 4]);
      expect(transformer("relative.safetensors", shapes).variant).toContain(variant);
      expect(inspect(path("relative.safetensors")).networks[0]!.problems.unexpected).toEqual([{ name }]);
    }
  });

  test("T5 is told from UMT5 by its one position bias", () => {
    const shapes = textEncoderShapes({ ...umt5Xxl, vocabulary: 32128 });
    for (let i = 1; i < umt5Xxl.layers; i++) shapes.delete(`blocks.${i}.pos_embedding.embedding.weight`);
    const [network] = inspect(writeSparse(path("t5.safetensors"), shapes, "bf16")).networks;
    expect(network!.recognized).toMatchObject({
      label: "a T5 encoder",
      notes: [expect.stringContaining("not the UMT5")],
    });
    expect(network!.problems.missing.length).toBe(23);
  });

  test.each([
    ["models/wan2.2_t2v_high_noise_14B_fp16.safetensors", "high"],
    ["Wan2.2-I2V-A14B/low_noise_model/x.safetensors.index.json", "low"],
    ["my_style_000001000_low_noise.safetensors", "low"],
    ["style-HIGH.safetensors", "high"],
    ["style-LowNoise.safetensors", "low"],
    ["pipe/transformer_2/diffusion_pytorch_model.safetensors", "low"],
    ["highlands.safetensors", undefined],
    ["slow_motion.safetensors", undefined],
    ["high_noise/elsewhere/plain.safetensors", undefined],
    ["low_vram/plain.safetensors", undefined],
  ])("the expert in %s", (name, expert) => {
    expect(expertOfPath(name)).toBe(expert);
  });
});

describe("LoRAs, by names and shapes", () => {
  const usual = /^blocks\.\d+\.(?:(?:self|cross)_attn\.(?:q|k|v|o|k_img|v_img)|ffn\.[02])$/;
  const formats: LoraFormat[] = ["kohya", "peft", "diffusers", "diffsynth"];
  const alpha = { dtype: "f32" as const, bytes: fromFloat32(Float32Array.of(8), "f32") };

  function lora(name: string, shapes: Shapes, metadata: Record<string, string> = {}) {
    const values = Object.fromEntries(
      [...shapes.keys()].filter((key) => key.endsWith(".alpha")).map((key) => [key, alpha]),
    );
    const report = inspect(writeSparse(path(name), shapes, "bf16", { metadata, values }));
    expect(report.networks).toEqual([]);
    return report.lora!;
  }

  const counts: [WanModelName, number, WanModelName][] = [
    ["t2v-1.3B", 300, "t2v-1.3B"],
    ["ti2v-5B", 300, "ti2v-5B"],
    ["t2v-A14B", 400, "t2v-A14B"],
    ["i2v-14B", 480, "i2v-14B"],
  ];
  for (const format of formats) {
    test.each(counts)(`${format}: %s has %i modules`, (model, modules, likeliest) => {
      const found = lora("lora.safetensors", loraShapes(format, wanModels[model].dit, usual, 16));
      expect(found.modules.length).toBe(modules);
      expect(found).toMatchObject({ formats: [format], ranks: [16], unmatched: [], hasAlpha: format === "kohya" });
      expect(found.alphas).toEqual([format === "kohya" ? 8 : 16]);
      expect(found.models[0]).toBe(likeliest);
      expect(found.models).not.toContain(model === "ti2v-5B" ? "t2v-1.3B" : "ti2v-5B");
    });
  }

  test("what fits by width alone comes after what it was likely made for", () => {
    const found = lora("order.safetensors", loraShapes("peft", wanModels["t2v-14B"].dit, usual, 4));
    expect(found.models).toEqual(["t2v-A14B", "i2v-A14B", "t2v-14B", "i2v-14B", "flf2v-14B"]);
    const image = lora("image.safetensors", loraShapes("peft", wanModels["i2v-14B"].dit, usual, 4));
    expect(image.models).toEqual(["i2v-14B", "flf2v-14B"]);
    const patch = lora(
      "patch.safetensors",
      loraShapes("peft", wanModels["i2v-A14B"].dit, /^(?:head\.head|blocks\.\d+\.ffn\.0)$/, 4),
    );
    expect(patch.models).toContain("i2v-A14B");
  });

  test("the expert, from metadata, the file's name, or diffusers' second transformer", () => {
    const shapes = loraShapes("kohya", wanModels["t2v-A14B"].dit, usual, 4);
    expect(lora("a.safetensors", shapes, { "modelspec.timestep_range": "875,1000" }).expert).toBe("high");
    expect(lora("a.safetensors", shapes, { "modelspec.timestep_range": "0,875" }).expert).toBe("low");
    expect(lora("a.safetensors", shapes, { "modelspec.timestep_range": "0,1000" }).expert).toBeUndefined();
    expect(lora("style_low_noise.safetensors", shapes).expert).toBe("low");
    expect(lora("style_low_noise.safetensors", shapes).label).toContain("LoRA for the low-noise expert, fits t2v-A14B");
    const second = new Map(
      [...loraShapes("diffusers", wanModels["t2v-A14B"].dit, usual, 4)].map(([name, shape]) => [
        name.replace("transformer.", "transformer_2."),
        shape,
      ]),
    );
    expect(lora("a.safetensors", second).expert).toBe("low");
  });

  test("diffusers' alpha in the metadata", () => {
    const shapes = loraShapes("diffusers", wanModels["t2v-1.3B"].dit, usual, 16);
    const metadata = (fields: object) => ({ lora_adapter_metadata: JSON.stringify(fields) });
    const plain = lora("m.safetensors", shapes, metadata({ "transformer.r": 16, "transformer.lora_alpha": 32 }));
    expect([plain.alphas, plain.hasAlpha]).toEqual([[32], true]);
    const stabilised = lora(
      "m.safetensors",
      shapes,
      metadata({ "transformer.lora_alpha": 32, "transformer.use_rslora": true }),
    );
    expect(stabilised.alphas).toEqual([128]);
  });

  test("other kinds of adapters, strays and torn pairs are named", () => {
    const shapes = loraShapes("kohya", wanModels["t2v-1.3B"].dit, /^blocks\.0\.self_attn\.[qk]$/, 4);
    shapes.set("lora_unet_blocks_0_self_attn_q.dora_scale", [1536, 1]);
    shapes.set("lora_unet_blocks_1_ffn_0.hada_w1_a", [8960, 4]).set("lora_unet_blocks_1_ffn_0.hada_w1_b", [4, 1536]);
    shapes.set("lora_unet_blocks_2_ffn_0.lokr_w1", [4, 4]).set("diffusion_model.blocks.3.norm3.diff", [1536]);
    shapes.set("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", [4, 4]);
    shapes.set("lora_unet_blocks_9_ffn_2.lora_down.weight", [4, 8960]);
    shapes
      .set("lora_unet_blocks_8_ffn_2.lora_down.weight", [4, 8960])
      .set("lora_unet_blocks_8_ffn_2.lora_up.weight", [1536, 3]);
    shapes.set("lora_unet_blocks_1_ffn_2.oft_blocks", [4, 4, 4]);
    const found = lora("kinds.safetensors", shapes);
    expect(found.modules.map(({ module }) => module)).toEqual([
      "blocks.0.self_attn.k",
      "blocks.0.self_attn.q",
      "blocks.3.norm3",
    ]);
    expect(Object.fromEntries(found.kinds)).toEqual({ LoRA: 1, DoRA: 1, "whole differences": 1 });
    expect(Object.fromEntries(found.others)).toEqual({ OFT: 1 });
    expect(found.unmatched.map(({ name }) => name).sort()).toEqual([
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
      "lora_unet_blocks_1_ffn_0.hada_w1_a",
      "lora_unet_blocks_1_ffn_0.hada_w1_b",
      "lora_unet_blocks_2_ffn_0.lokr_w1",
      "lora_unet_blocks_9_ffn_2.lora_down.weight",
    ]);
    expect(found.refused.map(({ names }) => names)).toEqual([
      ["lora_unet_blocks_8_ffn_2.lora_down.weight", "lora_unet_blocks_8_ffn_2.lora_up.weight"],
    ]);
    expect(found.label).toContain("LoRA with");
  });

  test("a LoRA for no published model says its width", () => {
    const tiny = { ...wanModels["t2v-1.3B"].dit, dim: 256, layers: 3 };
    expect(lora("tiny.safetensors", loraShapes("peft", tiny, usual, 4)).label).toBe(
      "LoRA, fits no published Wan model (it is for 3 blocks of width 256)",
    );
  });

  test("shards of a folder are inspected as one", () => {
    const folder = path("folder");
    mkdirSync(folder);
    writeSparse(join(folder, "only.safetensors"), loraShapes("peft", wanModels["t2v-1.3B"].dit, usual, 4), "f16");
    expect(inspect(folder).lora!.modules.length).toBe(300);
  });
});
