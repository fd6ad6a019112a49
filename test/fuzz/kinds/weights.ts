// Weight files: safetensors, GGUF, torch archives, shards, LoRA files, PEFT folders, checkpoints, tokenizers.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bytesOf } from "../../../src/base/dtype.ts";
import { openDevice } from "../../../src/device/open-device.ts";
import { GgufFile } from "../../../src/io/gguf.ts";
import { writeSafetensors } from "../../../src/io/safetensors-writer.ts";
import { openTensorSource, type TensorSource } from "../../../src/io/tensor-source.ts";
import { parseTokenizer } from "../../../src/io/tokenizer/load.ts";
import { readLoraFile } from "../../../src/lora/read.ts";
import { searchCheckpoint } from "../../../src/models/wan/checkpoint-files.ts";
import { loadVae } from "../../../src/models/wan/load.ts";
import { wanModels } from "../../../src/models/wan/params.ts";
import { loadLatents } from "../../../src/sample/latents-file.ts";
import { tinyParts, writeDiffusersFolder } from "../../support/checkpoint-layouts.ts";
import { ggufBytes, int32s, string, strings, uint32 } from "../../support/gguf-writer.ts";
import { huggingfaceTokenizer, type PieceRow, sentencepieceModel } from "../../support/tokenizer-files.ts";
import {
  contiguousStride,
  PickleWriter,
  type TorchTensor,
  torchZip,
  zipArchive,
} from "../../support/torch-zip-writer.ts";
import { loraShapes, randomTensors, tinyDit, writeSharded } from "../../support/wan-files.ts";
import { below, changedBytes, changedJson, changedJsonText, nastyNumber, nastyText } from "../changes.ts";
import { readCli } from "../cli.ts";
import { expectValid, type Kind, put } from "../run.ts";

type Json = Record<string, unknown>;

/** Reads every tensor; each must have as many bytes as its shape says. */
function readAll(source: TensorSource): string {
  for (const name of source.names) {
    const { dtype, shape } = source.info(name);
    const bytes = source.bytes(name);
    let sum = 0;
    for (const byte of bytes) sum += byte;
    expectValid(
      bytes.length === bytesOf(dtype) * shape.reduce((a, b) => a * b, 1) && sum >= 0,
      `${name} has another size`,
    );
  }
  return `${source.names.join(" ")} ${JSON.stringify(source.metadata)}`;
}

const tensors: TorchTensor[] = [
  { name: "blocks.0.self_attn.q.weight", dtype: "bf16" as const, shape: [16, 24] },
  { name: "blocks.0.self_attn.q.bias", dtype: "f32" as const, shape: [16] },
  { name: "steps", dtype: "i64" as const, shape: [2] },
  { name: "scalar", dtype: "f32" as const, shape: [] },
].map((row, i) => {
  const length = bytesOf(row.dtype) * row.shape.reduce((a, b) => a * b, 1);
  return { ...row, bytes: Uint8Array.from({ length }, (_, j) => (j * 7 + i * 3) & 0xff) };
});

/** A safetensors file whose header is another; the length before it true, as a rule. */
function withHeader(bytes: Buffer, change: (header: unknown) => Uint8Array): Buffer {
  const length = Number(bytes.readBigUInt64LE(0));
  const header = change(JSON.parse(bytes.toString("utf8", 8, 8 + length)));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([size, header, bytes.subarray(8 + length)]);
}

const safetensors: Kind = {
  name: "safetensors",
  share: 1200,
  async prepare(base) {
    const path = join(base, "a.safetensors");
    await writeSafetensors(path, tensors, { format: "pt", "kinora.note": "a", modelspec: "x" });
    const whole = readFileSync(path);
    return async (draws, place) => {
      const file = join(place.inside, "a.safetensors");
      const changed = draws.chance(0.7)
        ? withHeader(whole, (header) => changedJsonText(draws, header, place.outside))
        : changedBytes(draws, whole, place.outside, 400);
      put(draws, place, file, changed);
      if (draws.chance(0.2)) return readCli(draws, ["models", "inspect", file, "--names"]);
      using source = openTensorSource(file);
      return readAll(source);
    };
  },
};

