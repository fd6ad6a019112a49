// Training configurations: what is filled in and where from, what has no effect, and how mistakes are told.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { normalQuantile, normalShare } from "../../src/base/normal-distribution.ts";
import { PhiloxRng } from "../../src/base/rng/philox-rng.ts";
import { createNullDevice } from "../../src/device/null/null-device.ts";
import { linearNames } from "../../src/lora/targets.ts";
import { WanDit } from "../../src/models/wan/dit/dit.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { RandomWeights } from "../../src/nn/random-weights.ts";
import { foreignNames, foreignSettings } from "../../src/train/config/foreign-names.ts";
import { trainKeys } from "../../src/train/config/mistakes.ts";
import { parsePrompts, readPromptFile } from "../../src/train/config/prompt-file.ts";
import { readTrainConfig } from "../../src/train/config/read.ts";
import { learningRateAt } from "../../src/train/optimizers/schedules/index.ts";
import type { Schedule } from "../../src/train/optimizers/schedules/schedule.ts";
import { expertCounts, expertOfStep } from "../../src/train/run/expert-order.ts";
import { timeSamplings } from "../../src/train/step/time-samplings.ts";
import {
  checkRange,
  drawSigma,
  expertRange,
  inRange,
  shareOf,
  type TimeDistribution,
} from "../../src/train/step/timesteps.ts";
import { picture } from "../dataset/dataset-files.ts";
import { encodeText } from "../support/encode-text.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const minimal = 'dataset = "clips"\n[model]\nname = "t2v-A14B"\ncheckpoint = "wan"\n';

function write(name: string, content: string): string {
  const file = path(name);
  writeFileSync(file, content);
  return file;
}
const read = (content: string, set: Record<string, string> = {}) =>
  readTrainConfig(
    write("run.toml", content),
    Object.entries(set).map(([key, value]) => ({ key, value })),
  );

beforeAll(() => {
  mkdirSync(path("clips"));
  mkdirSync(path("wan"));
  write("prompts.txt", "a cat --w 64 --h 32\n");
});

