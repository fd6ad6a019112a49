// Whole generations with random tiny models: every task and sampler, repeated bit for bit, and what is refused.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writePng } from "../../src/io/image/write.ts";
import { VideoReader } from "../../src/io/video/reader.ts";
import type { WanModel } from "../../src/models/wan/params.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { ditShapes } from "../../src/models/wan/weight-shapes.ts";
import type { BlockMemory } from "../../src/nn/residency.ts";
import type { GenerateEvent } from "../../src/sample/events.ts";
import { previewFrames } from "../../src/sample/preview.ts";
import { readRecipe, repeatOptions } from "../../src/sample/recipe.ts";
import type { GenerateOptions } from "../../src/sample/request.ts";
import { samplerNames } from "../../src/sample/schedulers/index.ts";
import {
  randomWeights,
  tinyParts,
  writeComfyFiles,
  writeDiffusersFolder,
  writeKinoraFolder,
  writeOfficialFolder,
} from "../support/checkpoint-layouts.ts";
import { loraShapes, quantized, writeFile } from "../support/wan-files.ts";
import { hashCache, resolved, runRequest, tinyOptions, tinyStudio } from "./generate-support.ts";

const { path, t2v, ti2v, picture, hashes, film, run, publishedVae, device } = await tinyStudio();

describe("tasks and samplers", () => {
  it.each(samplerNames)("make a film from text with %s, each expert in its turn", async (sampler) => {
    const result = await run({ sampler, steps: 4 });
    const steps = result.of("step");
    expect(steps.map(({ step, steps: all }) => [step, all])).toEqual([1, 2, 3, 4].map((step) => [step, 4]));
    // The tiny model's boundary is at 875 of 1000: the official schedule with shift 5 crosses it.
    expect(steps.map(({ timestep, expert }) => (timestep >= 875 ? "high" : "low") === expert)).toEqual(
      steps.map(() => true),
    );
    expect(new Set(steps.map(({ expert }) => expert))).toEqual(new Set(["high", "low"]));
    expect(result.of("stage").filter(({ stage }) => stage === "load")).toHaveLength(2);
    // Two passes of guidance for each time the sampler asks the model: once or twice in a step.
    expect(steps.filter(({ passes }) => passes !== 2 && passes !== 4)).toEqual([]);
    expect(result.last).toMatchObject({ type: "finished", frames: 5, path: result.out });
  });

  it.each(samplerNames)("make a film from text and a picture with %s", async (sampler) => {
    const size = { width: 64, height: 64 };
    const [plain, led] = [
      await run({ task: "tiny-ti2v", sampler, size }),
      await run({ task: "tiny-ti2v", sampler, size, image: picture }),
    ];
    expect(plain.last).toMatchObject({ recipe: { video: size } });
    // 90×30 at an area of 64·64, in multiples of 32: the official size arithmetic.
    expect(led.last).toMatchObject({
      recipe: { video: { width: 96, height: 32 }, size, image: { name: "picture.png" } },
    });
    // The picture's latent is latent frame 0, so the first frame is the same whatever the noise.
    const other = await run({ task: "tiny-ti2v", sampler, size, image: picture, seed: 6n });
    const frame = 2 * 6;
    const first = (latents: Float32Array) => Array.from({ length: 48 }, (_, c) => latents[c * 2 * frame]);
    expect(first(other.latents())).toEqual(first(led.latents()));
    expect(other.latents()).not.toEqual(led.latents());
  });

  it("joins the picture's channels for models that take them so", async () => {
    const base = wanModels["tiny-t2v"];
    const model: WanModel = { ...base, image: "channels", dit: { ...base.dit, inputChannels: 36 } };
    const folder = path("tiny-i2v");
    const parts = tinyParts("tiny-t2v");
    const shapes = ditShapes(model.dit);
    await writeKinoraFolder(folder, {
      ...parts,
      dits: { high: randomWeights(shapes, 3), low: randomWeights(shapes, 4) },
    });
    const files = {
      ...resolved(tinyOptions(t2v, film())).files,
      high: join(folder, "high_noise_model.safetensors"),
      low: join(folder, "low_noise_model.safetensors"),
    };
    const before = device.memory().live;
    const make = async (image: string) => {
      const request = { ...resolved(tinyOptions(t2v, film())), model, files, image, steps: 2 };
      return runRequest(device, request, { hashes });
    };
    const dark = path("dark.png");
    await writePng(dark, { width: 90, height: 30, data: new Uint8Array(90 * 30 * 3) });
    const [one, other] = [await make(picture), await make(dark)];
    // The area of 32·32 at 90×30, floored to whole tokens as upstream does.
    expect(one.last).toMatchObject({ type: "finished", recipe: { video: { width: 48, height: 16 } } });
    expect(one.latents()).not.toEqual(other.latents());
    expect(device.memory().live).toBe(before);
  });

  it("leaves out the second pass at a guidance of 1, per expert", async () => {
    const both = await run({ guidance: 1 });
    expect(both.of("step").map(({ passes }) => passes)).toEqual([1, 1, 1]);
    const one = await run({ guidance: { low: 1, high: 3 } });
    for (const { expert, passes } of one.of("step")) expect(passes).toBe(expert === "high" ? 2 : 1);
    // Without a second pass the negative text counts for nothing.
    const other = await run({ guidance: 1, negative: "something else" });
    expect(other.latents()).toEqual(both.latents());
  });

  it("are the same to the bit while blocks come and go", async () => {
    const latents = async (blocks?: BlockMemory) => (await run({ blocks, dtype: "bf16" })).latents();
    expect(await latents({ swapped: 2 })).toEqual(await latents());
    expect(() => resolved({ ...tinyOptions(t2v, film()), blocks: { swapped: 3 } })).toThrowError(
      expect.objectContaining({ code: "memory.block-budget" }),
    );
  });

  it("starts from the noise that was asked for", async () => {
    const latents = async (noise: string) => (await run({ noise, steps: 1, sampler: "euler" })).latents();
    const [own, cpu, cuda] = [
      await latents("kinora"),
      await latents("torch-cpu"),
      await latents("torch-cuda:RTX 4090"),
    ];
    expect(cpu).not.toEqual(own);
    expect(cuda).not.toEqual(cpu);
    expect(await latents("torch-cpu")).toEqual(cpu);
  });
});