const gguf: Kind = {
  name: "GGUF",
  share: 800,
  async prepare() {
    const metadata = {
      "general.architecture": string("wan"),
      "general.alignment": uint32(32),
      "comfy.gguf.orig_shape.blocks.0.weight": int32s([2, 32]),
      "tokenizer.ggml.tokens": strings(["a", "b"]),
    };
    const rows = [
      { name: "blocks.0.weight", shape: [2, 32], type: 8, data: new Uint8Array(68).fill(3) },
      { name: "blocks.0.bias", shape: [32], type: 0, data: new Uint8Array(128).fill(1) },
      { name: "head", shape: [1, 256], type: 12, data: new Uint8Array(144).fill(7) },
    ];
    const whole = ggufBytes(rows, metadata);
    return async (draws, place) => {
      const file = join(place.inside, "a.gguf");
      const bytes = draws.chance(0.3)
        ? ggufBytes(
            rows.map((row) =>
              draws.chance(0.5)
                ? {
                    ...row,
                    name: nastyText(draws, place.outside),
                    offset: Math.abs(Math.trunc(nastyNumber(draws))) % 2 ** 52,
                  }
                : { ...row, shape: [below(draws, 2 ** 20), below(draws, 2 ** 30)], type: below(draws, 45) },
            ),
            metadata,
          )
        : changedBytes(draws, whole, place.outside, 420);
      put(draws, place, file, bytes);
      using read = GgufFile.open(file);
      for (const { name, bytes: size } of read.tensors) {
        expectValid(read.bytes(name).length === size && size <= bytes.length, `${name} has another size`);
      }
      return read.tensors.map(({ name }) => name).join(" ");
    };
  },
};

const torch: Kind = {
  name: "torch archive",
  share: 900,
  async prepare() {
    const whole = torchZip(tensors, { wrapper: "model" });
    const deflated = torchZip(tensors, { deflate: true });
    const pickleOf = (draws: Parameters<typeof nastyNumber>[0], outside: string) => {
      const pickle = new PickleWriter().orderedDict().mark();
      for (const [i, { name, dtype, shape }] of tensors.entries()) {
        const odd = () => (draws.chance(0.15) ? Math.trunc(nastyNumber(draws)) % 2 ** 62 : undefined);
        pickle.text(draws.chance(0.1) ? nastyText(draws, outside) : name).tensor(dtype, `${odd() ?? i}`, odd() ?? 384, {
          offset: odd() ?? 0,
          shape: shape.map((side) => odd() ?? side),
          stride: contiguousStride(shape).map((step) => odd() ?? step),
        });
      }
      return pickle.setItems().finish();
    };
    return async (draws, place) => {
      const file = join(place.inside, "a.pth");
      const data = tensors.map(({ bytes }, i) => ({ name: `archive/data/${i}`, bytes }));
      const kind = draws.unit();
      const bytes =
        kind < 0.35
          ? changedBytes(draws, draws.chance(0.5) ? whole : deflated, place.outside)
          : kind < 0.5
            ? zipArchive([
                {
                  name: draws.chance(0.5) ? "archive/data.pkl" : nastyText(draws, place.outside),
                  bytes: pickleOf(draws, place.outside),
                  deflate: true,
                  claimedSize: Math.abs(Math.trunc(nastyNumber(draws))) % 2 ** 32,
                },
                ...data,
              ])
            : zipArchive([
                {
                  name: "archive/data.pkl",
                  bytes: draws.chance(0.5)
                    ? changedBytes(draws, pickleOf(draws, place.outside), place.outside)
                    : pickleOf(draws, place.outside),
                  deflate: draws.chance(0.3),
                },
                ...data,
              ]);
      put(draws, place, file, bytes);
      using source = openTensorSource(file);
      return readAll(source);
    };
  },
};

