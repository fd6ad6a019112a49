// LoRA files as they come: PEFT folders and metadata that name scales, both experts in one file, modules left out, dtypes,
// damage. What the values come to, and what is told or refused.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { DType } from "../../src/base/dtype.ts";
import { fromFloat32 } from "../../src/base/float-formats.ts";
import { elementCount } from "../../src/base/shape.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { loraNames } from "../../src/lora/adapters/lora.ts";
import type { AdapterValues } from "../../src/lora/adapters/table.ts";
import { convertLora } from "../../src/lora/convert.ts";
import { changesNothing, describeLora } from "../../src/lora/describe.ts";
import type { LoraFormat } from "../../src/lora/key-formats.ts";
import { openLora, readLora, readLoraFile } from "../../src/lora/read.ts";
import { recognizeLora } from "../../src/lora/recognize.ts";
import { writeLora } from "../../src/lora/write.ts";
import { draws } from "../support/drawn-weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const RANK = 4;
const modules = ["blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.1.ffn.0"];

interface Written {
  shape: readonly number[];
  values?: Float32Array;
  dtype?: DType;
}

async function write(file: string, tensors: Record<string, Written>, metadata: Record<string, string> = {}) {
  const next = draws(file.length);
  await writeSafetensors(
    file,
    Object.entries(tensors).map(([name, { shape, dtype = "f32", values }]) => {
      const own = values ?? Float32Array.from({ length: elementCount(shape) }, next);
      const bytes =
        dtype === "f64"
          ? new Uint8Array(Float64Array.from(own).buffer)
          : dtype === "i64"
            ? new Uint8Array(BigInt64Array.from([...own].map((value) => BigInt(value))).buffer)
            : fromFloat32(own, dtype);
      return { name, dtype, shape, bytes };
    }),
    metadata,
  );
  return file;
}

const pair = (down: string, up: string, dtype: DType = "f32"): Record<string, Written> => ({
  [down]: { shape: [RANK, 8], dtype },
  [up]: { shape: [8, RANK], dtype },
});

const named = (stem: (module: string) => string, dtype?: DType): Record<string, Written> =>
  Object.assign(
    {},
    ...modules.map((module) => pair(`${stem(module)}.lora_A.weight`, `${stem(module)}.lora_B.weight`, dtype)),
  );

async function peftFolder(name: string, config: object, tensors = named((module) => `base_model.model.${module}`)) {
  const folder = path(name);
  mkdirSync(folder);
  await write(join(folder, "adapter_model.safetensors"), tensors);
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify({ peft_type: "LORA", ...config }));
  // As the Trainer leaves them beside it.
  writeFileSync(join(folder, "training_args.bin"), "not weights");
  return folder;
}

/** α/rank of each module of a file. */
const scales = (file: string): Record<string, number> =>
  Object.fromEntries(
    readLora(file).map((values) => {
      const { module, alpha, rank } = values as AdapterValues & { kind: "lora" };
      return [module, alpha / rank];
    }),
  );
const all = (scale: number) => Object.fromEntries(modules.map((module) => [module, scale]));

