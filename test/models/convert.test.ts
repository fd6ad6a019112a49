// `kinora models convert`: every form, read again by Kinora, as close to its source as the form allows.
import { existsSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { widenBlocks } from "../../src/base/block-format.ts";
import { toFloat32 } from "../../src/base/float-formats.ts";
import { finished } from "../../src/base/generators.ts";
import { type QuantizedName, quantizers } from "../../src/base/ggml/quantize.ts";
import { ggmlFormat } from "../../src/base/ggml/types.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { type ConvertedModel, convertModel, parseTarget, weightForms } from "../../src/models/wan/convert.ts";
import { mixOf } from "../../src/models/wan/gguf-mixes.ts";
import { loadTextEncoder, openNetwork } from "../../src/models/wan/load.ts";
import type { DitConfig, TextEncoderConfig } from "../../src/models/wan/params.ts";
import { ditShapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { Linear } from "../../src/nn/linear.ts";
import { storedValues } from "../../src/nn/stored-weight.ts";
import { WeightLoader } from "../../src/nn/weights.ts";
import * as ops from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { randomWeights } from "../support/checkpoint-layouts.ts";
import { draws } from "../support/drawn-weights.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { type NamedTensor, tinyDit, tinyTextEncoder, tinyVae21, writeFile } from "../support/wan-files.ts";

const path = temporaryFolder();

/** Widths of whole K blocks, but for one that is none. */
const dit: DitConfig = { ...tinyDit, dim: 256, ffnDim: 512, textDim: 96, heads: 2, layers: 2 };
const encoder: TextEncoderConfig = { ...tinyTextEncoder, dim: 256, attentionDim: 256, ffnDim: 512 };
const networks = {
  dit: randomWeights(ditShapes(dit), 5),
  text: randomWeights(textEncoderShapes(encoder), 6),
  vae: randomWeights(vaeShapes(tinyVae21), 7, "f32"),
};

async function convert(network: keyof typeof networks, form: string): Promise<{ file: string } & ConvertedModel> {
  const source = path(`${network}.safetensors`);
  if (!existsSync(source)) await writeFile(source, networks[network]);
  const file = path(`${network}-${form.replace(":", "-")}.${form.startsWith("gguf") ? "gguf" : "safetensors"}`);
  return { file, ...(await finished(convertModel(source, file, parseTarget(form)))) };
}

/** All values of a file by official names; the reader checks that none is missing. */
function read(file: string): Map<string, Float32Array> {
  const { reader } = openNetwork(file, ["dit", "text-encoder", "vae21"]);
  using _reader = reader;
  return new Map([...reader.names()].map((name) => [name, storedValues(reader.find(name)!)]));
}

function worst(file: string, tensors: readonly NamedTensor[]): number {
  const found = read(file);
  return Math.max(...tensors.map(({ name, bytes, dtype }) => relativeError(found.get(name)!, toFloat32(bytes, dtype))));
}

describe("quantisers", () => {
  const next = draws(9);
  // Bell-shaped, as weights are, with an outlier and a group of zeros.
  const values = Float32Array.from({ length: 4096 }, (_, i) =>
    i >> 8 === 3 ? 0 : next() * next() * (i === 77 ? 30 : 1),
  );
  const limits: Record<QuantizedName, number> = {
    ...{ Q8_0: 0.01, Q6_K: 0.025, Q5_K: 0.05, Q5_1: 0.06, Q5_0: 0.09, Q4_K: 0.08, Q4_1: 0.12, Q4_0: 0.18 },
    ...{ Q3_K: 0.18, Q2_K: 0.32 },
  };
  it.each(Object.keys(quantizers) as QuantizedName[])("%s come back close", (name) => {
    const format = ggmlFormat(name)!;
    const bytes = new Uint8Array((values.length / format.elements) * format.bytes);
    for (let from = 0, at = 0; from < values.length; from += format.elements, at += format.bytes)
      quantizers[name](values, from, bytes, at);
    const back = new Float32Array(values.length);
    widenBlocks(format, bytes, back);
    expect(relativeError(back, values)).toBeLessThan(limits[name]);
    expect(back.subarray(768, 1024).every((value) => value === 0)).toBe(true);
    // What is on the grid stays where it is.
    const again = new Uint8Array(bytes.length);
    for (let from = 0, at = 0; from < values.length; from += format.elements, at += format.bytes)
      quantizers[name](back, from, again, at);
    const twice = new Float32Array(values.length);
    widenBlocks(format, again, twice);
    expect(relativeError(twice, back)).toBeLessThan(limits[name] / 2);
  });
});

describe("conversion", () => {
  const within = (form: string): number => {
    if (/^(?:official|comfy|diffusers|bf16|f32|gguf:BF16|gguf:F32)$/.test(form)) return 1e-9;
    if (/f16/i.test(form)) return 1e-3;
    if (/fp8/.test(form)) return 0.05;
    if (form === "int8" || form === "gguf:Q8_0") return 0.02;
    return /Q[56]/.test(form) ? 0.09 : /Q4/.test(form) ? 0.2 : 0.4;
  };

  it.each(weightForms)("of a transformer to %s", async (form) => {
    const { file, tensors } = await convert("dit", form);
    expect(worst(file, networks.dit)).toBeLessThan(within(form));
    expect(tensors.length).toBe(networks.dit.length);
    expect(Math.max(...tensors.map(({ error }) => error))).toBeCloseTo(worst(file, networks.dit), 5);
  });

  it.each(["gguf:Q8_0", "gguf:Q4_K_M", "fp8_scaled", "int8", "comfy", "diffusers"])(
    "of a text encoder to %s",
    async (form) => {
      const { file } = await convert("text", form);
      expect(worst(file, networks.text)).toBeLessThan(within(form));
    },
  );

  it("of an autoencoder to diffusers and back, bit for bit", async () => {
    const { file } = await convert("vae", "diffusers");
    const back = path("vae-again.safetensors");
    await finished(convertModel(file, back, parseTarget("official")));
    expect(worst(file, networks.vae)).toBe(0);
    expect(worst(back, networks.vae)).toBe(0);
    await expect(convert("vae", "gguf:Q8_0")).rejects.toMatchObject({ code: "convert.no-gguf" });
  });

  it("chooses types as city96's tools do", async () => {
    const { file } = await convert("dit", "gguf:Q4_K_M");
    using source = openTensorSource(file);
    const type = (name: string) => source.info(name).blocks?.name ?? source.info(name).dtype;
    expect(type("blocks.0.self_attn.q.weight")).toBe("Q4_K");
    expect(type("blocks.0.self_attn.v.weight")).toBe("Q6_K");
    expect(type("blocks.1.cross_attn.v.weight")).toBe("Q6_K");
    expect(type("blocks.0.ffn.2.weight")).toBe("Q6_K");
    expect(type("blocks.0.ffn.0.weight")).toBe("Q4_K");
    expect(type("blocks.0.modulation")).toBe("f32");
    expect(type("blocks.0.norm3.weight")).toBe("f32");
    expect(type("patch_embedding.weight")).toBe("bf16");
    expect(source.info("patch_embedding.weight").shape.length).toBe(5);
    expect(source.metadata).toMatchObject({ "general.architecture": "wan", "general.file_type": "15" });
    const order = { values: 0 };
    const values = Array.from({ length: 6 }, (_, i) =>
      mixOf("q4_k_s")!.typeOf(`blocks.${i}.self_attn.v.weight`, [256, 256], order),
    );
    expect(values).toEqual(["Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q4_K", "Q4_K"]);
  });

  it("takes quantised files too, and leaves nothing behind where it is stopped or fails", async () => {
    const { file } = await convert("dit", "gguf:Q8_0");
    const wide = path("from-gguf.safetensors");
    await finished(convertModel(file, wide, parseTarget("bf16")));
    expect(worst(wide, networks.dit)).toBeLessThan(0.03);
    const out = path("stopped.gguf");
    const stop = new AbortController();
    const work = convertModel(path("dit.safetensors"), out, parseTarget("gguf:Q8_0"), stop.signal);
    await work.next();
    stop.abort(new Error("stopped"));
    await expect(work.next()).rejects.toThrow("stopped");
    const cut = path("cut.safetensors");
    await writeFile(cut, networks.dit.slice(5));
    await expect(finished(convertModel(cut, out, parseTarget("bf16")))).rejects.toThrow();
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(path(".")).filter((name) => name.startsWith(".partial"))).toEqual([]);
  });

  it("is a command", async () => {
    await convert("dit", "bf16");
    const [from, to] = [path("dit.safetensors"), path("cli.gguf")];
    const done = await runCli(["models", "convert", from, to, "--to", "gguf:q5_0", "--json"]);
    expect(done.code).toBe(0);
    expect(JSON.parse(done.data).tensors).toHaveLength(networks.dit.length);
    const told = await runCli(["models", "convert", from, to, "--to", "gguf:Q5_0", "--overwrite"]);
    expect(told.data).toContain("largest errors");
    expect((await runCli(["models", "convert", from, to, "--to", "gguf:Q5_0"])).notes).toContain("already exists");
    expect((await runCli(["models", "convert", from, to, "--to", "gguf:IQ9"])).notes).toContain("gguf:Q4_K_M");
    expect((await runCli(["models", "convert", from, path("a.bin"), "--to", "bf16"])).notes).toContain(".safetensors");
  });
});

describe.each(["auto", "reference"] as const)("weights in blocks on the %s device", (name) => {
  it.each(["gguf:Q4_K_M", "gguf:Q8_0", "int8", "fp8_scaled"])(
    "multiply as widened ones, LoRA and gradient too: %s",
    async (form) => {
      const { file } = await convert("dit", form);
      const { device } = await openDevice(name);
      using _device = device;
      const run = async (keepQuantized: boolean) => {
        const { reader } = openNetwork(file, ["dit"]);
        using loader = new WeightLoader(device, reader, { keepQuantized });
        using _scope = openScope(device);
        const before = device.memory().live;
        const layer = new Linear(loader, "blocks.0.ffn.0", dit.dim, dit.ffnDim, { dtype: "f32" });
        const held = device.memory().live - before;
        const next = draws(4);
        const random = (shape: number[]) =>
          fromValues(device, Float32Array.from({ length: shape.reduce((a, b) => a * b) }, next), shape);
        const [down, up] = [random([4, dit.dim]), random([dit.ffnDim, 4])];
        layer.adapters.push({
          delta() {},
          apply: (x, addend) => {
            const { linear, add } = ops;
            const change = linear(linear(x, down), up);
            return addend ? add(addend, change) : change;
          },
          parameters: () => new Map(),
          [Symbol.dispose]() {},
        });
        using tape = new Tape(device);
        const x = random([5, dit.dim]).requireGradient();
        const y = layer.forward(x);
        tape.backward(ops.sum(y));
        const result = { y: await y.read(), dx: await x.gradient!.read(), held };
        x.clearGradient();
        return result;
      };
      const [kept, wide] = [await run(true), await run(false)];
      expect(relativeError(kept.y, wide.y)).toBeLessThan(1e-5);
      expect(relativeError(kept.dx, wide.dx)).toBeLessThan(1e-5);
      expect(kept.held).toBeLessThan(wide.held / 3);
    },
  );
});

it("a text encoder in GGUF gives nearly the embeddings of its source, its table read row by row", async () => {
  const { file } = await convert("text", "gguf:Q8_0");
  const { device } = await openDevice("auto");
  using _device = device;
  const embed = async (from: string) => {
    using model = loadTextEncoder(device, from, { dtype: "f32" });
    using _scope = openScope(device);
    return {
      values: await model.encode(Int32Array.of(4, 9, 250, 1)).read(),
      held: device.memory().byCategory.weights.live,
    };
  };
  const [plain, blocks] = [await embed(path("text.safetensors")), await embed(file)];
  expect(relativeError(blocks.values, plain.values)).toBeLessThan(0.05);
  expect(blocks.held).toBeLessThan(plain.held / 2);
});