const shards: Kind = {
  name: "index of shards",
  share: 300,
  async prepare(base) {
    const index = join(base, "m.safetensors.index.json");
    await writeSharded(index, tensors);
    const whole = JSON.parse(readFileSync(index, "utf8")) as Json;
    return async (draws, place) => {
      cpSync(base, place.inside, { recursive: true });
      const file = join(place.inside, "i.safetensors.index.json");
      put(draws, place, file, changedJsonText(draws, whole, place.outside));
      using source = openTensorSource(file);
      return readAll(source);
    };
  },
};

const lora: Kind = {
  name: "LoRA file",
  share: 900,
  async prepare(base) {
    const forms = (["kohya", "peft", "diffusers", "diffsynth"] as const).map((format) => ({
      format,
      tensors: randomTensors(loraShapes(format, tinyDit, /self_attn\.[qk]$/, 4), "f32"),
    }));
    const files: Buffer[] = [];
    for (const { format, tensors: list } of forms) {
      const path = join(base, `${format}.safetensors`);
      await writeSafetensors(path, list, {
        ss_network_dim: "4",
        ss_network_alpha: "2",
        ss_tag_frequency: '{"a":{"b":1}}',
        lora_adapter_metadata: JSON.stringify({
          transformer: { r: 4, lora_alpha: 8, alpha_pattern: { "blocks.*": 3 } },
        }),
      });
      files.push(readFileSync(path));
    }
    return async (draws, place) => {
      const file = join(place.inside, "l.safetensors");
      const whole = draws.pick(files);
      const rename = (header: unknown) => {
        const entries = Object.entries(header as Json).map(([name, value]) => {
          if (!draws.chance(0.08)) return [name, value];
          const parts = name.split(".");
          parts[below(draws, parts.length)] = nastyText(draws, place.outside);
          return [parts.join("."), value];
        });
        const renamed = Object.fromEntries(entries);
        return draws.chance(0.5)
          ? Buffer.from(JSON.stringify(renamed))
          : changedJsonText(draws, renamed, place.outside);
      };
      put(
        draws,
        place,
        file,
        draws.chance(0.8) ? withHeader(whole, rename) : changedBytes(draws, whole, place.outside, 2000),
      );
      if (draws.chance(0.3)) return readCli(draws, ["lora", "inspect", file]);
      if (draws.chance(0.2)) {
        const out = join(place.inside, "out.safetensors");
        return readCli(draws, [
          "lora",
          "convert",
          file,
          "--to",
          draws.pick(["comfy", "musubi", "diffusers"]),
          "--out",
          out,
        ]);
      }
      const exclude = draws.chance(0.2) ? [nastyText(draws, place.outside)] : undefined;
      return readLoraFile(file, { exclude }).adapters.length;
    };
  },
};

const peft: Kind = {
  name: "PEFT folder",
  share: 400,
  async prepare(base) {
    const list = randomTensors(loraShapes("diffusers", tinyDit, /self_attn\.[qk]$/, 4), "f32").map((tensor) => ({
      ...tensor,
      name: tensor.name.replace("transformer.", "base_model.model."),
    }));
    const weights = join(base, "adapter_model.safetensors");
    await writeSafetensors(weights, list);
    const config = {
      peft_type: "LORA",
      r: 4,
      lora_alpha: 8,
      use_rslora: true,
      rank_pattern: { "blocks.0.attn1.to_q": 4 },
      alpha_pattern: { "blocks\\.\\d+\\.attn1\\.to_k": 2, "^to_q$": 1 },
      init_lora_weights: true,
      modules_to_save: null,
    };
    return async (draws, place) => {
      cpSync(base, place.inside, { recursive: true });
      const pattern = draws.chance(0.3)
        ? { alpha_pattern: { [draws.pick(["(a+)+$", "(.*)*x", "((\\w+.?)+)+\\d$", "["])]: 3 } }
        : {};
      put(
        draws,
        place,
        join(place.inside, "adapter_config.json"),
        changedJsonText(draws, { ...config, ...pattern }, place.outside),
      );
      return readLoraFile(place.inside).adapters.length;
    };
  },
};