describe("the film", () => {
  it("plays with the right frames, rate and size, index in front, recipe inside", async () => {
    const { out, last } = await run({ size: { width: 48, height: 32 }, frames: 9, prompt: "a red ✨ “circle”\nmoves" });
    await using reader = await VideoReader.open(out);
    let frames = 0;
    for await (const _frame of reader.frames()) frames++;
    expect(frames).toBe(9);
    expect(reader.video).toMatchObject({ codec: "h264", width: 48, height: 32, fps: 16, pixelFormat: "yuv420p" });
    const bytes = readFileSync(out).toString("latin1");
    expect(bytes.indexOf("moov")).toBeLessThan(bytes.indexOf("mdat"));
    const recipe = await readRecipe(out);
    expect(recipe).toEqual((last as Extract<GenerateEvent, { type: "finished" }>).recipe);
    expect(recipe.prompt).toBe("a red ✨ “circle”\nmoves");
  });

  it("runs at the rate that was asked for, its frames the same, as long as was asked for", async () => {
    const plain = await run({ steps: 1 });
    const quick = await run({ steps: 1, fps: 30 });
    expect(quick.latents()).toEqual(plain.latents());
    await using reader = await VideoReader.open(quick.out);
    expect(reader.video).toMatchObject({ fps: 30 });
    expect((await readRecipe(quick.out)).fps).toBe(30);
    const again = await repeatOptions(await readRecipe(quick.out), { out: film() }, hashes);
    expect(resolved(again)).toMatchObject({ fps: 30, frames: 5 });
    expect(resolved({ ...again, duration: 1, frames: undefined })).toMatchObject({ fps: 30, frames: 29 });
    const timed = await repeatOptions(await readRecipe(quick.out), { out: film(), duration: 0.5 }, hashes);
    expect(resolved(timed)).toMatchObject({ frames: 17 });
    for (const [duration, fps, frames] of [
      [2, undefined, 33],
      [0.01, undefined, 1],
      [1, 24, 25],
    ] as const) {
      expect(resolved(tinyOptions(t2v, film(), { frames: undefined, duration, fps }))).toMatchObject({ frames });
    }
  });

  it("is not left half-written, nor its latents when they are not wanted", async () => {
    const { out, of } = await run({ keepLatents: false });
    expect(of("finished")[0]!.latents).toBeUndefined();
    expect(() => readFileSync(out.replace(".mp4", ".latents.safetensors"))).toThrow("ENOENT");
  });
});

