// Every layout that Kinora reads, written by the generators of test/support: recognised, complete, and the same values.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { toFloat32 } from "../../src/base/float-formats.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { inspectWeights, type NetworkReport } from "../../src/lora/inspect.ts";
import { findComponents } from "../../src/models/wan/weight-names.ts";
import { clipVisionShapes, ditShapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { checkWeights, mapWeights, readWeights } from "../../src/models/wan/weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  clipInTransformers,
  type Fp8Style,
  inDiffusers,
  type NamedTensor,
  quantized,
  randomTensors,
  textEncoderInTransformers,
  tinyClip,
  tinyDit,
  tinyDitWithImage,
  tinyTextEncoder,
  tinyVae21,
  tinyVae22,
  transformersShapes,
  withPrefix,
  writeFile,
  writePth,
  writeSharded,
} from "../support/wan-files.ts";

const path = temporaryFolder();

const networks = {
  dit: { shapes: ditShapes(tinyDit), config: tinyDit },
  "dit with image": { shapes: ditShapes(tinyDitWithImage), config: tinyDitWithImage },
  vae21: { shapes: vaeShapes(tinyVae21), config: tinyVae21 },
  vae22: { shapes: vaeShapes(tinyVae22), config: tinyVae22 },
  "text-encoder": { shapes: textEncoderShapes(tinyTextEncoder), config: tinyTextEncoder },
  "clip-vision": { shapes: clipVisionShapes(tinyClip), config: tinyClip },
};
type Network = keyof typeof networks;

const official = (network: Network, dtype: DType = "bf16") => randomTensors(networks[network].shapes, dtype);

/** The only network of a file, which must be whole. */
function complete(file: string): NetworkReport {
  using source = openTensorSource(file);
  const report = inspectWeights(source);
  expect(report.failures).toEqual([]);
  expect(report.networks.length).toBe(1);
  const [network] = report.networks;
  expect(network!.problems).toEqual({ missing: [], unexpected: [], wrongShape: [], wrongDtype: [] });
  expect(network!.complete).toBe(true);
  return network!;
}

/** Reads a file by official names and compares with the tensors it was made from. */
function sameValues(file: string, network: Network, tensors: readonly NamedTensor[], tolerance = 0): void {
  const { shapes } = networks[network];
  using source = openTensorSource(file);
  const [component] = findComponents(source.names);
  using reader = readWeights(source, component!, shapes);
  for (const { name, shape, dtype, bytes } of tensors) {
    const stored = reader.find(name)!;
    expect([name, stored.shape]).toEqual([name, shape]);
    if (tolerance === 0 || !stored.scale) {
      expect(stored.dtype).toBe(dtype);
      expect(Buffer.from(stored.bytes()).equals(Buffer.from(bytes))).toBe(true);
      continue;
    }
    const values = toFloat32(stored.bytes(), stored.dtype);
    const group = values.length / stored.scale.values.length;
    const wanted = toFloat32(bytes, dtype);
    const largest = wanted.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    let worst = 0;
    for (const [i, value] of values.entries()) {
      worst = Math.max(worst, Math.abs(value * stored.scale.values[Math.floor(i / group)]! - wanted[i]!));
    }
    expect(worst).toBeLessThan(tolerance * largest);
  }
}

describe("official names", () => {
  test.each(Object.keys(networks) as Network[])("%s as safetensors, shards and a torch archive", async (network) => {
    const tensors = official(network);
    const files = [
      await writeFile(path("official.safetensors"), tensors),
      await writeSharded(path("official.safetensors.index.json"), tensors),
      writePth(path("official.pth"), tensors),
      writePth(path("wrapped.pth"), tensors, { wrapper: "state_dict" }),
    ];
    for (const file of files) {
      const found = complete(file);
      expect(found.layout).toBe("official");
      expect(found.recognized.config).toEqual(networks[network].config);
      sameValues(file, network, tensors);
    }
  });

  test.each(["model.diffusion_model.", "diffusion_model.", "module.", "_orig_mod."])("prefix %s", async (prefix) => {
    const tensors = official("dit", "f16");
    const file = await writeFile(path("prefix.safetensors"), withPrefix(tensors, prefix));
    expect(complete(file)).toMatchObject({ layout: "official", prefix });
    sameValues(file, "dit", tensors);
  });

  test("dtypes as users have them", async () => {
    for (const dtype of ["f32", "f16", "f8e4m3", "f8e5m2"] as const) {
      const tensors = official("dit", dtype);
      const file = await writeFile(path("dtype.safetensors"), tensors);
      const found = complete(file);
      expect([...found.quantized.keys()]).toEqual(dtype.startsWith("f8") ? [`${dtype}, no scale`] : []);
      sameValues(file, "dit", tensors);
    }
  });

  test("dimensions of 1 that a tool dropped, and the patch convolution kept as a Linear", async () => {
    const tensors = official("dit").map((tensor) => {
      if (tensor.name.endsWith("modulation")) return { ...tensor, shape: tensor.shape.slice(1) };
      return tensor.name === "patch_embedding.weight" ? { ...tensor, shape: [128, 64] } : tensor;
    });
    const file = await writeFile(path("squeezed.safetensors"), tensors);
    expect(complete(file).recognized.config).toEqual(tinyDit);
    sameValues(file, "dit", official("dit"));
  });
});

