// Models and LoRAs whose names, shapes and dtypes are spoiled in ways that the file formats allow: inspecting them and
// asking for their weights ends in an answer that holds what it says, or in a coded error that a person can read.
import { describe, expect, test } from "vitest";
import { bytesOf, type DType, dtypes } from "../../src/base/dtype.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { elementCount } from "../../src/base/shape.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { inspectWeights } from "../../src/lora/inspect.ts";
import { findComponents } from "../../src/models/wan/weight-names.ts";
import { ditShapes, textEncoderShapes, vaeShapes } from "../../src/models/wan/weight-shapes.ts";
import { readWeights } from "../../src/models/wan/weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  inDiffusers,
  loraShapes,
  type NamedTensor,
  quantized,
  randomTensors,
  textEncoderInTransformers,
  tinyDit,
  tinyTextEncoder,
  tinyVae22,
  writeFile,
} from "../support/wan-files.ts";

const path = temporaryFolder();
const READABLE = 10_000;

function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const words = [
  "999999999",
  "weight",
  "bias",
  "scale_weight",
  "comfy_quant",
  "lora_A",
  "alpha",
  "resnets",
  "__proto__",
  "",
  "blocks",
  "0",
];
const types = Object.keys(dtypes) as DType[];

/** One tensor renamed, reshaped or retyped; its bytes always fit. */
function spoil(tensor: NamedTensor, random: (below: number) => number): NamedTensor {
  const parts = tensor.name.split(".");
  const shape = [...tensor.shape];
  let dtype = tensor.dtype;
  switch (random(5)) {
    case 0:
      parts[random(parts.length)] = words[random(words.length)]!;
      break;
    case 1:
      parts.splice(random(parts.length), 0, words[random(words.length)]!);
      break;
    case 2:
      if (shape.length > 0) shape[random(shape.length)] = random(5);
      break;
    case 3:
      shape.splice(random(shape.length + 1), random(2), random(4));
      break;
    default:
      dtype = types[random(types.length)]!;
  }
  const bytes = Uint8Array.from({ length: dtypes[dtype].bytes * elementCount(shape) }, () => random(256));
  return { name: parts.join("."), dtype, shape, bytes };
}

async function tryOut(
  tensors: readonly NamedTensor[],
  metadata: Record<string, string> = {},
): Promise<"answer" | "refusal"> {
  const unique = [...new Map(tensors.map((tensor) => [tensor.name, tensor])).values()];
  const file = await writeFile(path("spoiled.safetensors"), unique, metadata);
  let outcome: "answer" | "refusal" = "answer";
  try {
    using source = openTensorSource(file);
    inspectWeights(source);
    for (const component of findComponents(source.names)) {
      if (component.kind !== "dit") continue;
      using reader = readWeights(source, component, ditShapes(tinyDit));
      for (const name of reader.names()) {
        const weight = reader.find(name)!;
        expect(weight.bytes().length).toBe(elementCount(weight.shape) * bytesOf(weight.dtype));
      }
    }
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    expect(`${error.message}${error.hint}`.length).toBeLessThan(READABLE);
    outcome = "refusal";
  }
  return outcome;
}

const small = {
  ...tinyDit,
  dim: 128,
  ffnDim: 16,
  textDim: 8,
  frequencyDim: 8,
  layers: 1,
  inputChannels: 4,
  outputChannels: 4,
};

describe("spoiled models", () => {
  const starts: [string, NamedTensor[]][] = [
    ["official transformer", randomTensors(ditShapes(small), "f16")],
    ["scaled transformer", quantized(randomTensors(ditShapes(small), "f16"), "weight_scale")],
    ["diffusers' transformer", inDiffusers("dit", randomTensors(ditShapes(small), "bf16"))],
    ["autoencoder", randomTensors(vaeShapes(tinyVae22), "bf16").map((tensor) => ({ ...tensor }))],
    ["diffusers' autoencoder", inDiffusers("vae22", randomTensors(vaeShapes(tinyVae22), "bf16"))],
    ["text encoder", textEncoderInTransformers(randomTensors(textEncoderShapes(tinyTextEncoder), "bf16"))],
    ["LoRA", randomTensors(loraShapes("kohya", small, /attn/, 2), "bf16")],
  ];
  test.each(starts)("%s", async (_, tensors) => {
    const random = randomNumbers(tensors.length);
    for (let round = 0; round < 30; round++) {
      const list = [...tensors];
      for (let changes = 1 + random(3); changes > 0; changes--) {
        const at = random(list.length);
        list[at] = spoil(list[at]!, random);
      }
      await tryOut(list);
    }
  });

  test("a model that lacks one tensor of its own sizes is refused when its weights are asked for", async () => {
    expect(await tryOut(randomTensors(ditShapes(tinyDit), "f16"))).toBe("answer");
    expect(await tryOut(randomTensors(ditShapes(tinyDit), "f16").slice(1))).toBe("answer");
    expect(
      await tryOut(randomTensors(ditShapes(tinyDit), "f16").filter(({ name }) => name !== "blocks.1.modulation")),
    ).toBe("refusal");
  });

  test("thirty thousand names that no model has", async () => {
    const stray = Array.from({ length: 30_000 }, (_, i) => ({
      name: `blocks.0.self_attn.${i}`,
      dtype: "u8" as const,
      shape: [0],
      bytes: new Uint8Array(0),
    }));
    expect(await tryOut([...randomTensors(ditShapes(small), "f16"), ...stray])).toBe("refusal");
  });

  test("names of a megabyte, and more networks than can be", async () => {
    const long = [".lora_magnitude_vector", ".lora_A.x", ".hada_", "blocks.0."].map((piece) => ({
      name: piece.repeat(1e6 / piece.length),
      dtype: "u8" as const,
      shape: [0],
      bytes: new Uint8Array(0),
    }));
    await tryOut(long);
    await tryOut([...randomTensors(ditShapes(small), "f16"), ...long]);
    const many = Array.from({ length: 200 }, (_, i) =>
      ["patch_embedding.weight", "head.modulation", "head.head.weight"].map((name) => ({
        name: `m${i}.${name}`,
        dtype: "u8" as const,
        shape: [0],
        bytes: new Uint8Array(0),
      })),
    );
    expect(await tryOut(many.flat())).toBe("refusal");
  });

  test("quantisation metadata that is nonsense", async () => {
    for (const text of [
      "",
      "{",
      "[]",
      "null",
      "5",
      '{"layers":5}',
      '{"layers":{"blocks.0.self_attn.q":7}}',
      '{"layers":{"blocks.0.self_attn.q":{"format":7}}}',
    ]) {
      await tryOut(randomTensors(ditShapes(tinyDit), "f16"), { _quantization_metadata: text });
    }
    for (const text of ["", "[]", "null", '{"transformer.lora_alpha":"x"}']) {
      await tryOut(randomTensors(loraShapes("diffusers", small, /attn/, 2), "bf16"), { lora_adapter_metadata: text });
    }
  });
});