describe("the scale of a PEFT folder", () => {
  it.each([
    ["its alpha", { r: RANK, lora_alpha: 16 }, all(4)],
    ["rank-stabilised", { r: RANK, lora_alpha: 16, use_rslora: true }, all(8)],
    ["none", { r: RANK }, all(1)],
    [
      "patterns, by the module's end or as regular expressions, the first that matches",
      { r: RANK, lora_alpha: 4, alpha_pattern: { "self_attn.q": 8, "blocks\\.\\d+\\.ffn\\.0": 2, q: 1 } },
      { ...all(1), "blocks.0.self_attn.q": 2, "blocks.1.ffn.0": 0.5 },
    ],
    ["a part of a word is no end", { r: RANK, lora_alpha: 4, alpha_pattern: { elf_attn: 9, "attn.q": 9 } }, all(1)],
    ["ranks by pattern", { r: 64, lora_alpha: 8, rank_pattern: { "q|k": RANK, "^blocks.1.ffn.0": RANK } }, all(2)],
  ])("%s", async (name, config, expected) => {
    const folder = await peftFolder(name.replace(/\W+/g, "-"), config);
    expect(scales(folder)).toEqual(expected);
    expect(scales(join(folder, "adapter_model.safetensors"))).toEqual(expected);
  });

  it("is matched by diffusers' module names where the file has those", async () => {
    const theirs: Record<string, string> = {
      "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
      "blocks.0.self_attn.k": "blocks.0.attn1.to_k",
      "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    };
    const config = { r: RANK, lora_alpha: 4, alpha_pattern: { "attn1.to_q": 12, "ffn.net.0.proj": 20 } };
    const folder = await peftFolder(
      "diffusers",
      config,
      named((module) => `base_model.model.${theirs[module]}`),
    );
    expect(scales(folder)).toEqual({ ...all(1), "blocks.0.self_attn.q": 3, "blocks.1.ffn.0": 5 });
  });

  it("gives way to an alpha tensor, and is left to the weights it was saved with", async () => {
    const tensors = named((module) => `base_model.model.${module}`);
    tensors["base_model.model.blocks.0.self_attn.q.alpha"] = { shape: [], values: Float32Array.of(2) };
    const folder = await peftFolder("alphas", { r: RANK, lora_alpha: 8 }, tensors);
    expect(scales(folder)).toEqual({ ...all(2), "blocks.0.self_attn.q": 0.5 });
    await write(
      join(folder, "other.safetensors"),
      named((module) => `diffusion_model.${module}`),
    );
    expect(scales(join(folder, "other.safetensors"))).toEqual(all(1));
  });

  it.each([
    ["another kind", { peft_type: "VERA", r: RANK }, "lora.unsupported"],
    ["a changed base", { r: RANK, init_lora_weights: "pissa_niter_4" }, "lora.unsupported"],
    ["another rank", { r: 8, lora_alpha: 8 }, "lora.peft-config"],
    ["a pattern that is none", { r: RANK, alpha_pattern: { "q(": 2 } }, "lora.peft-config"],
    ["words for numbers", { r: RANK, lora_alpha: "16" }, "lora.peft-config"],
  ])("is refused where it cannot be told: %s", async (name, config, code) => {
    const folder = await peftFolder(`bad-${name.replaceAll(" ", "-")}`, config);
    expect(() => readLora(folder)).toThrow(expect.objectContaining({ code, hint: expect.any(String) }));
  });

  it("is refused without weights, and where it is no JSON", async () => {
    mkdirSync(path("bare"));
    writeFileSync(join(path("bare"), "adapter_config.json"), "{}");
    expect(() => readLora(path("bare"))).toThrow(expect.objectContaining({ code: "lora.peft-config" }));
    const folder = await peftFolder("torn", { r: RANK });
    writeFileSync(join(folder, "adapter_config.json"), '{"r": 4,');
    expect(() => readLora(folder)).toThrow(expect.objectContaining({ code: "lora.peft-config" }));
  });

  it("comes with what PEFT saves whole, biases and modules_to_save, which replace the model's own", async () => {
    const tensors = named((module) => `base_model.model.${module}`);
    tensors["base_model.model.blocks.0.self_attn.q.bias"] = { shape: [8] };
    tensors["base_model.model.head.head.modules_to_save.default.weight"] = { shape: [8, 8] };
    tensors["base_model.model.blocks.0.self_attn.k.lora_B.bias"] = { shape: [8] };
    const folder = await peftFolder(
      "whole",
      { r: RANK, lora_alpha: 8, bias: "all", modules_to_save: ["head"] },
      tensors,
    );
    const whole = readLora(folder).filter(({ kind }) => kind === "difference");
    expect(whole).toMatchObject([
      // The bias of an up matrix is scaled with it.
      { parameter: "blocks.0.self_attn.k.bias", replaces: false, scale: 2 },
      { parameter: "blocks.0.self_attn.q.bias", replaces: true, scale: 1 },
      { parameter: "head.head.weight", replaces: true, scale: 1 },
    ]);
  });
});

describe("the scale in a file's metadata", () => {
  const peft = named((module) => `diffusion_model.${module}`);
  const kohya: Record<string, Written> = Object.assign(
    {},
    ...modules.map((module) => {
      const { down, up } = loraNames("kohya", module);
      return pair(down, up);
    }),
  );
  const theirs = pair("transformer.blocks.0.attn1.to_q.lora_A.weight", "transformer.blocks.0.attn1.to_q.lora_B.weight");
  const diffusers = (fields: object) => ({ lora_adapter_metadata: JSON.stringify(fields) });

  it.each([
    ["lora_alpha", peft, { lora_alpha: "16" }, all(4)],
    ["diffusers' copy of PEFT's", peft, diffusers({ lora_alpha: 8, r: RANK }), all(2)],
    [
      "with patterns, under the network's name",
      theirs,
      diffusers({ "transformer.lora_alpha": 4, "transformer.r": RANK, "transformer.alpha_pattern": { to_q: 12 } }),
      { "blocks.0.self_attn.q": 3 },
    ],
    ["kohya's, where there are no alpha tensors", kohya, { ss_network_alpha: "2.0", ss_network_dim: "4" }, all(0.5)],
    ["kohya's of a converted file is in its matrices", peft, { ss_network_alpha: "2.0", ss_network_dim: "4" }, all(1)],
    ["kohya's that is not a number", kohya, { ss_network_alpha: "None" }, all(1)],
  ])("%s", async (name, tensors, metadata, expected) => {
    const file = await write(path(`${name.replace(/\W+/g, "-")}.safetensors`), tensors, metadata);
    expect(scales(file)).toEqual(expected);
    const { notes } = readLoraFile(file);
    const told = metadata as Record<string, string>;
    if (told.ss_network_dim) expect(notes).toEqual([expect.stringContaining("alpha 2 and rank 4")]);
    else expect(notes).toEqual([]);
  });

  it("is refused where it is no number", async () => {
    const file = await write(path("word.safetensors"), peft, { lora_alpha: "sixteen" });
    expect(() => readLora(file)).toThrow(expect.objectContaining({ code: "lora.bad-metadata" }));
  });

  it.each([
    ["f32", []],
    ["f16", [1]],
    ["bf16", []],
    ["f64", [1]],
    ["i64", []],
  ] as const)("alpha as %s of shape [%s]", async (dtype, shape) => {
    const tensors = { ...kohya };
    for (const module of modules)
      tensors[loraNames("kohya", module).alpha!] = { shape, dtype, values: Float32Array.of(8) };
    expect(scales(await write(path(`alpha-${dtype}.safetensors`), tensors))).toEqual(all(2));
  });
});

describe("values", () => {
  it.each(["f64", "f16", "bf16", "f8e4m3"] as const)("of %s are widened", async (dtype) => {
    const values = Float32Array.from({ length: RANK * 8 }, (_, i) => (i % 8) * 0.25 - 1);
    const tensors: Record<string, Written> = {
      "diffusion_model.blocks.0.ffn.0.lora_A.weight": { shape: [RANK, 8], values, dtype },
      "diffusion_model.blocks.0.ffn.0.lora_B.weight": { shape: [8, RANK], values, dtype },
    };
    const [read] = readLora(await write(path(`${dtype}.safetensors`), tensors));
    expect((read as AdapterValues & { kind: "lora" }).down).toEqual(values);
  });
});

describe("a file that holds both experts", () => {
  const both = { ...named((m) => `high_noise_model.${m}`), ...named((m) => `low_noise_model.${m}`) };

  it("is read for each, and written one at a time", async () => {
    const file = await write(path("both.safetensors"), both);
    expect(readLora(file)).toHaveLength(6);
    const high = readLora(file, { expert: "high" });
    expect(high.map((values) => values.expert)).toEqual(["high", "high", "high"]);
    {
      using source = openLora(file);
      expect(recognizeLora(source)).toMatchObject({
        bothExperts: true,
        label: expect.stringContaining("both experts"),
      });
    }
    const out = path("one.safetensors");
    await expect(convertLora(file, out, { format: "peft" })).rejects.toMatchObject({ code: "lora.both-experts" });
    expect(await convertLora(file, out, { format: "diffusers", expert: "low" })).toMatchObject({
      modules: 3,
      excluded: 0,
    });
    using source = openLora(out);
    expect(recognizeLora(source)).toMatchObject({ expert: "low", bothExperts: false });
    expect(source.names.every((name) => name.startsWith("transformer.blocks."))).toBe(true);
    const down = (from: AdapterValues[]) => (from[0] as AdapterValues & { kind: "lora" }).down;
    expect(down(readLora(out))).toEqual(down(readLora(file, { expert: "low" })));
    expect(down(readLora(out))).not.toEqual(down(high));
  });
});

describe("modules left out", () => {
  it("are chosen by patterns of their official names", async () => {
    const file = await write(
      path("some.safetensors"),
      named((m) => `diffusion_model.${m}`),
    );
    expect(Object.keys(scales(file)).sort()).toEqual([...modules].sort());
    expect(readLora(file, { exclude: ["ffn"] })).toHaveLength(2);
    expect(() => readLora(file, { exclude: ["^blocks\\.0\\.", "nothing|ffn"] })).toThrow(
      /every module of the LoRA was excluded/,
    );
    const out = path("less.safetensors");
    expect(await convertLora(file, out, { format: "kohya", exclude: ["self_attn\\.q"] })).toMatchObject({
      modules: 2,
      excluded: 1,
    });
    expect(Object.keys(scales(out)).sort()).toEqual(modules.slice(1).sort());
  });

  it("a pattern that matches nothing, or is none, is told", async () => {
    const file = await write(
      path("wrong.safetensors"),
      named((m) => `diffusion_model.${m}`),
    );
    for (const exclude of ["blocks.7", "("])
      await expect(
        convertLora(file, path("none.safetensors"), { format: "kohya", exclude: [exclude] }),
      ).rejects.toMatchObject({ code: "lora.exclude" });
    await expect(
      convertLora(file, path("none.safetensors"), { format: "kohya", exclude: ["."] }),
    ).rejects.toMatchObject({ code: "lora.exclude" });
  });
});

describe("a LoRA that does nothing", () => {
  it("is known as that", async () => {
    const tensors = named((m) => `diffusion_model.${m}`);
    for (const name of Object.keys(tensors))
      if (name.includes("lora_B")) tensors[name] = { shape: [8, RANK], values: new Float32Array(8 * RANK) };
    const file = await write(path("idle.safetensors"), tensors);
    expect(changesNothing(file)).toBe(true);
    expect(describeLora(file)).toMatchObject({ idle: 3, broken: [] });
    const [first] = Object.keys(tensors).filter((name) => name.includes("lora_B"));
    const one = { ...tensors, [first!]: { shape: [8, RANK] } };
    expect(changesNothing(await write(path("awake.safetensors"), one))).toBe(false);
  });
});

describe("damage", () => {
  const adapters = (): AdapterValues[] => {
    const next = draws(3);
    const values = (count: number) => Float32Array.from({ length: count }, next);
    return modules.map((module) => ({
      kind: "lora",
      module,
      rank: RANK,
      inputs: 8,
      outputs: 8,
      alpha: 4,
      down: values(RANK * 8),
      up: values(RANK * 8),
    }));
  };
  const formats: LoraFormat[] = ["kohya", "peft"];

  /** Flips one bit of the data, `share` of the way through it. */
  function flip(file: string, share: number): void {
    const bytes = readFileSync(file);
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    const at = start + Math.floor((bytes.length - start) * share);
    bytes[at] = bytes[at]! ^ 0x10;
    writeFileSync(file, bytes);
  }

  it.each(formats)("a flipped bit in a file of our own is found: %s", async (format) => {
    for (const share of [0, 0.3, 0.999]) {
      const file = path(`flipped-${format}.safetensors`);
      await writeLora(file, adapters(), { format, dtype: "bf16" });
      expect(readLoraFile(file).notes).toEqual([]);
      flip(file, share);
      expect(() => readLora(file)).toThrow(expect.objectContaining({ code: "lora.damaged" }));
      expect(() => describeLora(file)).toThrow(expect.objectContaining({ code: "lora.damaged" }));
      await expect(convertLora(file, path("never.safetensors"), { format: "peft" })).rejects.toMatchObject({
        code: "lora.damaged",
      });
    }
  });

  it("another tool's stale hash is a note, whether it made the file or converted one of ours", async () => {
    const foreign = await write(
      path("foreign.safetensors"),
      named((m) => `diffusion_model.${m}`),
      {
        sshs_model_hash: "0".repeat(64),
      },
    );
    expect(readLoraFile(foreign).notes).toEqual([expect.stringContaining("hash in its metadata")]);
    const ours = path("ours.safetensors");
    await writeLora(ours, adapters(), { format: "kohya", dtype: "f32" });
    using source = SafetensorsFile.open(ours);
    const renamed = Object.fromEntries(
      source.names
        .filter((name) => !name.endsWith(".alpha"))
        .map((name) => [
          name.replace("lora_unet_", "diffusion_model.").replace(/_(\d)_(self_attn|ffn)_/, ".$1.$2."),
          { shape: source.info(name).shape },
        ]),
    );
    const converted = await write(path("converted.safetensors"), renamed, { ...source.metadata });
    expect(readLoraFile(converted).notes).toEqual([expect.stringContaining("converted or edited by another tool")]);
  });
});
