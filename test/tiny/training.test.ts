// The scripts that train kinora-tiny: the tokenizer, the optimizer, and runs that go on where they were stopped.
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it, vi } from "vitest";
import { relativeError } from "../../scripts/golden/fixture.ts";
import { growFrom } from "../../scripts/tiny/grow.ts";
import { bytesOfPlanes, planes } from "../../scripts/tiny/latent-pool.ts";
import { createMuon } from "../../scripts/tiny/muon.ts";
import { trainingText } from "../../scripts/tiny/prompts.ts";
import { spareWords, tinyTokenizerJson, tinyVocabulary } from "../../scripts/tiny/tokenizer.ts";
import { trainRun } from "../../scripts/tiny/training-run.ts";
import { renderClip } from "../../scripts/tiny/world/render.ts";
import { drawScene } from "../../scripts/tiny/world/scene.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { cleanText } from "../../src/io/text-clean/index.ts";
import { parseTokenizer } from "../../src/io/tokenizer/load.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { matmul, meanSquaredError } from "../../src/tensor/ops/index.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import { fromValues, ownedEmpty, type Tensor } from "../../src/tensor/tensor.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const path = temporaryFolder();
const { device } = await openDevice("auto");
afterAll(() => device[Symbol.dispose]());

describe("the tokenizer", () => {
  const tokenizer = parseTokenizer(new Uint8Array(Buffer.from(tinyTokenizerJson())));
  const vocabulary = tinyVocabulary();
  const pieces = (text: string) => tokenizer.encode(text).map((id) => vocabulary[id]![0]);

  it("has every word of the world whole, and ends a text as umt5-xxl does", () => {
    expect(pieces("A red circle, moving left.")).toEqual([
      "▁a",
      "▁red",
      "▁circle",
      ",",
      "▁moving",
      "▁left",
      ".",
      "</s>",
    ]);
    for (let i = 0; i < 300; i++) {
      const { text } = trainingText(drawScene(5, i), 5, i, 0);
      const ids = tokenizer.encode(cleanText(text));
      expect(ids.length).toBeLessThanOrEqual(32);
      expect(ids.some((id) => vocabulary[id]![0].length === 1 && /[a-z]/.test(vocabulary[id]![0]))).toBe(false);
    }
  });

  it("spells words it does not know, and knows a trigger's", () => {
    expect(pieces("zxq")).toEqual(["▁", "z", "x", "q", "</s>"]);
    for (const word of spareWords) expect(pieces(word)).toEqual([`▁${word}`, "</s>"]);
  });
});

describe("clips as planes", () => {
  it("come back as the same bytes", () => {
    const clip = renderClip(drawScene(1, 2), { width: 32, height: 16, frames: 5 });
    const values = planes(clip);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...values)).toBeLessThanOrEqual(1);
    expect(Buffer.from(bytesOfPlanes(values, clip)).equals(Buffer.from(clip.data))).toBe(true);
  });
});

/** The same every time, and of full rank as matrices. */
const noise = (i: number) => Math.sin(12.9898 * i) * 43758.5453;
const values = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => 2 * (noise(i + phase) - Math.floor(noise(i + phase))) - 1);

/** Layers that are to become a given map, and how far they are from it. */
function problem() {
  const parameter = (rows: number, columns: number, phase: number) => {
    const tensor = ownedEmpty(device, [rows, columns], "f32", "weights");
    tensor.write(values(rows * columns, phase).map((value) => 0.4 * value));
    return tensor.requireGradient();
  };
  const parameters = new Map<string, Tensor>([
    ["first.weight", parameter(16, 12, 2000)],
    ["second.weight", parameter(8, 16, 3000)],
    ["head.weight", parameter(4, 8, 4000)],
  ]);
  const step = async (): Promise<number> => {
    using _scope = openScope(device);
    using tape = new Tape(device);
    const layer = (x: Tensor, name: string) => matmul(x, parameters.get(name)!, { transposeB: true });
    const x = fromValues(device, values(20 * 12, 1), [20, 12]);
    const target = matmul(x, fromValues(device, values(12 * 4, 1000), [12, 4]));
    const answer = layer(layer(layer(x, "first.weight"), "second.weight"), "head.weight");
    const loss = meanSquaredError(answer, target);
    tape.backward(loss);
    return loss.item();
  };
  const optimizer = createMuon(
    { device, parameters },
    {
      momentum: 0.9,
      exclude: /^head/,
      betas: [0.9, 0.99],
      weightDecay: 0,
    },
  );
  return {
    parameters,
    optimizer,
    step,
    read: () => Promise.all([...parameters.values()].map((tensor) => tensor.read())),
  };
}