describe("fp8 with scales", () => {
  const styles: [Fp8Style, string[]][] = [
    ["scale_weight", ["f8e4m3, a scale per tensor"]],
    ["weight_scale", ["f8e4m3, a scale per tensor"]],
    ["musubi blocks", ["f8e4m3, a scale per 64 inputs of a row"]],
    ["per row", ["f8e4m3, a scale per row"]],
  ];
  test.each(styles)("%s", async (style, expected) => {
    const tensors = official("dit");
    const file = await writeFile(
      path("fp8.safetensors"),
      withPrefix(quantized(tensors, style), "model.diffusion_model."),
    );
    const found = complete(file);
    expect([...found.quantized.keys()]).toEqual(expected);
    expect([...found.quantized.values()]).toEqual([20]);
    sameValues(file, "dit", tensors, 1 / 16);
  });

  test("the layers named in the file's metadata instead, and fp8 hidden in bytes", async () => {
    const tensors = official("dit");
    const layers: Record<string, object> = {};
    const hidden = quantized(tensors, "weight_scale").flatMap((tensor): NamedTensor[] => {
      if (tensor.name.endsWith(".comfy_quant")) return [];
      if (tensor.dtype !== "f8e4m3") return [tensor];
      layers[tensor.name.slice(0, -".weight".length)] = { format: "float8_e4m3fn" };
      return [{ ...tensor, dtype: "u8" }];
    });
    const metadata = { _quantization_metadata: JSON.stringify({ format_version: "1.0", layers }) };
    const file = await writeFile(path("metadata.safetensors"), withPrefix(hidden, "diffusion_model."), metadata);
    complete(file);
    sameValues(file, "dit", tensors, 1 / 16);
  });

  test("the scaled text encoder of ComfyUI, tokenizer and all", async () => {
    const tensors = official("text-encoder");
    const theirs = quantized(textEncoderInTransformers(tensors), "scale_weight");
    theirs.push({ name: "spiece_model", dtype: "u8", shape: [5], bytes: new Uint8Array(5) });
    theirs.push({ ...theirs[0]!, name: "encoder.embed_tokens.weight" });
    const file = await writeFile(path("umt5_scaled.safetensors"), theirs);
    const found = complete(file);
    expect(found.layout).toBe("transformers");
    expect([...found.ignored.keys()]).toEqual(expect.arrayContaining([expect.stringContaining("tokenizer")]));
    sameValues(file, "text-encoder", tensors, 1 / 16);
  });

  const refused: [string, (tensors: NamedTensor[]) => void, string][] = [
    ["an unknown format", (list) => mark(list, { format: "int3_fancy" }), "weights.unsupported-quantization"],
    ["nvfp4 without its second scale", (list) => mark(list, { format: "nvfp4" }), "weights.bad-quantization"],
    ["mxfp8 with fewer scales than it has", (list) => mark(list, { format: "mxfp8" }), "weights.bad-quantization"],
    [
      "turned int8 in rows that are no whole groups",
      (list) => mark(list, { format: "int8_tensorwise", convrot: true }),
      "weights.bad-quantization",
    ],
    [
      "turned in groups that are no power of four",
      (list) => mark(list, { format: "convrot_w4a4", convrot_groupsize: 32 }),
      "weights.bad-quantization",
    ],
    [
      "a second scale",
      (list) => list.push({ ...scale(list), name: "blocks.0.self_attn.q.weight_scale_2" }),
      "weights.unsupported-quantization",
    ],
    [
      "a mark that is no JSON",
      (list) => {
        list.find(isMark)!.bytes.fill(0x7b);
      },
      "weights.bad-quantization",
    ],
    ["a mark without a format", (list) => mark(list, {}), "weights.bad-quantization"],
    [
      "a scale of another width",
      (list) => {
        Object.assign(scale(list), { shape: [7], bytes: new Uint8Array(28) });
      },
      "weights.bad-quantization",
    ],
  ];
  const isMark = (tensor: NamedTensor) => tensor.name === "blocks.0.self_attn.q.comfy_quant";
  const scale = (list: NamedTensor[]) => list.find((tensor) => tensor.name === "blocks.0.self_attn.q.weight_scale")!;
  function mark(list: NamedTensor[], config: object): void {
    const bytes = Buffer.from(JSON.stringify(config));
    Object.assign(list.find(isMark)!, { bytes, shape: [bytes.length] });
  }
  test.each(refused)("%s is refused by name", async (_, change, code) => {
    const tensors = quantized(official("dit"), "weight_scale");
    change(tensors);
    using source = openTensorSource(await writeFile(path("refused.safetensors"), tensors));
    try {
      mapWeights(source, findComponents(source.names)[0]!);
      expect.unreachable();
    } catch (error) {
      expect(isKinoraError(error, code)).toBe(true);
      expect((error as Error).message).toContain("blocks.0.self_attn.q");
    }
  });
});