const checkpoint: Kind = {
  name: "checkpoint folder",
  share: 200,
  async prepare(base) {
    await writeDiffusersFolder(base, tinyParts("tiny-t2v"), 0.875);
    const index = JSON.parse(readFileSync(join(base, "model_index.json"), "utf8")) as Json;
    const config = {
      _class_name: "AutoencoderKLWan",
      z_dim: 16,
      latents_mean: Array(16).fill(0),
      latents_std: Array(16).fill(1),
    };
    return async (draws, place) => {
      mkdirSync(join(place.inside, "vae"));
      cpSync(join(base, "vae"), join(place.inside, "vae"), { recursive: true });
      for (const [path, value] of [
        ["model_index.json", index],
        ["vae/config.json", config],
      ] as const)
        if (draws.chance(0.6)) {
          const file = join(place.inside, path);
          writeFileSync(file, "");
          const bytes = changedJsonText(draws, value, place.outside);
          writeFileSync(file, bytes);
        }
      const found = searchCheckpoint(wanModels["tiny-t2v"], { folder: place.inside });
      const { device } = await openDevice("reference");
      try {
        using vae = loadVae(device, found.file("vae"), { dtype: "f32", half: "decoder" });
        return [found.boundary, vae.config.kind];
      } finally {
        device[Symbol.dispose]();
      }
    };
  },
};

const pieces: readonly PieceRow[] = [
  ["<pad>", 0, "control"],
  ["</s>", 0, "control"],
  ["<unk>", 0, "unknown"],
  ["▁", -1],
  ..."abcdefgh".split("").map((letter) => [letter, -2] as const),
];

const tokenizers: Kind = {
  name: "tokenizer",
  share: 500,
  async prepare() {
    const model = sentencepieceModel({ pieces });
    const json = huggingfaceTokenizer(pieces);
    return async (draws, place) => {
      const bytes = draws.chance(0.6)
        ? changedJsonText(draws, json, place.outside)
        : changedBytes(draws, model, place.outside);
      const tokenizer = parseTokenizer(bytes);
      const { ids } = tokenizer.encode(`abc ${nastyText(draws, place.outside)}`) as { ids?: readonly number[] };
      return ids?.length;
    };
  },
};

const latents: Kind = {
  name: "saved latents",
  share: 300,
  async prepare(base) {
    const { saveLatents } = await import("../../../src/sample/latents-file.ts");
    const { recipe } = await import("../../support/recipe.ts");
    const path = join(base, "l.safetensors");
    const shape = [1, 2, 2, 2] as const;
    await saveLatents(path, {
      recipe,
      shape: shape as never,
      latents: new Float32Array(8),
      wishes: { keepLatents: true, preview: false },
      scheduler: { kind: "unipc", step: 1, steps: 3, shift: 5, order: 1, tensors: { a: new Float32Array(8) } } as never,
      memory: new Map(),
    });
    const whole = readFileSync(path);
    return async (draws, place) => {
      const file = join(place.inside, "l.safetensors");
      const inner = (header: unknown) => {
        const { __metadata__: metadata, ...rest } = header as { __metadata__: Record<string, string> };
        const key = draws.pick(Object.keys(metadata));
        const value: unknown = metadata[key]?.startsWith("{") ? JSON.parse(metadata[key]) : metadata[key];
        return Buffer.from(
          JSON.stringify({
            __metadata__: { ...metadata, [key]: JSON.stringify(changedJson(draws, value, place.outside)) },
            ...rest,
          }),
        );
      };
      put(draws, place, file, draws.chance(0.7) ? withHeader(whole, inner) : changedBytes(draws, whole, place.outside));
      if (draws.chance(0.3)) return readCli(draws, ["show", file]);
      return loadLatents(file).latents.length;
    };
  },
};

export const weightKinds: readonly Kind[] = [
  safetensors,
  gguf,
  torch,
  shards,
  lora,
  peft,
  checkpoint,
  tokenizers,
  latents,
];
