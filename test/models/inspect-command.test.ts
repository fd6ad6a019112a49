// `kinora models inspect` as a user runs it, in process, on files of every kind.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { CacheStore, cacheKey } from "../../src/cache/store.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { countNonFinite, scanValues } from "../../src/io/value-scan.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { ditShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { RECIPE_KEY } from "../../src/protocol/recipe.ts";
import { recipe } from "../support/recipe.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  loraShapes,
  type NamedTensor,
  quantized,
  randomTensors,
  tinyDit,
  tinyVae21,
  withPrefix,
  writeFile,
  writePth,
  writeSharded,
  writeSparse,
} from "../support/wan-files.ts";

const path = temporaryFolder();

async function run(
  argv: string[],
  options: { json?: boolean; names?: boolean; scan?: string } = {},
): Promise<{ code: number; text: string }> {
  const { json, names, scan } = options;
  const flags = [...(json ? ["--json"] : []), ...(names ? ["--names"] : []), ...(scan ? ["--scan", scan] : [])];
  const { code, data, notes } = await runCli(["models", "inspect", ...argv, ...flags]);
  return { code, text: data || notes };
}

const row = (text: string, label: string): string | undefined => new RegExp(`^  ${label} +(.*)$`, "m").exec(text)?.[1];