describe("other tools' names", () => {
  test.each([
    ["dit with image", "dit"],
    ["vae21", "vae21"],
    ["vae22", "vae22"],
  ] as const)("%s in diffusers' layout", async (network, list) => {
    const tensors = official(network);
    const file = await writeSharded(path("diffusers.safetensors.index.json"), inDiffusers(list, tensors));
    expect(complete(file)).toMatchObject({ layout: "diffusers", recognized: { config: networks[network].config } });
    sameValues(file, network, tensors);
  });

  test("UMT5 under transformers' names, whichever name the token table has", async () => {
    const tensors = official("text-encoder");
    const theirs = textEncoderInTransformers(tensors);
    const listed = Object.keys(transformersShapes("umt5")).filter((name) => name !== "encoder.embed_tokens.weight");
    expect(theirs.map((tensor) => tensor.name).sort()).toEqual(listed.sort());
    const renamed = theirs.map((tensor) =>
      tensor.name === "shared.weight" ? { ...tensor, name: "encoder.embed_tokens.weight" } : tensor,
    );
    for (const list of [theirs, renamed]) {
      const file = await writeFile(path("umt5.safetensors"), list);
      expect(complete(file)).toMatchObject({ layout: "transformers", recognized: { config: tinyTextEncoder } });
      sameValues(file, "text-encoder", tensors);
    }
  });

  test("CLIP under transformers' names: q, k and v joined, the projection turned, its text half left out", async () => {
    const tensors = official("clip-vision");
    const theirs = clipInTransformers(tensors);
    const shapes = transformersShapes("clip");
    expect(Object.fromEntries(theirs.map(({ name, shape }) => [name, shape]))).toEqual(shapes);
    const file = await writeFile(path("clip.safetensors"), [
      ...theirs,
      { name: "vision_model.embeddings.position_ids", dtype: "i64", shape: [1, 5], bytes: new Uint8Array(40) },
    ]);
    expect(complete(file)).toMatchObject({ layout: "transformers", recognized: { config: tinyClip } });
    sameValues(file, "clip-vision", tensors);
    // The vision model without its projection is what some tools save; Wan needs no more.
    const bare = await writeFile(
      path("clip-bare.safetensors"),
      theirs.filter(({ name }) => name !== "visual_projection.weight"),
    );
    complete(bare);
  });

  test("one file with all networks", async () => {
    const parts = [
      ...withPrefix(official("dit"), "model.diffusion_model."),
      ...withPrefix(official("vae21"), "vae."),
      ...withPrefix(textEncoderInTransformers(official("text-encoder")), "text_encoders.umt5xxl.transformer."),
    ];
    using source = openTensorSource(await writeFile(path("all-in-one.safetensors"), parts));
    const report = inspectWeights(source);
    expect(report.networks.map(({ recognized, complete, prefix }) => [recognized.kind, prefix, complete])).toEqual([
      ["dit", "model.diffusion_model.", true],
      ["vae21", "vae.", true],
      ["text-encoder", "text_encoders.umt5xxl.transformer.", true],
    ]);
  });
});