describe("repeating", () => {
  it("gives the same latents twice, and others for another seed", async () => {
    const [one, two, other] = [await run({}), await run({}), await run({ seed: 6n })];
    expect(two.latents()).toEqual(one.latents());
    expect(other.latents()).not.toEqual(one.latents());
  });

  it("repeats a film from its recipe alone, finding the files by their content", async () => {
    const lora = await loraFile("repeat_high.safetensors", 21);
    const first = await run({
      task: "tiny-t2v",
      loras: [{ path: lora, strength: 0.7 }],
      guidance: { low: 2, high: 3 },
      shift: 4,
      sampler: "dpm++",
      noise: "torch-cpu",
    });
    const recipe = await readRecipe(first.out);
    expect(recipe.loras).toMatchObject([{ name: "repeat_high.safetensors", strength: 0.7, expert: "high" }]);
    const options = await repeatOptions(recipe, { out: film(), keepLatents: true }, hashCache(path("cache")));
    const again = await runRequest(device, resolved(options), { hashes, repeats: recipe });
    expect(again.latents()).toEqual(first.latents());
    expect(again.of("note")).toEqual([]);

    const changed = await repeatOptions(recipe, { out: film(), seed: 99n, keepLatents: true }, hashes);
    const other = await runRequest(device, resolved(changed), { hashes, repeats: recipe });
    expect(other.of("note").map(({ text }) => text)).toEqual([expect.stringMatching(/the repeated recipe: seed$/)]);
    expect(other.latents()).not.toEqual(first.latents());
  });

  it("repeats a film made from a picture", async () => {
    const first = await run({ task: "tiny-ti2v", image: picture, size: { width: 64, height: 64 } });
    const recipe = await readRecipe(first.out);
    const options = await repeatOptions(recipe, { out: film(), keepLatents: true }, hashes);
    expect(options.image).toBe(picture);
    const again = await runRequest(device, resolved(options), { hashes, repeats: recipe });
    expect(again.latents()).toEqual(first.latents());
  });

  it("names the recipe's files that are not on this machine", async () => {
    const lora = await loraFile("lost.safetensors", 22);
    const { out } = await run({ loras: [{ path: lora, strength: 1 }], steps: 1 });
    writeFileSync(lora, "changed since");
    const recipe = await readRecipe(out);
    await expect(repeatOptions(recipe, { out: film(), files: { folder: t2v } }, hashes)).rejects.toMatchObject({
      code: "recipe.missing-files",
      message: expect.stringContaining("lost.safetensors (`loras`"),
    });
    const replaced = await repeatOptions(
      recipe,
      { out: film(), files: { folder: t2v }, loras: [{ path: await loraFile("new.safetensors", 22), strength: 1 }] },
      hashes,
    );
    expect(replaced.loras).toHaveLength(1);
  });
});

