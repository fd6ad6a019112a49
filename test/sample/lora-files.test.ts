// Generations with LoRAs as they come: PEFT folders, both experts in one file, modules left out, biases and norms, files
// that change nothing. What the film becomes, what is told, what the recipe keeps.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fromFloat32, toFloat32 } from "../../src/base/float-formats.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { readRecipe, repeatOptions } from "../../src/sample/recipe.ts";
import type { LoraChoice } from "../../src/sample/request.ts";
import { randomWeights } from "../support/checkpoint-layouts.ts";
import { loraShapes, type NamedTensor, writeFile } from "../support/wan-files.ts";
import { resolved, runRequest, tinyStudio } from "./generate-support.ts";

const { path, run, hashes, film, device } = await tinyStudio();
mkdirSync(path("loras"));

const RANK = 2;
const plain = (modules: RegExp, seed = 3): NamedTensor[] =>
  randomWeights(loraShapes("peft", wanModels["tiny-t2v"].dit, modules, RANK), seed, "f32");
const attention = plain(/^blocks\.\d+\.self_attn\.[qkvo]$/);

const renamed = (tensors: readonly NamedTensor[], prefix: string): NamedTensor[] =>
  tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace("diffusion_model.", prefix) }));

const scaled = (tensors: readonly NamedTensor[], factor: number): NamedTensor[] =>
  tensors.map((tensor) => {
    if (!tensor.name.includes("lora_B")) return tensor;
    return {
      ...tensor,
      bytes: fromFloat32(
        toFloat32(tensor.bytes, "f32").map((value) => value * factor),
        "f32",
      ),
    };
  });

const write = (name: string, tensors: readonly NamedTensor[]) => writeFile(path(`loras/${name}.safetensors`), tensors);

async function outcome(...loras: LoraChoice[]) {
  const result = await run({ steps: 4, loras });
  return { latents: result.latents(), notes: result.of("note").map(({ text }) => text), out: result.out };
}

const on = (file: string, more: Partial<LoraChoice> = {}): LoraChoice => ({ path: file, strength: 1, ...more });

async function peftFolder(name: string, config: object): Promise<string> {
  const folder = path(`loras/${name}`);
  mkdirSync(folder);
  await writeFile(join(folder, "adapter_model.safetensors"), renamed(attention, "base_model.model."));
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify({ peft_type: "LORA", ...config }));
  writeFileSync(join(folder, "optimizer.pt"), "not weights");
  return folder;
}

describe("a PEFT folder", () => {
  it("acts at its own scale, named as a folder or by its file, and its recipe repeats", async () => {
    const folder = await peftFolder("peft", { r: RANK, lora_alpha: 8 });
    const four = await write("four", scaled(attention, 4));
    const expected = await outcome(on(four, { expert: "both" }));
    const found = await outcome(on(folder, { expert: "both" }));
    expect(found.latents).toEqual(expected.latents);
    expect((await outcome(on(join(folder, "adapter_model.safetensors"), { expert: "both" }))).latents).toEqual(
      expected.latents,
    );
    const recipe = await readRecipe(found.out);
    expect(recipe.loras).toMatchObject([
      { name: "adapter_model.safetensors", config: expect.stringMatching(/^[0-9a-f]{64}$/) },
    ]);
    const again = resolved(await repeatOptions(recipe, { out: film(), keepLatents: true }, hashes));
    const repeated = await runRequest(device, again, { hashes, repeats: recipe });
    expect(repeated.latents()).toEqual(expected.latents);
    expect(repeated.of("note")).toEqual([]);
    // Another scale beside the same weights is no repetition.
    writeFileSync(join(folder, "adapter_config.json"), JSON.stringify({ r: RANK, lora_alpha: 2 }));
    const changed = resolved(await repeatOptions(recipe, { out: film() }, hashes));
    const other = await runRequest(device, changed, { hashes, repeats: recipe });
    expect(other.of("note").map(({ text }) => text)).toEqual([expect.stringContaining("loras")]);
  });
});

