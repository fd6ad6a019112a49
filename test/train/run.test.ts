// Whole training runs on a model of one narrow block: what is learnt, written, refused and gone on from.

import { createHash } from "node:crypto";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { toFloat32 } from "../../src/base/float-formats.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { attachLora } from "../../src/lora/attach.ts";
import { legacyHash } from "../../src/lora/kohya-metadata.ts";
import { readLoraFile } from "../../src/lora/read.ts";
import type { WanDit } from "../../src/models/wan/dit/dit.ts";
import { loadDit } from "../../src/models/wan/load.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";
import type { ValidationLine } from "../../src/protocol/train-log.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { zeros } from "../../src/tensor/tensor.ts";
import type { TrainEvent } from "../../src/train/run/events.ts";
import type { PreviewRequest } from "../../src/train/run/preview.ts";
import { captionOf } from "../../src/train/run/texts.ts";
import { clip, clips, pictures } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  narrowModel,
  narrowSettings,
  outcome,
  stepsOf,
  tensorsOf,
  trainAll,
  writeNarrowCheckpoint,
} from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("runs");
const both = ["style_high_noise.safetensors", "style_low_noise.safetensors"];

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 4, { frames: 9, width: 32, height: 32 });
  await pictures(join(folder, "clips"), 2);
});

const validations = (events: readonly TrainEvent[]): ValidationLine[] =>
  events.flatMap((event) => (event.type === "validation" ? [event.line] : []));

/** The model's answer to a fixed input. */
async function answer(dit: WanDit): Promise<Float32Array> {
  using _scope = openScope(dit.device);
  const { inputChannels, textDim } = dit.config;
  const latents = zeros(dit.device, [1, inputChannels, 1, 4, 4]);
  dit.device.kernels.fill(latents, 0.3);
  const text = zeros(dit.device, [3, textDim]);
  dit.device.kernels.fill(text, 0.2);
  return dit.forward({ latents, timesteps: [500], texts: [text] }).read();
}