describe("previews", () => {
  it("come after each step with a published autoencoder, and are left out with a word for others", async () => {
    const vae = publishedVae();
    const options = { files: { folder: t2v, vae }, size: { width: 32, height: 16 }, frames: 1 };
    const result = await run(options, { preview: true });
    const previews = result.of("preview");
    expect(previews.map(({ step, width, height }) => [step, width, height])).toEqual(
      [1, 2, 3].map((step) => [step, 4, 2]),
    );
    // Nothing is left to predict after the last step.
    expect(previews[2]!.frames).toEqual(previewFrames(result.latents(), [16, 1, 2, 4], "vae21"));
    expect(previews[0]!.frames).not.toEqual(previews[2]!.frames);
    const tiny = await run({ steps: 1 }, { preview: true });
    expect(tiny.of("preview")).toEqual([]);
    expect(tiny.of("note")).toEqual([{ type: "note", text: expect.stringContaining("no preview") }]);
  });
});

describe("layouts", () => {
  it("official, diffusers and ComfyUI files give the same latents as Kinora's own", async () => {
    for (const task of ["tiny-t2v", "tiny-ti2v"] as const) {
      const size = task === "tiny-t2v" ? { width: 32, height: 32 } : { width: 64, height: 64 };
      const parts = tinyParts(task);
      const own = (await run({ task, size })).latents();
      const official = await writeOfficialFolder(path(`official-${task}`), parts);
      const diffusers = await writeDiffusersFolder(path(`diffusers-${task}`), parts);
      const comfy = await writeComfyFiles(path(`comfy-${task}`), parts);
      const dit = comfy.high === undefined ? { dit: comfy.low } : { high: comfy.high, low: comfy.low };
      for (const files of [
        { folder: official },
        { folder: diffusers },
        { ...dit, vae: comfy.vae, textEncoder: comfy.t5 },
      ]) {
        expect((await run({ task, size, files })).latents(), `${task} ${JSON.stringify(files)}`).toEqual(own);
      }
    }
  });

  it("runs fp8 files of either style of scales alike", async () => {
    const parts = tinyParts("tiny-t2v");
    const latents: Float32Array[] = [];
    for (const style of ["scale_weight", "weight_scale"] as const) {
      const fp8 = { high: quantized(parts.dits.high!, style), low: quantized(parts.dits.low, style) };
      const comfy = await writeComfyFiles(path(`fp8-${style}`), { ...parts, dits: fp8 });
      const files = { high: comfy.high, low: comfy.low, vae: comfy.vae, textEncoder: comfy.t5 };
      latents.push((await run({ files })).latents());
    }
    expect(latents[1]).toEqual(latents[0]);
    expect(latents[0]).not.toEqual((await run({})).latents());
  });

  it("takes the boundary from a diffusers folder", async () => {
    const folder = await writeDiffusersFolder(path("boundary"), tinyParts("tiny-t2v"), 0.5);
    const result = await run({ files: { folder }, steps: 4 });
    for (const { timestep, expert } of result.of("step")) expect(expert).toBe(timestep >= 500 ? "high" : "low");
    expect(result.last).toMatchObject({ recipe: { boundary: 0.5 } });
  });
});

/** A random LoRA on the attention of a model's blocks, large enough to show. */
async function loraFile(name: string, seed: number, model: WanModel = wanModels["tiny-t2v"]): Promise<string> {
  mkdirSync(path("loras"), { recursive: true });
  const shapes = loraShapes("peft", model.dit, /^blocks\.\d+\.self_attn\.[qkvo]$/, 2);
  return writeFile(path(`loras/${name}`), randomWeights(shapes, seed, "f32"));
}