describe("a file that holds both experts", () => {
  it("puts each on its own", async () => {
    const high = plain(/^blocks\.\d+\.ffn\.0$/, 7);
    const low = attention;
    const both = await write("both", [...renamed(high, "high_noise."), ...renamed(low, "low_noise.")]);
    const [onHigh, onLow] = [await write("alone_high", high), await write("alone_low", low)];
    const found = await outcome(on(both));
    expect(found.notes).toEqual([]);
    expect(found.latents).toEqual((await outcome(on(onHigh), on(onLow))).latents);
    expect((await outcome(on(both, { expert: "low" }))).latents).toEqual((await outcome(on(onLow))).latents);
  });

  it("that names one expert alone goes where it is put", async () => {
    const marked = await write("marked", renamed(attention, "high_noise."));
    const unmarked = await write("unmarked", attention);
    const low = await outcome(on(marked, { expert: "low" }));
    expect(low.latents).toEqual((await outcome(on(unmarked, { expert: "low" }))).latents);
    expect(low.notes).toEqual([expect.stringContaining("says it is for the high-noise expert")]);
    expect((await outcome(on(marked))).latents).toEqual((await outcome(on(unmarked, { expert: "high" }))).latents);
  });

  it("is refused by a model with one transformer", async () => {
    const tensors = randomWeights(
      loraShapes("peft", wanModels["tiny-ti2v"].dit, /^blocks\.0\.ffn\.0$/, RANK),
      4,
      "f32",
    );
    const file = await write("both-ti", [...renamed(tensors, "high_noise."), ...renamed(tensors, "low_noise.")]);
    const options = { task: "tiny-ti2v", size: { width: 64, height: 64 }, steps: 1 };
    await expect(run({ ...options, loras: [on(file)] })).rejects.toMatchObject({ code: "lora.both-experts" });
  });
});

describe("modules left out", () => {
  it("are told, kept in the recipe and left out again when it is repeated", async () => {
    const ffn = plain(/^blocks\.\d+\.ffn\.0$/, 7);
    const all = await write("all_high", [...attention, ...ffn]);
    const less = await write("less_high", attention);
    const found = await outcome(on(all, { exclude: ["ffn"] }));
    expect(found.latents).toEqual((await outcome(on(less))).latents);
    expect(found.notes).toEqual([expect.stringMatching(/modules? of \d+ left out/)]);
    const recipe = await readRecipe(found.out);
    expect(recipe.loras).toMatchObject([{ exclude: ["ffn"] }]);
    expect((await repeatOptions(recipe, { out: film() }, hashes)).loras).toMatchObject([{ exclude: ["ffn"] }]);
    // A pattern is for all LoRAs together: one that matches in none is wrong.
    const each = { exclude: ["ffn"] };
    expect((await outcome(on(all, each), on(less, each))).notes).toHaveLength(1);
    await expect(run({ loras: [on(less, each)] })).rejects.toMatchObject({ code: "lora.exclude" });
  });

  it("may be what does not fit, and what is not understood", async () => {
    const stray = { ...attention[0]!, name: "text_encoder.layer.q.lora_A.weight" };
    const wide = { ...attention[0]!, shape: [RANK, 8], bytes: new Uint8Array(RANK * 8 * 4) };
    const odd = [wide, ...attention.slice(1), stray];
    const file = await write("odd_high", odd);
    await expect(run({ loras: [on(file)] })).rejects.toMatchObject({ code: "lora.unmatched" });
    const { name } = attention[0]!;
    const module = name
      .replace("diffusion_model.", "")
      .replace(/\.lora_.*/, "")
      .replaceAll(".", "\\.");
    const { notes } = await outcome(on(file, { exclude: [module, "^text_encoder"] }));
    expect(notes).toEqual([expect.stringContaining("1 module of")]);
  });
});

describe("biases, norms and modulations", () => {
  it("of zeros leave the film as it is, others change it", async () => {
    const { dim } = wanModels["tiny-t2v"].dit;
    const difference = (name: string, shape: number[], value: number): NamedTensor => {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value);
      return { name: `diffusion_model.blocks.0.${name}`, dtype: "f32", shape, bytes: fromFloat32(values, "f32") };
    };
    const places: [string, number[]][] = [
      ["self_attn.q.diff_b", [dim]],
      ["norm3.diff", [dim]],
      ["norm3.diff_b", [dim]],
      ["diff_m", [1, 6, dim]],
    ];
    const base = await outcome(on(await write("base_high", attention)));
    const zeros = places.map(([name, shape]) => difference(name, shape, 0));
    expect((await outcome(on(await write("zeros_high", [...attention, ...zeros])))).latents).toEqual(base.latents);
    const ones = places.map(([name, shape]) => difference(name, shape, 0.1));
    expect((await outcome(on(await write("ones_high", [...attention, ...ones])))).latents).not.toEqual(base.latents);
  });
});

describe("a LoRA that changes nothing", () => {
  it("is told, whether its values or its strength are zero", async () => {
    const nothing = await write("nothing_high", scaled(attention, 0));
    const without = await run({ steps: 4 });
    const idle = await outcome(on(nothing));
    expect(idle.notes).toEqual([expect.stringContaining("has no effect: all of its changes are zero")]);
    expect(idle.latents).toEqual(without.latents());
    const some = await write("some_high", attention);
    expect((await outcome(on(some, { strength: 0 }))).notes).toEqual([
      expect.stringContaining("has strength 0 and no effect"),
    ]);
    expect((await outcome(on(some))).notes).toEqual([]);
  });
});
