// LoRA files written in every form, read back and converted: the model answers the same with each.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fromFloat32, toFloat32 } from "../../src/base/float-formats.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import type { LoraValues } from "../../src/lora/adapters/lora.ts";
import { attachLora, defaultTargets } from "../../src/lora/attach.ts";
import { convertLora } from "../../src/lora/convert.ts";
import { describeLora } from "../../src/lora/describe.ts";
import type { LoraFormat } from "../../src/lora/key-formats.ts";
import { readLora, readLoraFile } from "../../src/lora/read.ts";
import { recognizeLora } from "../../src/lora/recognize.ts";
import { type LoraDType, writeLora } from "../../src/lora/write.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import { draws } from "../support/drawn-weights.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const path = temporaryFolder();
const { device } = await openDevice("auto");
const { model } = tinyDit(device);
const formats: LoraFormat[] = ["kohya", "peft", "diffusers", "diffsynth"];

/** Values as a file of that dtype would hold them. */
function adapters(alpha: number, dtype: LoraDType, rank = 4): LoraValues[] {
  const next = draws(9);
  const values = (count: number) =>
    toFloat32(
      fromFloat32(
        Float32Array.from({ length: count }, () => 0.3 * next()),
        dtype,
      ),
      dtype,
    );
  return [...model.linears()]
    .filter(([name]) => defaultTargets.test(name))
    .map(([module, { inputs, outputs }]) => ({
      kind: "lora",
      module,
      rank,
      inputs,
      outputs,
      alpha,
      down: values(rank * inputs),
      up: values(outputs * rank),
    }));
}

async function answer(file?: string): Promise<Float32Array> {
  using _scope = openScope(device);
  const lora = file === undefined ? undefined : attachLora(model, readLora(file));
  const { clean, shape, text } = tinySample(2);
  const output = model.forward({
    latents: fromValues(device, clean, [1, ...shape]),
    timesteps: [400],
    texts: [fromValues(device, text, [3, tinyDitConfig.textDim])],
  });
  const values = await output.read();
  lora?.[Symbol.dispose]();
  return values;
}

const apart = (a: Float32Array, b: Float32Array): number =>
  Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);

describe("a LoRA", () => {
  it.each(formats.flatMap((from) => formats.map((to) => [from, to] as const)))(
    "from %s names to %s names acts identically",
    async (from, to) => {
      for (const [alpha, dtype, tolerance] of [
        [4, "bf16", 0],
        [2, "bf16", 0],
        [3, "bf16", 1e-6],
        [1, "f32", 1e-6],
        [7, "f16", 1e-6],
      ] as const) {
        const [source, target] = [path(`${from}.safetensors`), path(`${to}-of-${from}.safetensors`)];
        await writeLora(source, adapters(alpha, dtype), { format: from, dtype });
        const result = await convertLora(source, target, { format: to, overwrite: true });
        expect(result).toMatchObject({ modules: 20, from: [from] });
        const [before, after] = [await answer(source), await answer(target)];
        expect(apart(after, before)).toBeLessThanOrEqual(tolerance);
        expect(apart(after, await answer())).toBeGreaterThan(0.01);
      }
    },
  );

  it("keeps its metadata, but for what was true of the old bytes alone", async () => {
    const [source, target] = [path("meta.safetensors"), path("meta-out.safetensors")];
    const metadata = { ss_steps: "12", ss_output_name: "x", lora_adapter_metadata: '{"lora_alpha": 2}' };
    await writeLora(source, adapters(4, "f32"), { format: "kohya", dtype: "f32", metadata });
    const before = readLoraFile(source).metadata;
    await convertLora(source, target, { format: "peft" });
    const after = readLoraFile(target).metadata;
    expect(after).toMatchObject({ ss_steps: "12", ss_output_name: "x" });
    expect(after.lora_adapter_metadata).toBeUndefined();
    expect(after.sshs_model_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(after.sshs_model_hash).not.toBe(before.sshs_model_hash);
  });

  it("for the low-noise expert has the names that diffusers loads into either transformer, and stays known as that", async () => {
    const [source, target] = [path("style_low_noise.safetensors"), path("low-diffusers.safetensors")];
    await writeLora(source, adapters(4, "f32"), { format: "kohya", dtype: "f32" });
    await convertLora(source, target, { format: "diffusers" });
    using file = SafetensorsFile.open(target);
    expect(file.names.every((name) => name.startsWith("transformer.blocks."))).toBe(true);
    expect(recognizeLora(file).expert).toBe("low");
  });

  it("is never overwritten unasked, nor converted into itself", async () => {
    const [source, target] = [path("own.safetensors"), path("taken.safetensors")];
    await writeLora(source, adapters(4, "f32"), { format: "kohya", dtype: "f32" });
    writeFileSync(target, "mine");
    await expect(convertLora(source, target, { format: "peft" })).rejects.toMatchObject({ code: "lora.exists" });
    await expect(convertLora(source, source, { format: "peft", overwrite: true })).rejects.toMatchObject({
      code: "lora.exists",
    });
    expect(readFileSync(target, "utf8")).toBe("mine");
  });
});

describe("what a LoRA does", () => {
  it("is told by group, with what does nothing and what is broken", async () => {
    const file = path("described.safetensors");
    const all = adapters(2, "f32");
    all[0]!.up.fill(0);
    all[1]!.down[3] = Number.NaN;
    await writeLora(file, all, { format: "kohya", dtype: "f32" });
    const description = describeLora(file);
    expect(new Map(description.groups.map(({ name, modules }) => [name, modules]))).toEqual(
      new Map([
        ["self_attn", 8],
        ["cross_attn", 8],
        ["ffn", 4],
      ]),
    );
    expect(description.idle).toBe(1);
    expect(description.broken).toEqual([all[1]!.module]);
    expect(description.recognized.alphas).toEqual([2]);
  });
});

describe("kinora lora", () => {
  it("inspect and convert print what they found and did", async () => {
    const file = path("cli_high_noise.safetensors");
    await writeLora(file, adapters(2, "bf16"), { format: "diffusers", dtype: "bf16", metadata: { ss_steps: "7" } });
    const { code, data: text } = await runCli(["lora", "inspect", file]);
    expect(code).toBe(0);
    expect(text).toMatch(/ComfyUI +does not read these keys/);
    expect(text).toMatch(/expert +high noise/);
    expect(text).toMatch(/steps +7/);
    const { data: done } = await runCli(["lora", "convert", file, "--to", "comfy"]);
    const target = path("cli_high_noise_comfy.safetensors");
    expect(done).toContain(target);
    expect(existsSync(target)).toBe(true);
    expect(JSON.parse((await runCli(["lora", "inspect", target, "--json"])).data).lora.formats).toEqual(["peft"]);
    expect((await runCli(["lora", "convert", file, "--to", "comfyui"])).notes).toMatch(
      /^error cli\.bad-value: .*\nhint: did you mean comfy\?$/,
    );
    expect((await runCli(["lora", "inspect"])).notes).toContain("error cli.bad-arguments");
  });
});