describe("a LoRA for both experts", () => {
  it("learns what is held out, writes a file for each expert, and both change their model", async () => {
    const settings = await narrowSettings(folder, {
      output: "learn",
      steps: 40,
      experts: { switch_every: 20 },
      lora: { rank: 4, dropout: 0 },
      optimizer: { learning_rate: 5e-3 },
      validation: { hold_out: 1, every_steps: 20, sigmas: 3 },
      save: { every_steps: 20, every_epochs: 4, title: "A style", state_every_steps: 10 },
    });
    const { result, events } = await trainAll(settings);
    expect(result).toMatchObject({ end: "finished", step: 40, files: both });
    const lines = stepsOf(events);
    expect(lines.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    for (const line of lines)
      for (const sigma of line.sigmas) expect(line.expert === "high" ? sigma >= 0.875 : sigma < 0.875).toBe(true);
    for (const expert of ["high", "low"] as const) {
      const losses = validations(events).filter((line) => line.expert === expert);
      expect(losses.length).toBeGreaterThanOrEqual(2);
      expect(losses.at(-1)!.loss).toBeLessThan(losses[0]!.loss * 0.9);
      expect(losses[0]!.bands).toHaveLength(3);
    }
    const written = readdirSync(settings.output).filter((name) => name.endsWith(".safetensors"));
    expect(written).toContain("style_high_noise-step00000020.safetensors");
    expect(written.some((name) => /^style_low_noise-0000\d\d\.safetensors$/.test(name))).toBe(true);

    const { device } = await openDevice("auto");
    for (const [i, file] of both.entries()) {
      const { adapters, metadata } = readLoraFile(join(settings.output, file));
      expect(adapters).toHaveLength(10);
      expect(metadata).toMatchObject({
        ss_network_dim: "4",
        ss_network_alpha: "4.0",
        ss_learning_rate: "0.005",
        ss_steps: "40",
        ss_base_model_version: "wan",
        "modelspec.title": "A style",
        "modelspec.timestep_range": i === 0 ? "875,1000" : "0,875",
        sshs_model_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      });
      const expert = i === 0 ? "high_noise_model" : "low_noise_model";
      const base = join(folder, "checkpoint", expert, "diffusion_pytorch_model.safetensors");
      using dit = loadDit(device, base, { dtype: "f32" });
      const before = await answer(dit);
      using _lora = attachLora(dit, adapters);
      const after = await answer(dit);
      const change = Math.hypot(...after.map((value, k) => value - before[k]!)) / Math.hypot(...before);
      expect(change).toBeGreaterThan(0.01);
    }
    device[Symbol.dispose]();
  });

  it("is the same after Ctrl-C and going on, with accumulation and mixed sizes", async () => {
    const more = {
      steps: 10,
      optimizer: { accumulation: 3, kind: "adamw8bit" },
      conditioning: { caption_dropout: 0.3 },
    };
    const whole = await narrowSettings(folder, { ...more, output: "whole" });
    await trainAll(whole);
    const parts = await narrowSettings(folder, { ...more, output: "parts" });
    for (const last of [3, 4, 7]) {
      const stop = new AbortController();
      const onEvent = (event: TrainEvent) => event.type === "step" && event.line.step === last && stop.abort();
      const { result } = await trainAll(parts, { stop, onEvent });
      expect(result).toMatchObject({ end: "stopped", step: last });
    }
    const { events } = await trainAll(parts);
    expect(events.find((event) => event.type === "ready")).toMatchObject({ resumed: 7 });
    expect(stepsOf(events).map(({ step }) => step)).toEqual([8, 9, 10]);
    expect(outcome(parts.output, both)).toEqual(outcome(whole.output, both));
  });

  it("draws other numbers for another seed, and the same for the same", async () => {
    const run = async (output: string, seed: number) => {
      const { events } = await trainAll(await narrowSettings(folder, { output, seed, steps: 2 }));
      return stepsOf(events).map(({ loss, sigmas }) => [loss, sigmas]);
    };
    const first = await run("seed-a", 1);
    expect(await run("seed-b", 1)).toEqual(first);
    expect(await run("seed-c", 2)).not.toEqual(first);
  });
});

describe("a file's metadata", () => {
  it("says what musubi's says, the base model's hashes among it", async () => {
    const settings = await narrowSettings(folder, {
      output: "metadata",
      steps: 2,
      model: { base: "fp8" },
      time: { sampling: "logit_normal", mean: 0.5, std: 2, shift: 3 },
      loss: { weighting: "cosmap" },
    });
    await trainAll(settings);
    const { metadata } = readLoraFile(join(settings.output, both[0]!));
    const base = join(folder, "checkpoint/high_noise_model/diffusion_pytorch_model.safetensors");
    const sha256 = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
    expect(metadata).toMatchObject({
      ss_optimizer: "torch.optim.adamw.AdamW(betas=(0.9, 0.999),eps=1e-08,weight_decay=0.01)",
      ss_network_dropout: "0.1",
      ss_fp8_base: "True",
      ss_weighting_scheme: "cosmap",
      ss_timestep_sampling: "logit_normal",
      ss_logit_mean: "0.5",
      ss_logit_std: "2.0",
      ss_discrete_flow_shift: "3.0",
      ss_training_comment: "None",
      ss_sd_model_name: "diffusion_pytorch_model.safetensors",
      ss_sd_model_hash: await legacyHash(base),
      ss_new_sd_model_hash: sha256(base),
      ss_vae_name: "vae.safetensors",
      ss_new_vae_hash: sha256(join(folder, "checkpoint/vae.safetensors")),
    });
    expect(JSON.parse(metadata.ss_datasets!)[0]).toMatchObject({
      resolution: [32, 32],
      batch_size_per_device: 2,
      video_directory: "clips",
      target_frames: [5],
    });
  });

  it("and all else of it is the same bytes where one time stands for all", async () => {
    const bytes = async (output: string, stopAt?: number) => {
      const settings = await narrowSettings(folder, { output, steps: 4 });
      const stop = new AbortController();
      const onEvent = (event: TrainEvent) => event.type === "step" && event.line.step === stopAt && stop.abort();
      const fixedTime = 1_700_000_000;
      await trainAll(settings, { stop, onEvent, fixedTime });
      if (stopAt !== undefined) await trainAll(settings, { fixedTime });
      return both.map((file) =>
        createHash("sha256")
          .update(readFileSync(join(settings.output, file)))
          .digest("hex"),
      );
    };
    const first = await bytes("reproducible-a");
    expect(await bytes("reproducible-b")).toEqual(first);
    expect(await bytes("reproducible-c", 3)).toEqual(first);
    const { metadata } = readLoraFile(join(folder, "reproducible-a", both[0]!));
    expect(metadata).toMatchObject({
      ss_training_started_at: "1700000000.0",
      ss_training_finished_at: "1700000000.0",
      "modelspec.date": "2023-11-14T22:13:20",
    });
  });
});

describe("one expert alone", () => {
  it.each(["high", "low"] as const)("trains the %s-noise one and needs no file of the other", async (expert) => {
    const alone = join(folder, `only-${expert}`);
    cpSync(join(folder, "checkpoint"), alone, { recursive: true });
    rmSync(join(alone, expert === "high" ? "low_noise_model" : "high_noise_model"), { recursive: true });
    const settings = await narrowSettings(folder, {
      output: `run-${expert}`,
      steps: 3,
      model: { checkpoint: alone },
      experts: { train: expert },
      save: { keys: "comfy" },
    });
    const { result, events } = await trainAll(settings);
    expect(result.files).toEqual([`style_${expert}_noise.safetensors`]);
    expect(stepsOf(events).every((line) => line.expert === expert)).toBe(true);
    expect(Object.keys(tensorsOf(join(settings.output, result.files[0]!)))).toContain(
      "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
    );
  });

  it("uses both experts for previews, the trained one with its LoRA", async () => {
    writeFileSync(join(folder, "prompts.txt"), "a red circle --d 9 --n nothing\n");
    const settings = await narrowSettings(folder, {
      output: "previews",
      steps: 4,
      experts: { train: "low" },
      preview: { prompts: "prompts.txt", every_steps: 2, at_start: true },
    });
    const asked: { adapters: number[]; out: string; texts: number[] }[] = [];
    const preview = async function* ({ expert, films }: PreviewRequest) {
      const { out, text, seed } = films[0]!;
      const adapters: number[] = [];
      for (const which of ["high", "low"] as const) {
        const linears = (await expert(which)).linears();
        adapters.push([...linears.values()].reduce((sum, linear) => sum + linear.adapters.length, 0));
      }
      expect(seed).toBe(9n);
      yield { type: "step" as const, index: 0, done: 1, of: 1 };
      mkdirSync(join(out, ".."), { recursive: true });
      writeFileSync(out, "film");
      yield { type: "film" as const, index: 0, seconds: 1 };
      asked.push({ adapters, out, texts: [text.positive.shape[1]!, text.negative.shape[1]!] });
    };
    const { events } = await trainAll(settings, { preview });
    expect(asked.map(({ adapters }) => adapters)).toEqual([
      [0, 10],
      [0, 10],
      [0, 10],
    ]);
    expect(asked[0]!.texts).toEqual([128, 128]);
    expect(events.filter((event) => event.type === "preview")).toHaveLength(3);
    const plain = await narrowSettings(folder, { output: "no-previews", steps: 4, experts: { train: "low" } });
    await trainAll(plain);
    expect(tensorsOf(join(settings.output, "style_low_noise.safetensors"))).toEqual(
      tensorsOf(join(plain.output, "style_low_noise.safetensors")),
    );
    expect(readFileSync(join(settings.output, "index.html"), "utf8")).toContain("data:video/mp4;base64,");
  });
});

describe("stopping", () => {
  it("during a preview saves the steps behind it", async () => {
    writeFileSync(join(folder, "prompts.txt"), "a red circle\n");
    const settings = await narrowSettings(folder, {
      output: "stop-preview",
      steps: 6,
      preview: { prompts: "prompts.txt", every_steps: 3 },
      save: { state_every_steps: 100 },
    });
    const stop = new AbortController();
    const preview = async function* ({ signal }: PreviewRequest) {
      stop.abort();
      yield { type: "step" as const, index: 0, done: 1, of: 2 };
      signal!.throwIfAborted();
    };
    const { result } = await trainAll(settings, { stop, preview });
    expect(result).toMatchObject({ end: "stopped", step: 3 });
    expect(JSON.parse(readFileSync(join(settings.output, "state.json"), "utf8")).step).toBe(3);
    expect(readFileSync(join(settings.output, "index.html"), "utf8")).toContain("3 of 6");
  });
});

describe("memory", () => {
  it("holds one expert at a time", async () => {
    const peak = async (train: string) => {
      const more = { output: `peak-${train}`, steps: 4, model: { base: "bf16" }, experts: { train, switch_every: 2 } };
      return (await trainAll(await narrowSettings(folder, more))).result.peakBytes;
    };
    const [both, alone] = [await peak("both"), await peak("high")];
    expect(both / alone).toBeLessThan(1.02);
  });
});

describe("a full fine-tune", () => {
  it("trains every parameter and writes transformers that load as checkpoints", async () => {
    const settings = await narrowSettings(folder, {
      output: "full",
      train: "full",
      steps: 6,
      optimizer: { learning_rate: 1e-3 },
    });
    const { result, events } = await trainAll(settings);
    expect(result.files).toEqual(both);
    const shapes = ditShapes(narrowModel("tiny-t2v").dit);
    const loaded = events.find((event) => event.type === "loaded");
    expect(loaded).toMatchObject({ tensors: shapes.size });
    const { device } = await openDevice("auto");
    for (const file of both) {
      const written = join(settings.output, file);
      using tensors = SafetensorsFile.open(written);
      expect([...tensors.names].sort()).toEqual([...shapes.keys()].sort());
      const expert = file.includes("high") ? "high_noise_model" : "low_noise_model";
      using before = SafetensorsFile.open(join(folder, "checkpoint", expert, "diffusion_pytorch_model.safetensors"));
      const unchanged = tensors.names.filter((name) => Buffer.compare(tensors.bytes(name), before.bytes(name)) === 0);
      expect(unchanged).toEqual([]);
      using dit = loadDit(device, written, { dtype: "f32" });
      expect((await answer(dit)).every(Number.isFinite)).toBe(true);
    }
    device[Symbol.dispose]();
  });
});

describe("precision of the base", () => {
  it.each(["bf16", "fp8"] as const)("%s stays near float32", async (base) => {
    const run = async (precision: string) => {
      const more = { output: `base-${base}-${precision}`, steps: 2, model: { base: precision }, lora: { dropout: 0 } };
      const { events } = await trainAll(await narrowSettings(folder, more));
      return stepsOf(events).map(({ loss }) => loss);
    };
    const [exact, rounded] = [await run("f32"), await run(base)];
    for (const [i, loss] of rounded.entries()) {
      expect(Math.abs(loss - exact[i]!) / exact[i]!).toBeLessThan(base === "bf16" ? 0.01 : 0.05);
      expect(loss).not.toBe(exact[i]);
    }
  });
});

describe("pictures as conditions", () => {
  it("are cached beside the latents for image-to-video", async () => {
    const place = path("i2v");
    await writeNarrowCheckpoint(place, "i2v-A14B");
    await clips(join(place, "clips"), 2, { frames: 5, width: 32, height: 32 });
    const settings = await narrowSettings(place, { steps: 2 }, "i2v-A14B");
    const { events } = await trainAll({ ...settings, base: "f32", dtype: "f32", textDtype: "f32" });
    expect(stepsOf(events).every(({ loss }) => Number.isFinite(loss))).toBe(true);
    const [entry] = readdirSync(join(place, "cache/latents"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".safetensors"),
    );
    using file = SafetensorsFile.open(join(place, "cache/latents", entry!));
    expect([...file.names].sort()).toEqual(["condition", "latents"]);
    const [latents, condition] = ["latents", "condition"].map((name) => toFloat32(file.bytes(name), "f32"));
    // The first latent frame sees the first frame alone, so both have the same one.
    expect(Array.from(condition!.slice(0, 16))).toEqual(Array.from(latents!.slice(0, 16)));
    expect(condition).not.toEqual(latents);
  });

  it("are the first latent frame for ti2v-5B's architecture", async () => {
    const place = path("ti2v");
    await writeNarrowCheckpoint(place, "tiny-ti2v");
    await clips(join(place, "clips"), 2, { frames: 9, width: 64, height: 64, fps: 24 });
    const dataset = { resolution: [64, 64], target_frames: [9] };
    const run = async (share: number) => {
      const more = { output: `first-${share}`, steps: 3, dataset, conditioning: { first_frame: share } };
      const { result, events } = await trainAll(await narrowSettings(place, more, "tiny-ti2v"));
      expect(result.files).toEqual(["style.safetensors"]);
      return stepsOf(events).map(({ loss }) => loss);
    };
    const [never, always] = [await run(0), await run(1)];
    for (const [i, loss] of always.entries()) expect(loss).not.toBe(never[i]);
  });
});

describe("a run that is far too long", () => {
  it.each([
    [
      "by its repeats",
      "dataset.too-many-items",
      { dataset: { num_repeats: 1_000_000, batch_size: 1 } },
      /too many items/,
    ],
    ["by its epochs", "train.too-long", { steps: undefined, epochs: 1_000_000, dataset: { num_repeats: 10 } }, /steps/],
  ])("%s is refused before anything is cached", async (_what, code, more, actual) => {
    const place = path("long");
    mkdirSync(place, { recursive: true });
    if (!existsSync(join(place, "clips"))) {
      cpSync(join(folder, "checkpoint"), join(place, "checkpoint"), { recursive: true });
      await clips(join(place, "clips"), 11, { frames: 5, width: 32, height: 32 });
    }
    const settings = await narrowSettings(place, more);
    await expect(trainAll(settings)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(actual),
      hint: expect.stringMatching(/num_repeats|epochs/),
    });
    expect(existsSync(join(place, "cache"))).toBe(false);
  });
});