describe("weights that do not fit", () => {
  test("missing, unexpected and misshapen parameters are named, with the nearest match", async () => {
    const tensors = official("dit").flatMap((tensor): NamedTensor[] => {
      if (tensor.name === "blocks.1.ffn.0.bias") return [];
      if (tensor.name === "blocks.0.self_attn.q.weight") return [{ ...tensor, name: "blocks.0.self_attn.qq.weight" }];
      if (tensor.name === "blocks.1.norm3.weight")
        return [{ ...tensor, shape: [64], bytes: tensor.bytes.slice(0, 128) }];
      if (tensor.name === "blocks.1.norm3.bias") return [{ ...tensor, dtype: "i16" }];
      return [tensor];
    });
    tensors.push({ name: "blocks.0.orphan.scale_weight", dtype: "f32", shape: [], bytes: new Uint8Array(4) });
    using source = openTensorSource(await writeFile(path("misfit.safetensors"), tensors));
    const map = mapWeights(source, findComponents(source.names)[0]!);
    const { problems } = inspectWeights(source).networks[0]!;
    expect(problems.missing).toEqual([
      { name: "blocks.0.self_attn.q.weight", nearest: "blocks.0.self_attn.qq.weight" },
      expect.objectContaining({ name: "blocks.1.ffn.0.bias" }),
    ]);
    expect(problems.unexpected.map(({ name }) => name).sort()).toEqual([
      "blocks.0.orphan.scale_weight",
      "blocks.0.self_attn.qq.weight",
    ]);
    expect(problems.wrongShape).toEqual([{ name: "blocks.1.norm3.weight", expected: [128], actual: [64] }]);
    expect(problems.wrongDtype).toEqual([{ name: "blocks.1.norm3.bias", dtype: "i16" }]);
    try {
      checkWeights(networks.dit.shapes, map, "misfit.safetensors");
      expect.unreachable();
    } catch (error) {
      expect(isKinoraError(error, "weights.mismatch")).toBe(true);
      const { message } = error as Error;
      for (const part of [
        "2 missing",
        "nearest: blocks.0.self_attn.qq.weight",
        "[64] instead of [128]",
        "blocks.1.norm3.bias i16",
      ]) {
        expect(message).toContain(part);
      }
    }
  });

  test("every way to lose one tensor is noticed", async () => {
    for (const network of ["dit", "vae22", "text-encoder"] as const) {
      const tensors = official(network);
      using source = openTensorSource(await writeFile(path("lost.safetensors"), tensors));
      const map = mapWeights(source, findComponents(source.names)[0]!);
      for (const { name } of tensors) {
        const fewer = new Map(map.tensors);
        fewer.delete(name);
        expect(() => checkWeights(networks[network].shapes, { tensors: fewer, unexpected: [] }, "x")).toThrowError(
          name,
        );
      }
    }
  });

  test("a network cut short beyond recognition says what it lacks", async () => {
    const tensors = official("dit").filter(({ name }) => name !== "time_embedding.0.weight");
    using source = openTensorSource(await writeFile(path("short.safetensors"), tensors));
    expect(inspectWeights(source).failures).toEqual([expect.stringContaining("time_embedding.0.weight")]);
  });

  test("names that would count without end are harmless", async () => {
    const tensors = official("dit");
    tensors.push({ ...tensors[0]!, name: "blocks.999999999.norm3.weight" });
    const vae = inDiffusers("vae21", official("vae21"));
    vae.push({ ...vae[0]!, name: "decoder.up_blocks.0.resnets.99999999.conv1.weight" });
    for (const list of [tensors, vae]) {
      using source = openTensorSource(await writeFile(path("count.safetensors"), list));
      expect(inspectWeights(source).networks[0]!.complete).toBe(false);
    }
  });
});

describe("folders as users have them", () => {
  test("the official checkpoint of two experts", async () => {
    const folder = path("Wan2.2-T2V-A14B");
    for (const expert of ["high_noise_model", "low_noise_model"]) {
      mkdirSync(join(folder, expert), { recursive: true });
      await writeSharded(join(folder, expert, "diffusion_pytorch_model.safetensors.index.json"), official("dit"));
    }
    writePth(join(folder, "Wan2.1_VAE.pth"), official("vae21"));
    writePth(join(folder, "models_t5_umt5-xxl-enc-bf16.pth"), official("text-encoder"));
    const kinds = ["high_noise_model", "low_noise_model"].map(
      (expert) => complete(join(folder, expert)).recognized.kind,
    );
    expect(kinds).toEqual(["dit", "dit"]);
    expect(complete(join(folder, "Wan2.1_VAE.pth")).recognized.kind).toBe("vae21");
  });
});