describe("kinora models inspect", () => {
  test("a transformer of ComfyUI's, in fp8", async () => {
    const tensors = withPrefix(
      quantized(randomTensors(ditShapes(tinyDit), "f16"), "scale_weight"),
      "model.diffusion_model.",
    );
    const { code, text } = await run([await writeFile(path("fp8.safetensors"), tensors, { format: "pt" })]);
    expect(code).toBe(0);
    expect(row(text, "what")).toContain("of custom size (2 layers of 128, 16 → 16 channels)");
    expect(row(text, "layout")).toBe("official names, prefix model.diffusion_model.");
    expect(row(text, "quantised")).toBe("20 × f8e4m3, a scale per tensor");
    expect(row(text, "complete")).toContain("yes");
    expect(row(text, "values")).toBe("finite, all checked");
    expect(row(text, "metadata")).toBe("format = pt");
  });

  test("a published model, as JSON", async () => {
    const file = writeSparse(path("wan2.2_ti2v_5B_fp16.safetensors"), ditShapes(wanModels["ti2v-5B"].dit), "f16");
    const { text } = await run([file], { json: true, scan: "none" });
    const [answer] = JSON.parse(text).files;
    expect(answer).toMatchObject({
      format: "safetensors",
      tensors: 825,
      scan: "none",
      networks: [{ complete: true, layout: "official" }],
    });
    expect(answer.networks[0]).toMatchObject({
      kind: "dit",
      models: ["ti2v-5B"],
      parameters: 4_999_787_712,
      config: { dim: 3072 },
    });
    expect(answer.dtypes).toEqual({ f16: 4_999_787_712 });
  });

  test("a LoRA: rank, alpha, modules, model and expert", async () => {
    const usual = /^blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02])$/;
    const shapes = loraShapes("kohya", wanModels["t2v-A14B"].dit, usual, 32);
    const alpha = { dtype: "f32" as const, bytes: fromFloat32(Float32Array.of(16), "f32") };
    const values = Object.fromEntries(
      [...shapes.keys()].filter((name) => name.endsWith(".alpha")).map((name) => [name, alpha]),
    );
    const file = writeSparse(path("style_high_noise.safetensors"), shapes, "bf16", { values });
    const { text } = await run([file]);
    expect(row(text, "what")).toContain("LoRA for the high-noise expert, fits t2v-A14B");
    expect([row(text, "rank"), row(text, "alpha"), row(text, "modules")]).toEqual([
      "32",
      "16 (scale 0.5)",
      "400 × LoRA",
    ]);
    expect([row(text, "layout"), row(text, "expert")]).toEqual(["kohya names", "high noise"]);
  });

  test("values that are not finite are reported, with the tensor's name", async () => {
    const tensors = randomTensors(vaeShapes(tinyVae21), "f32");
    const spoiled = tensors.find(({ name }) => name === "decoder.conv1.weight")!;
    spoiled.bytes = fromFloat32(new Float32Array(spoiled.bytes.length / 4).fill(Number.NaN), "f32");
    const { code, text } = await run([writePth(path("nan.pth"), tensors)]);
    expect(code).toBe(0);
    expect(row(text, "complete")).toContain("yes");
    expect(row(text, "values")).toBe(
      `NOT FINITE in 1: decoder.conv1.weight (${spoiled.bytes.length / 4} NaN, 0 infinite)`,
    );
  });

  test("what is missing and what does not belong, with the nearest name; all of it with --names", async () => {
    const tensors = randomTensors(ditShapes(tinyDit), "bf16").map(
      (tensor): NamedTensor =>
        tensor.name.startsWith("blocks.1.") ? { ...tensor, name: tensor.name.replace("attn", "attention") } : tensor,
    );
    const file = await writeFile(path("renamed.safetensors"), tensors);
    const short = await run([file]);
    expect(row(short.text, "missing")).toContain(
      "blocks.1.self_attn.q.weight (nearest: blocks.1.self_attention.q.weight)",
    );
    expect(row(short.text, "missing")).toContain("and 10 more (--names lists them)");
    expect(row(short.text, "complete")).toBeUndefined();
    const long = await run([file], { names: true });
    expect(row(long.text, "missing")).not.toContain("more");
    expect(long.text).toContain("    head.modulation bf16 [1,2,128]");
  });

  test("a checkpoint's folder: every model in it, and one spoiled file among them", async () => {
    const folder = path("checkpoint");
    mkdirSync(join(folder, "high_noise_model"), { recursive: true });
    await writeSharded(
      join(folder, "high_noise_model", "model.safetensors.index.json"),
      randomTensors(ditShapes(tinyDit), "bf16"),
    );
    writePth(join(folder, "Wan2.1_VAE.pth"), randomTensors(vaeShapes(tinyVae21), "f32"));
    const good = await run([folder]);
    expect(good.code).toBe(0);
    expect(good.text.match(/^ {2}what/gm)!.length).toBe(2);
    expect(good.text).toContain("safetensors (sharded)");
    writeFileSync(join(folder, "broken.safetensors"), "<html>not found</html>");
    const bad = await run([folder], { json: true });
    expect(bad.code).toBe(1);
    const { files } = JSON.parse(bad.text);
    expect(files.length).toBe(3);
    expect(files.find((file: { error?: object }) => file.error).error).toMatchObject({ code: "io.not-weights" });
  });

  test("weights of something else", async () => {
    const file = await writeFile(path("else.safetensors"), [
      { name: "layer.weight", dtype: "f32", shape: [2], bytes: new Uint8Array(8) },
    ]);
    expect(row((await run([file])).text, "what")).toBe("not a Wan network or LoRA that Kinora knows");
  });

  test("wrong use", async () => {
    expect((await run([])).text).toContain("error cli.bad-arguments");
    expect((await run([path("nothing")])).text).toContain("error io.not-found");
    expect((await run([path("")], { scan: "some" })).text).toContain("error cli.bad-value");
    mkdirSync(path("bare"));
    expect((await run([path("bare")])).text).toContain("error io.no-weights");
  });
});