describe("what is refused", () => {
  const refused = (more: Record<string, unknown>) =>
    narrowSettings(folder, more).then((settings) => trainAll(settings));

  it("a folder without media", async () => {
    mkdirSync(join(folder, "empty"));
    await expect(refused({ output: "e1", dataset: { path: "empty" } })).rejects.toMatchObject({
      code: "dataset.empty",
    });
  });

  it("clips without captions, by name", async () => {
    await clip(join(folder, "silent/a.mp4"), { frames: 9, width: 32, height: 32 });
    await expect(refused({ output: "e2", dataset: { path: "silent" } })).rejects.toMatchObject({
      code: "train.no-captions",
      message: expect.stringContaining("a.mp4"),
      hint: expect.stringContaining(".txt"),
    });
  });

  it("clips that are too short, with their lengths", async () => {
    await expect(refused({ output: "e3", dataset: { target_frames: [81], media: "videos" } })).rejects.toMatchObject({
      code: "train.no-items",
      message: expect.stringContaining("has 9 frames; it needs 81"),
    });
  });

  it("holding out everything", async () => {
    await expect(refused({ output: "e4", validation: { hold_out: 6 } })).rejects.toMatchObject({
      code: "train.hold-out",
    });
  });

  it("a checkpoint of another model, telling which", async () => {
    const other = path("other");
    await writeNarrowCheckpoint(other, "tiny-ti2v");
    const transformer = join(other, "checkpoint/diffusion_pytorch_model.safetensors");
    await expect(
      refused({ output: "e5", model: { dit_high: transformer, dit_low: transformer } }),
    ).rejects.toMatchObject({ code: "checkpoint.wrong-model", message: expect.stringContaining("48") });
    await expect(refused({ output: "e6", model: { checkpoint: join(other, "checkpoint") } })).rejects.toMatchObject({
      code: "checkpoint.missing",
    });
  });

  it("an encoder of another model, a pattern that no layer has, an expert that previews lack: before anything is cached", async () => {
    const encoder = join(folder, "checkpoint/vae.safetensors");
    const more = { output: "e7", cache: "never-made" };
    await expect(refused({ ...more, model: { text_encoder: encoder } })).rejects.toMatchObject({
      code: "weights.other-model",
    });
    await expect(refused({ ...more, lora: { targets: "^nothing" } })).rejects.toMatchObject({
      code: "lora.no-target",
      hint: expect.stringContaining("blocks.0"),
    });
    const alone = path("high-alone");
    cpSync(join(folder, "checkpoint"), alone, { recursive: true });
    rmSync(join(alone, "low_noise_model"), { recursive: true });
    writeFileSync(join(folder, "looks.txt"), "a green square\n");
    const settings = await narrowSettings(folder, {
      ...more,
      model: { checkpoint: alone },
      experts: { train: "high" },
      preview: { prompts: "looks.txt" },
    });
    const preview = async function* () {
      yield { type: "step" as const, index: 0, done: 1, of: 1 };
    };
    await expect(trainAll(settings, { preview })).rejects.toMatchObject({
      code: "checkpoint.missing",
      message: expect.stringContaining("low-noise transformer"),
    });
    expect(existsSync(join(folder, "never-made"))).toBe(false);
  });

  it("going on with other settings or data, naming them", async () => {
    await refused({ output: "e8", steps: 2 });
    await expect(refused({ output: "e8", steps: 4, lora: { rank: 3 } })).rejects.toMatchObject({
      code: "train.other-config",
      message: expect.stringContaining("lora.rank was 2, is 3"),
    });
    await expect(refused({ output: "e8", steps: 1 })).rejects.toMatchObject({ code: "train.already-longer" });
    const { result } = await refused({ output: "e8", steps: 4 });
    expect(result).toMatchObject({ end: "finished", step: 4 });
    // What is looked at may change.
    writeFileSync(join(folder, "looks.txt"), "a green square\n");
    const looking = await narrowSettings(folder, { output: "e8", steps: 5, preview: { prompts: "looks.txt" } });
    const preview = async function* ({ films }: PreviewRequest) {
      const { out } = films[0]!;
      mkdirSync(join(out, ".."), { recursive: true });
      writeFileSync(out, "film");
      yield { type: "film" as const, index: 0, seconds: 1 };
    };
    expect((await trainAll(looking, { preview })).result).toMatchObject({ end: "finished", step: 5 });
    const caption = join(folder, "clips/clip000.txt");
    const before = readFileSync(caption, "utf8");
    appendFileSync(caption, " more");
    await expect(refused({ output: "e8", steps: 6 })).rejects.toMatchObject({
      code: "train.other-config",
      message: expect.stringContaining("dataset"),
    });
    writeFileSync(caption, before);
  });

  it("values that are not finite: the state before them stays, and the run goes on with sound weights", async () => {
    const place = path("nan");
    cpSync(join(folder, "checkpoint"), join(place, "checkpoint"), { recursive: true });
    cpSync(join(folder, "clips"), join(place, "clips"), { recursive: true });
    const file = join(place, "checkpoint/high_noise_model/diffusion_pytorch_model.safetensors");
    // A file that keeps its place, size and time counts as the same: this is a disk that reads wrong, not another checkpoint.
    const time = new Date("2024-01-01T00:00:00Z");
    utimesSync(file, time, time);
    await trainAll(await narrowSettings(place, { steps: 2 }));
    const sound = readFileSync(file);
    const bytes = Buffer.from(sound);
    const header = Number(bytes.readBigUInt64LE(0));
    const { data_offsets: at } = JSON.parse(bytes.subarray(8, 8 + header).toString())["head.head.weight"];
    bytes.writeFloatLE(Number.NaN, 8 + header + at[0]);
    writeFileSync(file, bytes);
    utimesSync(file, time, time);
    const settings = await narrowSettings(place, { steps: 8 });
    await expect(trainAll(settings)).rejects.toMatchObject({
      code: "train.not-finite",
      message: expect.stringContaining("high-noise expert"),
      hint: expect.stringContaining("learning rate"),
    });
    const state = JSON.parse(readFileSync(join(settings.output, "state.json"), "utf8"));
    expect(state.step).toBeGreaterThanOrEqual(2);
    writeFileSync(file, sound);
    utimesSync(file, time, time);
    const { result } = await trainAll(settings);
    expect(result.end).toBe("finished");
  });
});

it("captions reach the text encoder as they are written", () => {
  expect(captionOf({ caption: { path: undefined, text: undefined } } as never)).toBe("");
});