describe("LoRA", () => {
  it("at strength 0 changes nothing, otherwise it does, on the expert it names", async () => {
    const both = await loraFile("style.safetensors", 31);
    const high = await loraFile("style_high.safetensors", 31);
    const plain = await run({ steps: 4 });
    const with_ = async (loras: NonNullable<GenerateOptions["loras"]>) => (await run({ steps: 4, loras })).latents();
    expect(await with_([{ path: both, strength: 0 }])).toEqual(plain.latents());
    const onBoth = await with_([{ path: both, strength: 1 }]);
    const onHigh = await with_([{ path: high, strength: 1 }]);
    const onLow = await with_([{ path: both, strength: 1, expert: "low" }]);
    expect(new Set([plain.latents(), onBoth, onHigh, onLow].map(String)).size).toBe(4);
    expect(await with_([{ path: both, strength: 1, expert: "high" }])).toEqual(onHigh);
    // Two halves add up to the whole: on each expert once, in two entries.
    expect(
      await with_([
        { path: high, strength: 1 },
        { path: both, strength: 1, expert: "low" },
      ]),
    ).toEqual(onBoth);
  });

  it("says where no expert is named, and where another is", async () => {
    const both = await loraFile("style.safetensors", 31);
    const high = await loraFile("style_high.safetensors", 31);
    const result = await run({
      steps: 1,
      loras: [
        { path: both, strength: 1 },
        { path: high, strength: 1, expert: "low" },
      ],
    });
    expect(result.of("note").map(({ text }) => text)).toEqual([
      expect.stringContaining("does not name an expert"),
      expect.stringContaining("for the high-noise expert but is applied to the low-noise one"),
    ]);
  });

  it("for another model is an error that lists its modules, before anything is computed", async () => {
    const wide = await loraFile("wide.safetensors", 5, wanModels["t2v-1.3B"]);
    await expect(run({ loras: [{ path: wide, strength: 1 }] })).rejects.toMatchObject({
      code: "lora.unmatched",
      message: expect.stringMatching(/blocks\.0\.self_attn\.q \(1536 → 1536; the layer is 256 → 256\)/),
      hint: expect.stringContaining("t2v-1.3B"),
    });
    await expect(run({ loras: [{ path: join(t2v, "vae.safetensors"), strength: 1 }] })).rejects.toMatchObject({
      code: "lora.not-a-lora",
    });
  });

  it("cannot be put on an expert that a model does not have", async () => {
    const file = await loraFile("ti.safetensors", 5, wanModels["tiny-ti2v"]);
    const options = { task: "tiny-ti2v", size: { width: 64, height: 64 }, steps: 1 };
    await expect(run({ ...options, loras: [{ path: file, strength: 1, expert: "high" }] })).rejects.toMatchObject({
      code: "lora.no-expert",
    });
    expect((await run({ ...options, loras: [{ path: file, strength: 1 }] })).last.type).toBe("finished");
  });
});

