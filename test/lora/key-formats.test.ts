import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { loraNames } from "../../src/lora/adapters/lora.ts";
import { formatHasAlpha, type LoraFormat } from "../../src/lora/key-formats.ts";
import { type AdapterSource, type ParsedLora, parseLora } from "../../src/lora/parse.ts";
import { adaptersFrom, sourceOf } from "../../src/lora/read.ts";
import { ditNames } from "../../src/models/wan/weight-names.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";

const formats: LoraFormat[] = ["kohya", "peft", "diffusers", "diffsynth"];

const modules = [
  ...["q", "k", "v", "o"].flatMap((part) => [`blocks.7.self_attn.${part}`, `blocks.31.cross_attn.${part}`]),
  ...["blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "blocks.12.ffn.0", "blocks.12.ffn.2"],
  ...["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"],
  ...["head.head", "patch_embedding", "img_emb.proj.1", "img_emb.proj.3"],
];

/** Names alone, as of a LoRA of rank 2 on square layers of width 4, all of whose values are 3. */
function parse(names: Iterable<string>, more: Partial<AdapterSource> = {}): ParsedLora {
  const shape = (name: string) => {
    if (/alpha$/.test(name)) return [];
    if (/(?:diff|diff_[bm]|[wb]_norm|set_weight|bias)$/.test(name)) return [4];
    return /down|lora_A|w[12]_b/.test(name) ? [2, 4] : [4, 2];
  };
  return parseLora({ names, shape, values: () => Float32Array.of(3), ...more });
}

const namesOf = ({ down, up, alpha }: { down: string; up: string; alpha?: string }) =>
  alpha === undefined ? [down, up] : [down, up, alpha];

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
    expect(loraNames("diffusers", "blocks.3.ffn.0").up).toBe("transformer.blocks.3.ffn.net.0.proj.lora_B.weight");
    expect(loraNames("diffsynth", "blocks.3.ffn.2").down).toBe("blocks.3.ffn.2.lora_A.default.weight");
  });

  test.each(formats)("%s: every module comes back from its names", (format) => {
    const names = modules.flatMap((module) => namesOf(loraNames(format, module)));
    const parsed = parse(names);
    expect(parsed).toMatchObject({ formats: [format], others: [], unmatched: [], refused: [] });
    expect(parsed.comfy).toBe(format === "kohya" || format === "peft");
    expect(parsed.adapters.map(({ module, tensors }) => [module, tensors])).toEqual(
      modules.map((module) => [module, namesOf(loraNames(format, module))]),
    );
    expect(parsed.adapters.every(({ alpha }) => alpha === (formatHasAlpha[format] ? 3 : 2))).toBe(true);
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
    [
      "a compiled model",
      "diffusion_model._orig_mod.blocks.0.self_attn.q.lora_A.weight",
      "diffusion_model._orig_mod.blocks.0.self_attn.q.lora_B.weight",
      "peft",
    ],
    [
      "compiled blocks under wrappers",
      "module.transformer.blocks.0._orig_mod.attn1.to_q.lora_A.default.weight",
      "module.transformer.blocks.0._orig_mod.attn1.to_q.lora_B.default.weight",
      "diffusers",
    ],
    [
      "a compiled model in kohya's names",
      "lora_unet__orig_mod_blocks_0_self_attn_q.lora_down.weight",
      "lora_unet__orig_mod_blocks_0_self_attn_q.lora_up.weight",
      "kohya",
    ],
    [
      "PEFT around ComfyUI's names",
      "base_model.model.diffusion_model.blocks.0.self_attn.q.lora_A.weight",
      "base_model.model.diffusion_model.blocks.0.self_attn.q.lora_B.weight",
      "peft",
    ],
    [
      "PEFT around diffusers' names",
      "base_model.model.transformer.blocks.0.attn1.to_q.lora_A.weight",
      "base_model.model.transformer.blocks.0.attn1.to_q.lora_B.weight",
      "diffusers",
    ],
    ["bare diffusers names", "blocks.0.attn1.to_q.lora_A.weight", "blocks.0.attn1.to_q.lora_B.weight", "diffusers"],
  ];
  test.each(spellings)("%s", (_, down, up, format) => {
    expect(parse([down, up])).toMatchObject({
      formats: [format],
      adapters: [{ kind: "lora", module: q, tensors: [down, up] }],
      others: [],
      unmatched: [],
    });
  });

  test("lightx2v's changes of norms, biases and modulation", () => {
    const names = [
      "diffusion_model.blocks.0.norm3.diff",
      "diffusion_model.blocks.0.norm3.diff_b",
      "diffusion_model.blocks.0.self_attn.norm_q.diff",
      "diffusion_model.blocks.0.self_attn.q.diff_b",
      "diffusion_model.blocks.0.diff_m",
      "diffusion_model.blocks.1.modulation.diff",
      "diffusion_model.head.diff_m",
      "diffusion_model.patch_embedding.diff",
      "lora_unet_blocks_0_norm3.w_norm",
      "diffusion_model.blocks.1.norm3.set_weight",
    ];
    const parsed = parse(names);
    expect(parsed.unmatched).toEqual([
      { name: "lora_unet_blocks_0_norm3.w_norm", why: "a second diff for blocks.0.norm3" },
    ]);
    expect(parsed.adapters.map(({ kind, place }) => [kind, place.parameter])).toEqual([
      ["difference", "blocks.0.norm3.weight"],
      ["difference", "blocks.0.norm3.bias"],
      ["difference", "blocks.0.self_attn.norm_q.weight"],
      ["difference", "blocks.0.self_attn.q.bias"],
      ["difference", "blocks.0.modulation"],
      ["difference", "blocks.1.modulation"],
      ["difference", "head.modulation"],
      ["difference", "patch_embedding.weight"],
      ["difference", "blocks.1.norm3.weight"],
    ]);
  });

  test("one file for both experts, however their names are told apart", () => {
    const q = "blocks.0.self_attn.q";
    const pair = (stem: string) => [`${stem}.lora_A.weight`, `${stem}.lora_B.weight`];
    const kohya = (stem: string) => [`${stem}.lora_down.weight`, `${stem}.lora_up.weight`];
    const forms: [high: string[], low: string[]][] = [
      [pair("transformer.blocks.0.attn1.to_q"), pair("transformer_2.blocks.0.attn1.to_q")],
      [pair(`high_noise.${q}`), pair(`low_noise.${q}`)],
      [pair(`diffusion_model.high_noise_model.${q}`), pair(`diffusion_model.low_noise_model.${q}`)],
      [pair(`high_noise_model.diffusion_model.${q}`), pair(`low_noise_model.diffusion_model.${q}`)],
      [pair(`pipe.dit.${q}`), pair(`pipe.dit2.${q}`)],
      [kohya("lora_unet_high_noise_blocks_0_self_attn_q"), kohya("lora_unet_low_noise_blocks_0_self_attn_q")],
    ];
    for (const [high, low] of forms) {
      const parsed = parse([...low, ...high]);
      expect(parsed).toMatchObject({ experts: ["high", "low"], unmatched: [], refused: [] });
      expect(parsed.adapters.map(({ expert, tensors }) => [expert, tensors])).toEqual([
        ["low", low],
        ["high", high],
      ]);
      expect(parse(low).experts).toEqual(["low"]);
    }
    expect(parse(pair("transformer.blocks.0.attn1.to_q")).experts).toEqual([]);
  });

  test("kinds that are not applied, and what is incomplete, are named", () => {
    const stem = "lora_unet_blocks_0_self_attn_q";
    const parsed = parse([`${stem}.oft_blocks`, `${stem}.alpha`, "lora_unet_blocks_0_ffn_0.lora_up.weight"]);
    expect(parsed.others.map(({ name, kind }) => [name, kind])).toEqual([
      [`${stem}.oft_blocks`, "OFT"],
      [`${stem}.alpha`, "OFT"],
    ]);
    expect(parsed.unmatched).toEqual([
      { name: "lora_unet_blocks_0_ffn_0.lora_up.weight", why: "blocks.0.ffn.0 lacks its down matrix" },
    ]);
    expect(parse([`${stem}.hada_w1_a`, `${stem}.alpha`]).unmatched.map(({ why }) => why)).toEqual([
      "blocks.0.self_attn.q has only hada w1 a, alpha: the rest of the adapter is missing",
      "blocks.0.self_attn.q has only hada w1 a, alpha: the rest of the adapter is missing",
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
        const { adapters, others, unmatched, refused } = parse(list);
        const named = [...others, ...unmatched].map(({ name }) => name);
        const used = [...adapters.flatMap(({ tensors }) => tensors), ...refused.flatMap(({ names }) => names)];
        expect([...used, ...named].sort()).toEqual([...list].sort());
      }),
      { numRuns: 500 },
    );
  });

  test("any parts of any shapes: each tensor ends in exactly one list, and what is whole can be loaded", () => {
    const endings = [
      ...["lora_down.weight", "lora_up.weight", "lora_A.weight", "lora_B.weight", "lora_B.bias", "alpha", "dora_scale"],
      ...[
        "lora_magnitude_vector",
        "hada_w1_a",
        "hada_w1_b",
        "hada_w2_a",
        "hada_w2_b",
        "hada_t1",
        "lokr_w1",
        "lokr_w1_a",
      ],
      ...[
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "diff",
        "diff_b",
        "diff_m",
        "set_weight",
        "w_norm",
        "b_norm",
      ],
      ...["weight", "bias", "oft_blocks", "lora_mid.weight"],
    ];
    const shapes = [[], [0], [1], [4], [2, 2], [4, 2], [2, 4], [1, 4], [4, 1], [4, 0], [2, 2, 1, 1], [1, 6, 4]];
    const stems = ["diffusion_model.blocks.0.self_attn.q", "lora_unet_blocks_0_norm3", "high_noise.blocks.1", "head"];
    const tensor = fc.record({
      name: fc.tuple(fc.constantFrom(...stems), fc.constantFrom(...endings)).map((parts) => parts.join(".")),
      shape: fc.constantFrom(...shapes),
    });
    const file = fc.uniqueArray(tensor, { minLength: 1, maxLength: 20, selector: ({ name }) => name });
    fc.assert(
      fc.property(file, fc.boolean(), (tensors, folder) => {
        const sizes = new Map(tensors.map(({ name, shape }) => [name, shape]));
        const parsed = parseLora({
          names: sizes.keys(),
          shape: (name) => sizes.get(name)!,
          values: (name) => new Float32Array(sizes.get(name)!.reduce((a, b) => a * b, 1)).fill(2),
          ...(folder ? { peft: {} } : {}),
        });
        const { adapters, others, unmatched, refused } = parsed;
        const named = [...others, ...unmatched].map(({ name }) => name);
        const used = [...adapters.flatMap((each) => each.tensors), ...refused.flatMap(({ names }) => names)];
        // An alpha that is no number spoils an adapter, and is in both.
        expect(new Set([...used, ...named])).toEqual(new Set(sizes.keys()));
        for (const adapter of adapters) expect(adapter.load().kind).toBe(adapter.kind);
      }),
      { numRuns: 1000 },
    );
  });

  test.skipIf(!sharedFolder)(`the reference adapters${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`, () => {
    for (const format of ["kohya", "peft"] as const) {
      using file = SafetensorsFile.open(`${sharedFolder}golden/lora-apply.${format}.safetensors`);
      const parsed = parseLora(sourceOf(file));
      expect(parsed).toMatchObject({ formats: [format], others: [], unmatched: [], refused: [] });
      expect(parsed.adapters.length).toBe(20);
    }
  });
});

test("what cannot be read comes with a hint", () => {
  const shape = () => [2, 2];
  const tensors = { shape, values: () => new Float32Array(4) };
  const names = namesOf(loraNames("peft", "blocks.0.self_attn.q"));
  const hinted = expect.objectContaining({ hint: expect.stringMatching(/./) });
  expect(() => adaptersFrom({ ...tensors, names, metadata: { lora_adapter_metadata: "{" } })).toThrow(hinted);
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
