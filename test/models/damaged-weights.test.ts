// GGUF, LoRA and ComfyUI's quantised files, cut off or changed anywhere: read, or refused with a coded error; never a crash,
// never more memory than the file has.
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { finished } from "../../src/base/generators.ts";
import { openTensorSource } from "../../src/io/tensor-source.ts";
import { inspectWeights } from "../../src/lora/inspect.ts";
import { readLora } from "../../src/lora/read.ts";
import { convertModel, parseTarget } from "../../src/models/wan/convert.ts";
import { openNetwork } from "../../src/models/wan/load.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";
import { storedValues } from "../../src/nn/stored-weight.ts";
import { randomWeights } from "../support/checkpoint-layouts.ts";
import { draws } from "../support/drawn-weights.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, writeFile } from "../support/wan-files.ts";

const path = temporaryFolder();
const TIMES = 500;

/** What a file is, and the values of its network; what is wrong must be a coded error. */
function look(file: string): "read" | "refused" {
  try {
    using source = openTensorSource(file);
    inspectWeights(source);
    const { reader } = openNetwork(file, ["dit"]);
    using _reader = reader;
    for (const name of ["blocks.0.self_attn.q.weight", "blocks.1.ffn.2.weight"]) storedValues(reader.find(name)!);
    return "read";
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    expect(error.message).not.toBe("");
    return "refused";
  }
}

/** Cuts a file off, or changes some of its bytes: most in its head, where they mean something. */
function damage(whole: Buffer, head: number, next: () => number): Buffer {
  const place = (size: number) => Math.min(size - 1, Math.floor(((next() + 1) / 2) * size));
  if (next() < -0.6) return Buffer.from(whole.subarray(0, place(whole.length)));
  const bytes = Buffer.from(whole);
  for (let i = 0; i < 1 + place(4); i++) {
    const at = place(next() < 0.8 ? head : whole.length);
    const kind = place(3);
    bytes[at] = kind === 0 ? place(256) : kind === 1 ? bytes[at]! ^ (1 << place(8)) : 0xff;
  }
  return bytes;
}

function count(whole: string, head: number, seed: number, one: (file: string) => "read" | "refused") {
  const bytes = readFileSync(whole);
  const next = draws(seed);
  const found = { read: 0, refused: 0 };
  const file = path(`damaged-${seed}.bin`);
  for (let i = 0; i < TIMES; i++) {
    writeFileSync(file, damage(bytes, head, next));
    found[one(file)]++;
  }
  expect(found.read + found.refused).toBe(TIMES);
  expect(found.refused).toBeGreaterThan(TIMES / 4);
}

const config = { ...tinyDit, dim: 64, ffnDim: 64, textDim: 32, frequencyDim: 32 };

describe("damaged files", async () => {
  const plain = await writeFile(path("dit.safetensors"), randomWeights(ditShapes(config), 3));
  const convert = async (form: string, ending: string) => {
    const out = path(`dit-${form.replace(":", "-")}.${ending}`);
    await finished(convertModel(plain, out, parseTarget(form)));
    return out;
  };
  const headOf = (file: string) => 8 + Number(readFileSync(file).readBigUInt64LE(0));

  it("GGUF", async () => count(await convert("gguf:Q8_0", "gguf"), 4000, 1, look));
  it("scaled fp8", async () => {
    const file = await convert("fp8_scaled", "safetensors");
    count(file, headOf(file), 2, look);
  });
  it("int8", async () => {
    const file = await convert("int8", "safetensors");
    count(file, headOf(file), 3, look);
  });
  it("LoRA", async () => {
    const tensors = [0, 1].flatMap((block) =>
      ["q", "k"].flatMap((part) => {
        const stem = `diffusion_model.blocks.${block}.self_attn.${part}`;
        return randomWeights(
          new Map([
            [`${stem}.lora_A.weight`, [4, 64]],
            [`${stem}.lora_B.weight`, [64, 4]],
          ]),
          block,
        );
      }),
    );
    const file = await writeFile(path("lora.safetensors"), tensors);
    count(file, headOf(file), 4, (damaged) => {
      try {
        readLora(damaged, { expert: "low" });
        return "read";
      } catch (error) {
        if (!isKinoraError(error)) throw error;
        return "refused";
      }
    });
  });
});