describe("bad input", () => {
  const rejected: [what: string, options: Partial<GenerateOptions>, code: string, words: RegExp][] = [
    ["an unknown task", { task: "tiny-t2w" }, "generate.unknown-task", /did you mean tiny-t2v/],
    ["a task that needs CLIP", { task: "i2v-14B" }, "generate.unsupported-task", /tiny-t2v.* the model i2v-A14B/],
    ["a task of others", { task: "s2v-14B" }, "generate.unsupported-task", /is not supported yet.* choose one/],
    ["no prompt", { prompt: " " }, "generate.no-prompt", /`prompt`/],
    ["a size that does not divide", { size: { width: 60, height: 40 } }, "size.not-divisible", /nearest is 64\*48/],
    ["a size of nothing", { size: { width: 0, height: 32 } }, "size.not-divisible", /multiples of 16/],
    [
      "a giant size",
      { size: { width: 100_000, height: 100_000 } },
      "size.too-large",
      /6250×6250.* tokens: about \d+ GB for a step.*usual size/,
    ],
    ["a size beyond counting", { size: { width: 16e10, height: 16e10 } }, "size.too-large", /not enough memory/],
    ["a clip without end", { frames: 400_000_001 }, "size.too-large", /4093 frames.* tokens: about [\d.]+ [GT]B/],
    [
      "more than any memory",
      { size: { width: 16_384, height: 16_384 }, frames: 4093 },
      "generate.too-large",
      /TB for a step/,
    ],
    [
      "a giant picture area",
      { task: "tiny-ti2v", image: picture, size: { width: 1e6, height: 1e6 } },
      "size.too-large",
      /tokens/,
    ],
    ["a size that is not a number", { size: { width: Number.NaN, height: 32 } }, "size.not-divisible", /multiples/],
    ["steps without end", { steps: Number.POSITIVE_INFINITY }, "scheduler.options", /10000 steps/],
    ["a shift without end", { shift: Number.POSITIVE_INFINITY }, "scheduler.options", /positive shift/],
    ["guidance beyond reason", { guidance: 1e30 }, "generate.bad-guidance", /-1000 to 1000/],
    [
      "an unknown guidance",
      { guidance: { kind: "apgg" } },
      "generate.bad-guidance",
      /unknown kind of guidance apgg.*cfg/,
    ],
    [
      "settings that a sampler has not",
      { samplerOptions: { eta: 1 } },
      "sampler.options",
      /no settings of its own.*eta/,
    ],
    ["a boundary beyond noise", { boundary: 3 }, "generate.bad-boundary", /0 to 1/],
    ["a rate of nothing", { fps: 0 }, "generate.bad-fps", /more than 0/],
    ["a duration of nothing", { frames: undefined, duration: -1 }, "generate.bad-duration", /seconds above 0/],
    ["frames and seconds that differ", { frames: 5, duration: 2 }, "generate.contradiction", /16 fps, which is 33/],
    ["noise with a kind that it has not", { noise: "kinora:7" }, "noise.unknown", /kinora alone/],
    ["no frames", { frames: 0 }, "generate.bad-frames", /at least one frame.* e\.g\. 9/],
    ["a picture for text alone", { image: "x.png" }, "generate.image-unused", /tiny-ti2v/],
    ["no picture for image to video", { task: "i2v-A14B" }, "generate.image-missing", /`image`/],
    ["a missing picture", { task: "tiny-ti2v", image: "/no/such.png" }, "media.not-found", /such\.png/],
    ["an unknown sampler", { sampler: "unipcc" }, "generate.unknown-sampler", /did you mean unipc/],
    ["too many steps", { steps: 100_000 }, "scheduler.options", /10000 steps.* are usual/],
    ["a shift of zero", { shift: 0 }, "scheduler.options", /positive shift/],
    ["guidance that is not a number", { guidance: Number.NaN }, "generate.bad-guidance", /NaN.* e\.g\. 5/],
    ["unknown noise", { noise: "gauss" }, "noise.unknown", /torch-cpu.* same on every device/],
    ["a mistyped noise", { noise: "torch_cpu" }, "noise.unknown", /did you mean torch-cpu\?/],
    [
      "noise of an unknown GPU",
      { noise: "torch-cuda:RTX 409" },
      "noise.unknown-gpu",
      /did you mean torch-cuda:RTX 4090/,
    ],
    ["a seed of too many bits", { seed: 1n << 64n }, "rng.seed", /64 bits/],
    ["one transformer for two experts", { files: { dit: "x" } }, "generate.wrong-flag", /`files.high` and `files.low`/],
    ["no such folder", { files: { folder: "/no/such/folder" } }, "checkpoint.no-folder", /official or diffusers/],
    [
      "a film in no folder",
      { out: "/no/such/folder/x.mp4" },
      "generate.bad-output",
      /the folder \/no\/such\/folder does not exist/,
    ],
    ["a film that is no MP4", { out: "film.gif" }, "generate.bad-output", /\.mp4/],
    ["a LoRA that does not exist", { loras: [{ path: "/no/lora.safetensors", strength: 1 }] }, "io.not-found", /lora/],
    [
      "a strength that is not a number",
      { loras: [{ path: "x", strength: Number.NaN }] },
      "lora.bad-strength",
      /NaN.* as trained/,
    ],
  ];
  it.each(rejected)("%s", async (_what, options, code, words) => {
    const error = await run(options).then(
      () => undefined,
      (thrown: unknown) => thrown as Error & { code: string; hint?: string },
    );
    expect(error?.code).toBe(code);
    expect(`${error?.message} ${error?.hint ?? ""}`).toMatch(words);
  });

  it("weights of another model, naming what they are", async () => {
    const files = { folder: ti2v, dit: join(t2v, "low_noise_model.safetensors") };
    await expect(run({ task: "tiny-ti2v", size: { width: 64, height: 64 }, files })).rejects.toMatchObject({
      code: "checkpoint.wrong-model",
      message: expect.stringContaining("tiny-t2v"),
    });
    await expect(run({ files: { folder: t2v, vae: join(ti2v, "vae.safetensors") } })).rejects.toMatchObject({
      code: "checkpoint.wrong-model",
      message: expect.stringContaining("Wan 2.1 autoencoder"),
    });
    await expect(run({ files: { folder: t2v, textEncoder: join(t2v, "vae.safetensors") } })).rejects.toMatchObject({
      code: "weights.other-model",
    });
  });

  it("lists every file that is missing, and what is there instead", async () => {
    await expect(run({ files: { folder: ti2v } })).rejects.toMatchObject({
      code: "checkpoint.missing",
      message: expect.stringMatching(/high-noise transformer, the low-noise transformer, the autoencoder.*tiny-ti2v/),
    });
  });

  it("a tokenizer that is another encoder's", async () => {
    const tokenizer = path("other-tokenizer.json");
    const own = JSON.parse(readFileSync(join(t2v, "tokenizer.json"), "utf8"));
    const extra = Array.from({ length: 400 }, (_, i) => [`x${i}`, -20]);
    const vocab = [...own.model.vocab, ...extra, ["▁zebra", -1]];
    writeFileSync(tokenizer, JSON.stringify({ ...own, model: { ...own.model, vocab } }));
    await expect(run({ prompt: "zebra", files: { folder: t2v, tokenizer } })).rejects.toMatchObject({
      code: "text.vocabulary",
    });
  });

  it("a prompt of 10,000 characters is cut with a word, others are not", async () => {
    const long = "a red circle ".repeat(770);
    const result = await run({ prompt: long, steps: 1 });
    expect(result.of("note")).toEqual([
      { type: "note", text: expect.stringMatching(/^the prompt has \d{4} tokens.*first 32$/) },
    ]);
    // What is beyond the model's length does not count.
    const other = await run({ prompt: `${long} and a blue square`, steps: 1 });
    expect(other.latents()).toEqual(result.latents());
    expect((await run({ steps: 1 })).of("note")).toEqual([]);
  });

  it("without weights points to the models that need none", () => {
    expect(() => resolved({ prompt: "a cat", task: "t2v-1.3B", out: film() })).toThrow(
      expect.objectContaining({
        code: "checkpoint.missing",
        hint: expect.stringMatching(/`checkpoint`.*tiny-t2v and tiny-ti2v come with Kinora and need none/),
      }),
    );
  });

  it("frames that are not 4n + 1 are rounded with a word", async () => {
    const { resolveRequest } = await import("../../src/sample/request.ts");
    for (const [frames, made] of [
      [7, 9],
      [6, 5],
      [2, 1],
    ] as const) {
      const { request, notes } = resolveRequest(tinyOptions(t2v, film(), { frames }));
      expect(request.frames).toBe(made);
      expect(notes).toEqual([`${frames} frames is not 4n + 1: using ${made}`]);
    }
  });
});