describe("Muon", () => {
  it("takes steps of one size in every direction, and AdamW's where it is told to", async () => {
    const { optimizer, step, read } = problem();
    const before = await read();
    await step();
    await optimizer.update(0.01);
    const after = await read();
    const [, second, head] = after.map((values, k) =>
      Float32Array.from(values, (value, i) => (before[k]![i]! - value) / 0.01),
    );
    // Orthonormal rows are of one length and at right angles; Newton–Schulz comes within 0.7 … 1.2 of it.
    const rows = Array.from({ length: 8 }, (_, r) => second!.subarray(16 * r, 16 * (r + 1)));
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    const unit = 0.2 * Math.sqrt(16);
    const lengths = rows.map((row) => Math.sqrt(dot(row, row)) / unit);
    // The head leads on to four numbers: the gradient has no more than four directions.
    const squares = lengths.reduce((sum, length) => sum + length ** 2, 0);
    expect(squares).toBeGreaterThan(0.5 * 4);
    expect(squares).toBeLessThan(1.5 * 4);
    for (const value of head!) expect(Math.abs(value)).toBeCloseTo(1, 3);
  });

  it("leaves alone what has no gradient", async () => {
    const { optimizer, read } = problem();
    const before = await read();
    await optimizer.update(0.01);
    expect(await read()).toEqual(before);
  });
});

describe("a run", () => {
  const run = async (name: string, stopAt = Infinity) => {
    const { parameters, optimizer, step, read } = problem();
    const stopping = new AbortController();
    const losses: number[] = [];
    const common = { device, folder: path("runs"), name, steps: 60, minutes: 10, rate: 0.05 };
    await trainRun({ ...common, optimizer, parameters, signal: stopping.signal }, async (index) => {
      if (index === stopAt) stopping.abort();
      const loss = await step();
      losses.push(loss);
      return { loss };
    });
    return { losses, values: await read() };
  };

  it("learns, and stopped and gone on with ends with the same bits", async () => {
    vi.spyOn(console, "log").mockImplementation(() => {});
    const whole = await run("whole");
    expect(whole.losses).toHaveLength(60);
    expect(whole.losses.at(-1)!).toBeLessThan(0.5 * whole.losses[0]!);
    const first = await run("parted", 25);
    expect(first.losses).toHaveLength(26);
    const second = await run("parted");
    expect([...first.losses, ...second.losses]).toEqual(whole.losses);
    expect(second.values).toEqual(whole.values);
    const rows = readFileSync(path("runs/parted.jsonl"), "utf8").trim().split("\n");
    expect(rows.map((row) => JSON.parse(row).step)).toEqual([0, 20, 40]);
  });
});

describe("growing", () => {
  const network = (seed: bigint, sizes: { layers?: number; ffnDim?: number } = {}) => {
    const weights = new RandomWeights(device, { seed, trainable: true });
    return { dit: new WanDit(weights, { ...tinyDitConfig, ...sizes }, { dtype: "f32" }), ...weights };
  };
  const velocity = async ({ dit }: { dit: WanDit }) => {
    using _scope = openScope(device);
    const { clean, shape, text } = tinySample(2);
    const texts = [fromValues(device, text, [3, tinyDitConfig.textDim])];
    return dit.forward({ latents: fromValues(device, clean, [1, ...shape]), timesteps: [420], texts }).read();
  };
  const { layers, ffnDim } = tinyDitConfig;

  it.each([
    ["the same size", {}],
    ["more layers", { layers: layers + 2 }],
    ["a wider FFN", { ffnDim: ffnDim + 24 }],
    ["both", { layers: layers + 1, ffnDim: 2 * ffnDim }],
  ])("to %s begins as what the smaller network computes, and all of it can learn", async (_, sizes) => {
    const small = network(3n);
    const entries = [];
    for (const [name, tensor] of small.parameters) {
      entries.push({
        name: `average:${name}`,
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: await tensor.readBytes(),
      });
    }
    await writeSafetensors(path("small.safetensors"), entries);
    const grown = network(4n, sizes);
    const before = await velocity(grown);
    await growFrom(path(""), "small", grown.parameters);
    const [expected, now] = [await velocity(small), await velocity(grown)];
    expect(relativeError(before, expected)).toBeGreaterThan(0.1);
    expect(relativeError(now, expected)).toBeLessThan(1e-6);
    for (const [name, tensor] of grown.parameters) {
      // What feeds a silent output must not be silent too: neither would ever change.
      if (/ffn\.0\.weight|\.v\.weight/.test(name)) {
        const rows = (await tensor.read()) as Float32Array;
        const wide = tensor.shape[1]!;
        for (let r = 0; r < rows.length; r += wide) expect(rows.subarray(r, r + wide).some((x) => x !== 0)).toBe(true);
      }
    }
    small.dit[Symbol.dispose]();
    grown.dit[Symbol.dispose]();
  });
});