describe("looking for values that are not finite", () => {
  test.each(["f64", "f32", "f16", "bf16", "f8e5m2", "f8e4m3"] as const)("%s", (dtype) => {
    const values = Float32Array.of(
      0,
      1,
      Number.NaN,
      -Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -2,
      0.001,
    );
    // E4M3 has no infinity: casting one gives NaN.
    const expected = dtype === "f8e4m3" ? { nan: 4, infinite: 0 } : { nan: 2, infinite: 2 };
    const bytes = fromFloat32(values, dtype);
    expect(countNonFinite(bytes, dtype)).toEqual(expected);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    expect(countNonFinite(shifted.subarray(1), dtype)).toEqual(expected);
    expect(countNonFinite(fromFloat32(Float32Array.of(448, -448, 0), dtype), dtype)).toEqual({ nan: 0, infinite: 0 });
  });

  test("a sample looks at the beginning, the end and between", async () => {
    const values = new Float32Array(1 << 20);
    values[values.length - 1] = Number.NaN;
    const tensor = { name: "t", dtype: "f32" as const, shape: [values.length], bytes: fromFloat32(values, "f32") };
    using source = openTensorSource(await writeFile(path("sampled.safetensors"), [tensor]));
    for (const sample of [true, false]) {
      const events = scanValues(source, sample);
      let step = events.next();
      while (!step.done) step = events.next();
      expect(step.value).toEqual([
        expect.objectContaining({ name: "t", nan: 1, checked: sample ? 4 * 16384 : values.length }),
      ]);
    }
  });
});

describe("Kinora's own files", () => {
  const tensor = (name: string): NamedTensor => ({
    name,
    dtype: "f32",
    shape: [2],
    bytes: fromFloat32(Float32Array.of(1, 2), "f32"),
  });

  test("the state of a run", async () => {
    const tensors = ["parameter/blocks.0.ffn.0.down", "parameter/blocks.0.ffn.0.up", "optimizer/m/x"].map(tensor);
    const file = await writeFile(path("high-00000002.safetensors"), tensors, {
      kind: "kinora.train-expert",
      expert: "high",
    });
    const { text } = await run([file]);
    expect(row(text, "what")).toBe(
      "the state of the high-noise expert of a training run: 2 trained tensors and what its optimizer keeps",
    );
    expect(row(text, "use")).toContain("kinora train resumes from it");
    expect(JSON.parse((await run([file], { json: true })).text).files[0].own.what).toContain("of a training run");
  });

  test("a cache entry, sound or damaged", async () => {
    const store = new CacheStore(path("cache"));
    const facts = { kind: "texts", text: "a red circle" };
    const key = cacheKey(facts);
    await store.write(
      "texts",
      key,
      { embedding: { values: Float32Array.of(1, 2, 3, 4), shape: [2, 2] } },
      "f32",
      facts,
    );
    const file = store.path("texts", key);
    const { text } = await run([file]);
    expect(row(text, "what")).toBe("a text's cached embedding: embedding [2, 2]");
    expect(row(text, "made from")).toContain("a red circle");
    expect(row(text, "checksum")).toContain("OK");
    const bytes = readFileSync(file);
    bytes[bytes.length - 2]! ^= 1;
    writeFileSync(file, bytes);
    expect(row((await run([file])).text, "checksum")).toContain("MISMATCH");
  });

  test("saved latents, with what their recipe says", async () => {
    const file = await writeFile(path("film.latents.safetensors"), [tensor("latents")], {
      [RECIPE_KEY]: JSON.stringify(recipe),
    });
    const { text } = await run([file]);
    expect(row(text, "what")).toBe("latents [2] of a generation, with its recipe");
    expect([row(text, "task"), row(text, "prompt")]).toEqual(["tiny-t2v", "a red circle"]);
    const broken = await writeFile(path("broken.safetensors"), [tensor("latents")], { [RECIPE_KEY]: "{" });
    expect(row((await run([broken])).text, "problem")).toContain("not valid JSON");
  });

  test("JSON beside them: what it is and which command reads it", async () => {
    const file = path("state.json");
    writeFileSync(file, JSON.stringify({ kind: "kinora.train-state", version: 3 }, null, 2));
    const { code, text } = await run([file]);
    expect(code).toBe(0);
    expect(row(text, "what")).toBe("the progress of a training run, no weights");
    writeFileSync(file, JSON.stringify({ kind: "something else" }));
    expect((await run([file])).code).not.toBe(0);
  });
});