describe("a configuration", () => {
  it("of four lines settles everything, with its origin", async () => {
    const { settings, explained } = await read(minimal);
    expect(settings).toMatchObject({
      name: "run",
      output: path("runs/run"),
      kind: "lora",
      base: "bf16",
      dtype: "bf16",
      recompute: true,
      lora: { rank: 32, alpha: 32, dropout: 0 },
      time: { kind: "shift", settings: { shift: 12, scale: 1 } },
      optimizer: {
        kind: "adamw",
        settings: { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
        learningRate: 1e-4,
      },
      experts: { train: ["high", "low"] },
      length: { steps: 1000 },
      schedule: { kind: "constant", warmup: { steps: 0 } },
    });
    expect(settings.files.folder).toBe(path("wan"));
    const row = (key: string) => explained.find((setting) => setting.key === key);
    expect(row("model.checkpoint")).toMatchObject({ from: "config" });
    expect(row("lora.alpha")).toMatchObject({ value: "32", from: "default", note: "the scale alpha/rank is 1" });
    expect(row("time.shift")).toMatchObject({ value: "12", from: "model" });
    expect(row("experts.high_share")!.note).toContain("70.5 %");
  });

  it("takes the boundary of the experts from the checkpoint, where it names one", async () => {
    expect((await read(minimal)).settings.boundary).toBe(0.875);
    mkdirSync(path("own"));
    write("own/model_index.json", JSON.stringify({ _class_name: "WanPipeline", boundary_ratio: 0.9 }));
    const { settings, explained } = await read(minimal.replace('"wan"', '"own"'));
    expect(settings.boundary).toBe(0.9);
    expect(settings.experts.highShare).toBeCloseTo(shareOf(settings.time, { from: 0.9, to: 1 }), 6);
    expect(explained.find(({ key }) => key === "experts.train")?.note).toContain("σ ≥ 0.9");
    const single = await read(minimal.replace('"t2v-A14B"', '"t2v-14B"').replace('"wan"', '"own"'));
    expect(single.settings.boundary).toBeUndefined();
  });

  it("tells which settings do nothing in their combination", async () => {
    const { explained } = await read(
      `${minimal}[time]\nsampling = "uniform"\nshift = 3\nscale = 2\n[schedule]\nkind = "cosine"\ncycles = 3\n[experts]\ntrain = "low"\nswitch_every = 5\n[save]\nkeep_last = 2\n`,
    );
    const idle = explained.filter((setting) => setting.idle).map(({ key }) => key);
    expect(idle.sort()).toEqual([
      "experts.switch_every",
      "save.keep_last",
      "schedule.cycles",
      "time.scale",
      "time.shift",
    ]);
  });

  it("lists what acts and leaves out what does not, the dataset's own settings included", async () => {
    const row = async (content: string) => {
      const { explained } = await read(content);
      return (key: string) => explained.find((setting) => setting.key === key);
    };
    const plain = await row(minimal);
    for (const key of ["schedule.cycles", "schedule.power", "time.mean", "dataset.frame_stride"])
      expect(plain(key), key).toBeUndefined();
    expect(plain("dataset.frame_extraction")).toMatchObject({ value: "full", from: "default" });
    expect(plain("dataset.resolution")!.value).toContain("832x480");
    const given = await row(
      minimal.replace('"clips"', '{ path = "clips", target_frames = [6], frame_stride = 2, trigger = "sks" }'),
    );
    expect(given("dataset.target_frames")).toMatchObject({ value: "[5]", from: "config" });
    expect(given("dataset.frame_stride")!.idle).toContain("slide");
    expect(given("dataset.trigger")).toMatchObject({ value: "sks", from: "config" });
  });

  it("takes the command line's settings before the file's", async () => {
    const { settings, explained } = await read(`${minimal}[optimizer]\nlearning_rate = 1e-3\n`, {
      "optimizer.learning_rate": "2e-4",
      "dataset.batch_size": "3",
      name: "other",
    });
    expect(settings.optimizer.learningRate).toBe(2e-4);
    expect(settings.dataset.datasets[0]!.batchSize).toBe(3);
    expect(settings.name).toBe("other");
    expect(explained.find(({ key }) => key === "optimizer.learning_rate")!.from).toBe("command line");
  });

  it("lets the command line's steps take the place of the file's epochs, and the other way round", async () => {
    expect((await read(`epochs = 3\n${minimal}`, { steps: "7" })).settings.length).toEqual({ steps: 7 });
    expect((await read(`steps = 7\n${minimal}`, { epochs: "3" })).settings.length).toEqual({ epochs: 3 });
    await expect(read(minimal, { steps: "7", epochs: "3" })).rejects.toMatchObject({ code: "train-config.invalid" });
  });

  it("takes seeds of 64 bits as they are", async () => {
    const seedOf = async (content: string, set: Record<string, string> = {}) =>
      (await read(content, set)).settings.seed;
    expect(await seedOf(`seed = 9007199254740993\n${minimal}`)).toBe(9007199254740993n);
    expect(await seedOf(`seed = "18446744073709551615"\n${minimal}`)).toBe((1n << 64n) - 1n);
    expect(await seedOf(minimal, { seed: "18446744073709551615" })).toBe((1n << 64n) - 1n);
    await expect(read(minimal, { seed: "18446744073709551616" })).rejects.toMatchObject({
      code: "train-config.invalid",
    });
  });

  it("is read in any encoding, and finds folders whose names are spelled otherwise", async () => {
    mkdirSync(path("cafe\u0301"));
    write("umlaut.toml", "");
    writeFileSync(
      path("umlaut.toml"),
      encodeText(`${minimal.replace('"clips"', '"caf\u00e9"')}[save]\ntitle = "Große Bäume"\n`, "windows-1252"),
    );
    const { settings, notes } = await readTrainConfig(path("umlaut.toml"));
    expect(settings.save.title).toBe("Große Bäume");
    expect(settings.dataset.datasets[0]!.path).toBe(path("cafe\u0301"));
    expect(notes[0]).toMatch(/umlaut\.toml is not UTF-8 and was read as Windows-1252/);
  });

  it.each([
    ["100", { steps: 100 }],
    ["0.1", { share: 0.1 }],
    ['"5%"', { share: 0.05 }],
    ['"2.5 %"', { share: 0.025 }],
  ])("reads a warm-up of %s", async (text, warmup) => {
    const { settings } = await read(`${minimal}[schedule]\nwarmup = ${text}\n`);
    expect(settings.schedule.warmup).toEqual(warmup);
  });

  it("reads a dataset configuration, which has its own settings", async () => {
    write(
      "set.toml",
      `[general]\nresolution = [64, 64]\n[[datasets]]\nsource = ${JSON.stringify(path("clips"))}\nbatch_size = 4\n`,
    );
    const { settings } = await read(minimal.replace('"clips"', '"set.toml"'));
    expect(settings.dataset.datasets[0]).toMatchObject({ batchSize: 4, resolution: [64, 64] });
    await expect(read(minimal.replace('"clips"', '{ path = "set.toml", batch_size = 2 }'))).rejects.toMatchObject({
      code: "train-config.invalid",
      hint: "set batch_size in that file",
    });
  });
});

describe("mistakes", () => {
  it.each([
    ["a key of another spelling", "[optimizer]\nlearning_rte = 1\n", "train-config.unknown-key", "learning_rate"],
    ["a key in another table", "[lora]\nlearning_rate = 1\n", "train-config.unknown-key", "[optimizer]"],
    ["a table of another spelling", "[optimiser]\nkind = 1\n", "train-config.unknown-key", "optimizer"],
    ["a key at the top that has a table", "rank = 4\n", "train-config.unknown-key", "[lora]"],
    ["musubi's name", "[optimizer]\nlr = 1\n", "train-config.unknown-key", "optimizer.learning_rate"],
    ["a word of nowhere", "[lora]\nxyzzy_plugh_42 = 1\n", "train-config.unknown-key", "rank, alpha"],
  ])("%s: names the nearest", async (_what, text, code, hint) => {
    const top = text.startsWith("[") ? minimal + text : text + minimal;
    await expect(read(top)).rejects.toMatchObject({ code, hint: expect.stringContaining(hint) });
  });

  it.each([
    ["a zero learning rate", "[optimizer]\nlearning_rate = 0\n", /optimizer\.learning_rate must be above 0.*it is 0/],
    [
      "a learning rate that is not a number",
      "[optimizer]\nlearning_rate = nan\n",
      /learning_rate must be a number.*NaN/,
    ],
    ["one without end", "[optimizer]\nlearning_rate = inf\n", /learning_rate must be a number.*Infinity/],
    ["a negative one", "[optimizer]\nlearning_rate = -1e-4\n", /optimizer\.learning_rate must be above 0/],
    ["a rank of 1.5", "[lora]\nrank = 1.5\n", /lora\.rank must be a whole number/],
    ["a pattern that is none", '[lora]\ntargets = "("\n', /lora\.targets/],
    ["an unknown sampling", '[time]\nsampling = "sigmoidal"\n', /time\.sampling must be one of uniform, sigmoid/],
    ["a negative seed", "seed = -1\n", /seed must be a whole number from 0/],
    ["an empty text", '[save]\ntitle = ""\n', /save\.title must not be empty/],
    ["a warm-up of 2.5 steps", "[schedule]\nwarmup = 2.5\n", /schedule\.warmup/],
    ["far too many steps", "steps = 100000000\n", /steps must be at most 10000000/],
    ["far too many epochs", "epochs = 10000000\n", /epochs must be at most 1000000/],
    ["a rank that no file has", "[lora]\nrank = 1000000\n", /lora\.rank must be at most/],
    ["a rank above every layer's sides", "[lora]\nrank = 5121\n", /lora\.rank is above.*at most 5120/],
    ["an alpha without measure", "[lora]\nalpha = 1e30\n", /lora\.alpha must be at most/],
    ["a rate without measure", "[optimizer]\nlearning_rate = 1e30\n", /learning_rate must be at most/],
    ["batches to a step without measure", "[optimizer]\naccumulation = 1000000\n", /accumulation must be at most/],
    ["levels without measure", "[validation]\nsigmas = 100000\n", /sigmas must be at most/],
    ["states without measure", "[save]\nkeep_states = 100000\n", /keep_states must be at most/],
    ["fp8 in a full fine-tune", 'train = "full"\n', /fp8/],
  ])("%s is refused by name", async (_what, text, message) => {
    const fp8 = minimal.replace("[model]", '[model]\nbase = "fp8"');
    const content = text.startsWith("train") ? text + fp8 : text.startsWith("[") ? minimal + text : text + minimal;
    await expect(read(content)).rejects.toMatchObject({
      code: "train-config.invalid",
      message: expect.stringMatching(message),
    });
  });

  it.each([
    ["a learning rate", "[optimizer]\nlearning_rate = 0\n", /1e-4/],
    ["a word that is nearly right", '[experts]\ntrain = "hihg"\n', /did you mean high/],
    ["a device of another version", 'device = "metal"\n', /kinora doctor/],
    ["anything else", "[lora]\nrank = 0\n", /docs\/training\.md/],
    ["a warm-up", "[schedule]\nwarmup = 2.5\n", /0\.05/],
    ["half a file", "[validation]\nhold_out = 1.5\n", /two files/],
    ["a pattern", '[lora]\ntargets = "("\n', /regular expression/],
  ])("%s comes with a hint", async (_what, text, hint) => {
    const content = text.startsWith("[") ? minimal + text : text + minimal;
    await expect(read(content)).rejects.toMatchObject({ hint: expect.stringMatching(hint) });
  });

  it.each([
    ["all blocks", minimal.concat("blocks_to_swap = 40\n"), /at most 39/],
    [
      "blocks that are kept for the backward pass",
      minimal.concat("blocks_to_swap = 4\nrecompute = false\n"),
      /recompute on/,
    ],
    ["blocks that train", 'train = "full"\n'.concat(minimal, "blocks_to_swap = 4\n"), /lora/],
  ])("%s cannot be swapped", async (_what, content, hint) => {
    const { settings } = await read(minimal.concat("blocks_to_swap = 30\n"));
    expect(settings.blocks).toEqual({ swapped: 30 });
    await expect(read(content)).rejects.toMatchObject({
      code: "train-config.invalid",
      hint: expect.stringMatching(hint),
    });
  });

  it("in another trainer's words name the setting here, or say why there is none", async () => {
    const hint = async (text: string) => {
      const top = text.startsWith("[") ? minimal + text : text + minimal;
      return (await read(top).catch((error: { hint?: string }) => error.hint)) as string;
    };
    expect(await hint("network_dim = 8\n")).toBe("here it is lora.rank");
    expect(await hint("[network_arguments]\nnetwork_dim = 8\n")).toMatch(/known keys: name, output/);
    expect(await hint("[lora]\nnetwork_alpha = 8\n")).toBe("here it is lora.alpha");
    expect(await hint("min_timestep = 875\n")).toMatch(/^here it is time\.min: .*own levels/);
    expect(await hint('resume = "runs/a"\n')).toMatch(/run the same command again/);
    expect(await hint('network_weights = "a.safetensors"\n')).toMatch(/cannot start from an existing LoRA/);
    expect(await hint("blocks_to_swap = 20\n")).toBe("blocks_to_swap belongs in [model]");
    expect(await hint("block_swap_ring_size = 2\n")).toMatch(/model\.blocks_to_swap/);
    expect(await hint("[[datasets]]\nvideo_directory = 'a'\n")).toMatch(/this is a dataset configuration/);
  });

  it("in the list of other trainers' words lead to settings that there are, and shadow none", () => {
    const tree = trainKeys();
    const known = new Set(
      Object.entries(tree).flatMap(([key, inner]) => [
        key,
        ...Object.keys(inner ?? {}).map((name) => `${key}.${name}`),
      ]),
    );
    for (const [key, to] of Object.entries(foreignSettings)) {
      expect(known, key).toContain(typeof to === "string" ? to : to[0]);
      expect(known, key).not.toContain(key);
    }
    for (const key of Object.keys(foreignNames)) expect(known, key).not.toContain(key);
  });

  it("of types say what stands there and what was meant", async () => {
    await expect(read(`steps = "4"\n${minimal}`)).rejects.toMatchObject({
      message: expect.stringContaining('(it is the text "4")'),
      hint: "write it without quotes: steps = 4",
    });
    await expect(read(minimal.replace('"clips"', '"C:\\train\\new"'))).rejects.toMatchObject({
      message: expect.stringContaining("a tab"),
      hint: expect.stringContaining("backslash"),
    });
    await expect(read('model = "tiny-t2v"\ndataset = "clips"\n')).rejects.toMatchObject({
      hint: "model is a table: write [model] on its own line, with its settings below",
    });
    await expect(read(minimal, { name: "2024" })).rejects.toMatchObject({ hint: 'write it in quotes: name = "2024"' });
    const { explained } = await read(`${minimal}[time]\nsampling = "uniform"\nshift = { a = 1 }\n`);
    expect(explained.find(({ key }) => key === "time.shift")?.value).toBe("a table");
  });

  it("in a dataset's table are told as its own, not as those of a text", async () => {
    const content = minimal.replace('"clips"', '{ path = "clips", media = "video" }');
    await expect(read(content)).rejects.toMatchObject({
      message: expect.stringContaining('dataset.media must be one of all, images, videos (it is the text "video")'),
      hint: "did you mean videos?",
    });
    await expect(read(minimal.replace('"clips"', "7"))).rejects.toMatchObject({ code: "train-config.invalid" });
  });

  it.each([
    [
      "a batch size without measure",
      () => read(minimal.replace('"clips"', '{ path = "clips", batch_size = 65536 }')),
      "train-config.invalid",
    ],
    [
      "prompts without number",
      () => {
        write("many.txt", "a cat\n".repeat(1001));
        return read(`${minimal}[preview]\nprompts = "many.txt"\n`);
      },
      "train-config.invalid",
    ],
    ["no file", () => readTrainConfig(path("absent.toml")), "train-config.unreadable"],
    ["broken TOML", () => read("dataset = clips\n"), "train-config.syntax"],
    ["no model", () => read('dataset = "clips"\n'), "train-config.invalid"],
    ["no dataset", () => read('[model]\nname = "t2v-A14B"\n'), "train-config.invalid"],
    ["a dataset that does not exist", () => read(minimal.replace('"clips"', '"absent"')), "train.no-dataset"],
    ["an unknown model", () => read(minimal.replace("t2v-A14B", "t2v-A15B")), "model.unknown"],
    ["a model that cannot be trained", () => read(minimal.replace("t2v-A14B", "i2v-14B")), "train.unsupported-model"],
    ["steps and epochs", () => read(`steps = 1\nepochs = 1\n${minimal}`), "train-config.invalid"],
  ])("%s is told", async (_what, run, code) => {
    await expect(run()).rejects.toMatchObject({ code });
  });
});

describe("prompt files", () => {
  it("are read as musubi writes them", () => {
    const { prompts, notes } = parsePrompts(
      "# comment\n\na cat on a mat --w 832 --h 480 --f 80 --d 42 --s 20 --l 3.5 --fs 5 --n bad, worse --i cat.png\nplain\n",
      "prompts.txt",
      "/base",
    );
    expect(prompts).toEqual([
      {
        prompt: "a cat on a mat",
        width: 832,
        height: 480,
        frames: 77,
        seed: 42n,
        steps: 20,
        guidance: 3.5,
        shift: 5,
        negative: "bad, worse",
        image: "/base/cat.png",
      },
      { prompt: "plain" },
    ]);
    expect(notes).toEqual(["prompts.txt, line 3: 80 frames is not 4n + 1: using 77"]);
  });

  it.each([
    ["an unknown option", "a --q 3\n", "prompts.bad-option"],
    ["a word for a number", "a --w wide\n", "prompts.bad-option"],
    ["nothing", "# only this\n", "prompts.empty"],
  ])("%s is told with its line", (_what, text, code) => {
    expect(() => parsePrompts(text, "p.txt", "/")).toThrow(expect.objectContaining({ code }));
  });

  it("say what an option needs, and which there are", () => {
    const told = (text: string, part: object) =>
      expect(() => parsePrompts(text, "p.txt", "/")).toThrow(expect.objectContaining(part));
    told("a --w wide\n", { hint: "--w needs a whole number", expected: expect.stringMatching(/--fs with.*--ei.*--g/) });
    told("a --quite loud\n", { hint: expect.stringContaining("single dash") });
    told("#\n", { hint: expect.stringContaining("one prompt per line") });
  });

  it.each(["p.toml", "p.json"])("of another format, %s, are refused", async (name) => {
    write(name, "a cat\n");
    await expect(readPromptFile(path(name))).rejects.toMatchObject({
      code: "prompts.wrong-format",
      hint: expect.stringContaining(".txt"),
    });
  });
});

describe("what would stop a preview", () => {
  const preview = async (name: string, line: string) => {
    write("looks.txt", `a plain one\n${line}\n`);
    const model = minimal.replace("t2v-A14B", name);
    return (await read(`${model}[preview]\nprompts = "looks.txt"\n`)).settings.preview!.prompts[1]!;
  };

  beforeAll(async () => {
    await picture(path("wide.png"), 640, 360);
    await picture(path("sliver.png"), 2000, 2);
    writeFileSync(path("cut.png"), readFileSync(path("wide.png")).subarray(0, 200));
  });

  it.each([
    ["a flow shift of 0", "t2v-A14B", "a cat --fs 0", /flow shift.*/, /own, 12/],
    ["a seed of more than 64 bits", "t2v-A14B", "a cat --d 18446744073709551616", /seed/, /--d/],
    [
      "a picture that does not exist",
      "ti2v-5B",
      "a cat --i absent.png",
      /does not exist/,
      /relative to the prompt file/,
    ],
    ["a picture that is cut off", "ti2v-5B", "a cat --i cut.png", /cannot be read/, /truncated/],
    [
      "a picture that no video fits",
      "ti2v-5B",
      "a cat --i sliver.png --w 64 --h 64",
      /no video of 4096/,
      /--w and --h/,
    ],
    ["a size of nothing beside a picture", "ti2v-5B", "a cat --i wide.png --w 0", /no video of 0/, /--w and --h/],
  ])("is told before: %s", async (_what, name, line, message, hint) => {
    await expect(preview(name, line)).rejects.toMatchObject({
      code: "train-config.invalid",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    });
  });

  it.each([
    ["a giant size", "a cat --w 100000 --h 100000", "size.too-large"],
    ["a size beyond numbers", `a cat --w ${"9".repeat(400)}`, "size.not-divisible"],
    ["a clip without end", `a cat --f ${"9".repeat(30)}`, "size.too-large"],
    ["a giant picture", "a cat --i wide.png --w 100000 --h 100000", "size.too-large"],
    ["a CFG scale beyond reason", `a cat --l ${"9".repeat(30)}`, "train-config.invalid"],
    ["a CFG scale beyond numbers", `a cat --l ${"9".repeat(400)}`, "train-config.invalid"],
    ["an unknown sampler", "a cat --ss unipcc", "prompts.bad-option"],
  ])("is told before it is planned: %s", async (_what, line, code) => {
    await expect(preview("ti2v-5B", line)).rejects.toMatchObject({ code });
  });

  it("takes the sampler of its line, else that of the run", async () => {
    write("looks.txt", "a cat --ss euler\na dog\n");
    const samplers = async (more: string) => {
      const { settings } = await read(`${minimal}[preview]\nprompts = "looks.txt"\n${more}`);
      return settings.preview!.prompts.map(({ sampler }) => sampler);
    };
    expect(await samplers("")).toEqual(["euler", "unipc"]);
    expect(await samplers('sampler = "dpm++"\n')).toEqual(["euler", "dpm++"]);
    await expect(samplers('sampler = "dpm"\n')).rejects.toMatchObject({ code: expect.stringMatching(/^train-config/) });
  });

  it("is not a picture that fits, the largest seed, or a size that the picture decides", async () => {
    const line = "a cat --i wide.png --w 333 --h 200 --d 18446744073709551615 --fs 0.5";
    expect(await preview("ti2v-5B", line)).toMatchObject({ image: path("wide.png"), seed: 2n ** 64n - 1n, shift: 0.5 });
  });

  it("is looked for in a prompt whose picture has no effect, too", async () => {
    await expect(preview("t2v-A14B", "a cat --i absent.png --w 7")).rejects.toMatchObject({
      code: expect.stringMatching(/^size\./),
    });
  });
});

describe("targets of a LoRA", () => {
  const targets = async (list: string) => {
    const { explained } = await read(`${minimal}[lora]\ntargets = ${list}\n`);
    return explained.find(({ key }) => key === "lora.targets")!.note;
  };

  it("are counted, pattern by pattern", async () => {
    const { explained } = await read(minimal);
    expect(explained.find(({ key }) => key === "lora.targets")!.note).toBe("400 layers");
    expect(await targets('"self_attn"')).toBe("160 layers");
    expect(await targets('["self_attn", "attn", "ffn"]')).toBe("400 layers (self_attn: 160, attn: 320, ffn: 80)");
  });

  it("that select nothing are refused though others select", async () => {
    await expect(targets('["ffn", "self_atn"]')).rejects.toMatchObject({
      code: "lora.no-target",
      message: expect.stringContaining('"self_atn"'),
      hint: expect.stringMatching(/did you mean self_attn\?.*blocks\.0/),
    });
  });

  it("are the Linears that the transformer itself has", () => {
    for (const name of ["t2v-1.3B", "ti2v-5B", "i2v-14B"] as const) {
      const { dit } = wanModels[name];
      using transformer = new WanDit(new RandomWeights(createNullDevice()), dit, { dtype: "bf16" });
      expect(linearNames(dit).sort()).toEqual([...transformer.linears().keys()].sort());
    }
  });
});

describe("noise levels", () => {
  const shifted = (shift: number): TimeDistribution => ({ kind: "shift", settings: { shift, scale: 1 } });

  it.each([
    [0.875, 3, 0.2],
    [0.875, 5, 0.37],
    [0.875, 12, 0.7],
    [0.9, 3, 0.14],
    [0.9, 5, 0.28],
  ])("at or above %f with shift %d are the published share", (boundary, shift, share) => {
    expect(Math.abs(shareOf(shifted(shift), expertRange("high", boundary)) - share)).toBeLessThan(0.01);
  });

  const odd = { shift: 4, scale: 1.3, mean: 0.4, std: 0.8, density: "mode", mode_scale: 1.1 };
  const limits = [undefined, { min: 0.2, max: 0.95, keepShape: true }, { min: 0.2, max: 0.95, keepShape: false }];
  it.each(Object.keys(timeSamplings).flatMap((sampling) => limits.map((limit) => [sampling, limit] as const)))(
    "of %s within %o have their share on both sides",
    (sampling, limit) => {
      const names = Object.keys(timeSamplings[sampling]!.settings.shape);
      const own = Object.fromEntries(Object.entries(odd).filter(([name]) => names.includes(name)));
      const settings = timeSamplings[sampling]!.settings.parse(own);
      const distribution: TimeDistribution = { kind: sampling, settings, ...(limit ? { limits: limit } : {}) };
      const rng = new PhiloxRng(5n);
      const everything = { from: 0, to: 1 };
      const draws = Array.from({ length: 4000 }, () => drawSigma(distribution, everything, rng));
      for (const sigma of draws) expect(sigma >= (limit?.min ?? 0) && sigma <= (limit?.max ?? 1)).toBe(true);
      const high = expertRange("high", 0.875);
      const drawn = draws.filter((sigma) => inRange(sigma, high)).length / draws.length;
      expect(Math.abs(drawn - shareOf(distribution, high))).toBeLessThan(0.025);
      for (const expert of ["high", "low"] as const) {
        const range = expertRange(expert, 0.875);
        // What is hardly ever drawn is refused before a run.
        if (shareOf(distribution, range) < 0.01) continue;
        for (let i = 0; i < 100; i++) {
          const sigma = drawSigma(distribution, range, rng);
          expect(expert === "high" ? sigma >= 0.875 : sigma < 0.875).toBe(true);
        }
      }
    },
  );

  it("at the boundary itself belong to the high-noise expert", () => {
    expect(inRange(0.875, expertRange("high", 0.875))).toBe(true);
    expect(inRange(0.875, expertRange("low", 0.875))).toBe(false);
    expect(inRange(1, expertRange("high", 0.875))).toBe(true);
  });

  it("are limited by the configuration, which says when it cannot be", async () => {
    const { settings } = await read(`${minimal}[time]\nmin = 0.2\nkeep_shape = false\n`);
    expect(settings.time.limits).toEqual({ min: 0.2, max: 1, keepShape: false });
    const { explained } = await read(`${minimal}[time]\nkeep_shape = false\n`);
    expect(explained.find(({ key }) => key === "time.keep_shape")!.idle).toBe("only with time.min or time.max");
    await expect(read(`${minimal}[time]\nmin = 0.6\nmax = 0.5\n`)).rejects.toMatchObject({
      code: "train-config.invalid",
      message: expect.stringContaining("time.min is not below time.max"),
    });
  });

  it("that a sampling never reaches are refused", () => {
    const narrow: TimeDistribution = { kind: "logit_normal", settings: { shift: 1, mean: -5, std: 0.2 } };
    expect(() => checkRange(narrow, expertRange("high", 0.9), "the high-noise expert")).toThrow(
      expect.objectContaining({ code: "train.empty-range" }),
    );
  });

  it("come from the normal distribution as tables have it", () => {
    expect(normalShare(0)).toBe(0.5);
    expect(normalShare(1.959963984540054)).toBeCloseTo(0.975, 14);
    expect(normalShare(-6)).toBeCloseTo(9.865876450376946e-10, 20);
    for (const share of [1e-6, 0.02, 0.5, 0.9]) expect(normalShare(normalQuantile(share))).toBeCloseTo(share, 12);
  });
});

describe("experts in turn", () => {
  it.each([
    [1000, 100, 0.7],
    [997, 100, 0.37],
    [30, 100, 0.5],
    [10, 3, 0.9],
    [64, 8, 0.125],
  ])("of %d steps, changing every %d, have their share of %f", (steps, switchEvery, highShare) => {
    const plan = { train: ["high", "low"] as const, switchEvery, highShare };
    const { high, low, switches } = expertCounts(plan, steps);
    expect(high + low).toBe(steps);
    expect(Math.abs(high - steps * highShare)).toBeLessThanOrEqual(1);
    expect(switches).toBeLessThanOrEqual(Math.ceil(steps / Math.min(switchEvery, steps)) * 2);
  });

  it("change once a cycle", () => {
    const plan = { train: ["high", "low"] as const, switchEvery: 10, highShare: 0.3 };
    const order = Array.from({ length: 20 }, (_, step) => expertOfStep(step, plan, 20)[0]).join("");
    expect(order).toBe("hhhllllllllllllllhhh");
  });
});

describe("schedules", () => {
  // https://github.com/huggingface/transformers/blob/v4.57.0/tests/optimization/test_optimization.py (test_schedulers)
  const base = { warmup: 2, steps: 10, settings: {} };
  it.each<[string, Schedule, number[]]>([
    ["constant", { ...base, kind: "constant", warmup: 4 }, [0, 2.5, 5, 7.5, 10, 10, 10, 10, 10, 10]],
    ["cosine", { ...base, kind: "cosine" }, [0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, 0.38]],
    [
      "restarts",
      { ...base, kind: "cosine_with_restarts", settings: { cycles: 2 } },
      [0, 5, 10, 8.53, 5, 1.46, 10, 8.53, 5, 1.46],
    ],
    [
      "polynomial",
      { ...base, kind: "polynomial", settings: { power: 2 } },
      [0, 5, 10, 7.656, 5.625, 3.906, 2.5, 1.406, 0.625, 0.156],
    ],
  ])("%s gives transformers' published rates", (_name, schedule, expected) => {
    for (const [step, rate] of expected.entries()) {
      expect(Math.abs(learningRateAt(schedule, step, 10) - rate), `step ${step}`).toBeLessThan(0.01);
    }
  });
});
