// The plan of a run against what the run measures on this device, and its command.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { descriptorOf } from "../../src/device/open-device.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import type { TrainSettings } from "../../src/train/config/settings.ts";
import { planRun, type RunPlan } from "../../src/train/plan/run-plan.ts";
import { clips, picture, pictures } from "../dataset/dataset-files.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyCheckpoint } from "../support/tiny-checkpoint.ts";
import { narrowSettings, trainAll, writeNarrowCheckpoint } from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("plans");

beforeAll(async () => {
  // The whole tiny model: a block is then large beside the few hundred kilobytes that kernels hold while they run.
  await writeTinyCheckpoint(join(folder, "checkpoint"), wanModels["tiny-t2v"]);
  await clips(join(folder, "clips"), 2, { frames: 17, width: 64, height: 64 });
  await pictures(join(folder, "clips"), 1);
});

const wholeSettings = async (more: Record<string, unknown>): Promise<TrainSettings> => ({
  ...(await narrowSettings(folder, more)),
  model: wanModels["tiny-t2v"],
});

async function plan(settings: TrainSettings): Promise<RunPlan> {
  const run = planRun(settings, (await descriptorOf("auto")).memoryModel);
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
  }
}

const dataset = { target_frames: [17], resolution: [64, 64], batch_size: 2 };

describe("the plan of a run", () => {
  it.each<[what: string, more: Record<string, unknown>]>([
    ["a LoRA", {}],
    ["a LoRA that recomputes", { model: { recompute: true } }],
    ["a LoRA with swapped blocks", { model: { recompute: true, base: "bf16", blocks_to_swap: 2 } }],
    ["a LoRA on bf16", { model: { base: "bf16" } }],
    ["a LoRA on fp8", { model: { base: "fp8" } }],
    [
      "a LoRA with accumulation and 8-bit moments",
      { lora: { rank: 16 }, optimizer: { accumulation: 2, kind: "adamw8bit" } },
    ],
    ["a full fine-tune", { train: "full" }],
    ["a full fine-tune in bf16 that recomputes", { train: "full", model: { base: "bf16", recompute: true } }],
  ])("tells the peak of %s within 5 %%", async (what, more) => {
    const output = what.replaceAll(/\W+/g, "-");
    const settings = await wholeSettings({ output, steps: 2, experts: { train: "high" }, dataset, ...more });
    const planned = await plan(settings);
    const { result } = await trainAll(settings);
    const training = planned.phases.find(({ name }) => name === "training")!;
    expect(result.peakBytes / training.peak).toBeGreaterThan(0.95);
    expect(result.peakBytes / training.peak).toBeLessThan(1.05);
    expect(planned.phases.map(({ name }) => name)).toEqual(["latents", "texts", "training"]);
    expect(planned.step.flops).toBeGreaterThan(0);
    expect(planned.buckets.map(({ frames }) => frames)).toEqual([1, 17]);
  });

  it("counts every text that the run encodes, and signs of other scripts each", async () => {
    const texts = async (prompts: string, more: Record<string, unknown> = {}) => {
      const size = " --w 64 --h 64 --f 5 --s 1 --n nothing";
      writeFileSync(join(folder, "prompts.txt"), `${prompts}${prompts && size}\n`);
      const preview = prompts ? { preview: { prompts: "prompts.txt" } } : {};
      const { phases } = await plan(await wholeSettings({ dataset, ...preview, ...more }));
      return phases.find(({ name }) => name === "texts")!.work.flops;
    };
    const captions = await texts("");
    expect(await texts("", { conditioning: { caption_dropout: 0.1 } })).toBeGreaterThan(captions);
    const latin = await texts("a red circle");
    expect(latin).toBeGreaterThan(captions);
    // Twelve signs as well.
    expect(await texts("红色圆圈在蓝色背景上移动")).toBeGreaterThan(latin);
  });

  it("plans previews that begin with a picture, whose shape is the picture's", async () => {
    const place = path("pictured");
    await writeNarrowCheckpoint(place, "tiny-ti2v");
    await clips(join(place, "clips"), 1, { frames: 5, width: 64, height: 64 });
    await picture(join(place, "wide.png"), 96, 48);
    const previews = async (line: string) => {
      writeFileSync(join(place, "prompts.txt"), `a cat --s 1 --f 5 ${line}\n`);
      const more = { preview: { prompts: "prompts.txt" }, dataset: { resolution: [64, 64] } };
      const { phases } = await plan(await narrowSettings(place, more, "tiny-ti2v"));
      return phases.find(({ name }) => name === "previews")!.work.flops;
    };
    // 333 × 200 pixels are an area here, of which 352 × 160 is used; the picture is encoded besides.
    expect(await previews("--i wide.png --w 333 --h 200")).toBeGreaterThan(await previews("--w 352 --h 160"));
  });

  it("needs no checkpoint: it assumes the official files and says so", async () => {
    const settings = await wholeSettings({ dataset });
    const planned = await plan({ ...settings, files: { folder: path("nothing") } }).catch((error: unknown) => error);
    expect(planned).toMatchObject({ code: "checkpoint.no-folder" });
    const files = { dit: undefined, folder: undefined };
    const model = { ...settings.model, name: "t2v-A14B" };
    const assumed = await plan({ ...settings, model, files });
    expect(assumed.assumed).toHaveLength(3);
    expect(assumed.peak).toBeGreaterThan(0);
  });
});

describe("the commands", () => {
  const config = () => {
    const file = join(folder, "config.toml");
    writeFileSync(
      file,
      `steps = 6\ndataset = { path = "clips", target_frames = [17], resolution = [64, 64] }\n[model]\nname = "tiny-t2v"\ncheckpoint = "checkpoint"\n[experts]\nhigh_share = 0.5\nswitch_every = 2\n`,
    );
    return file;
  };

  it("plan CONFIG prints bytes, arithmetic and time, for people and for machines", async () => {
    const { data: text } = await runCli(["plan", config(), "--tflops", "1", "--set", "model.base=bf16"]);
    expect(text).toMatch(/64x64x17 .* tokens/);
    expect(text).toMatch(/device memory\n {2}at most/);
    expect(text).toMatch(/1\.000 TFLOP\/s/);
    const { data: json } = await runCli(["plan", config(), "--tflops", "1", "--json"]);
    expect(JSON.parse(json)).toMatchObject({ steps: 6, buckets: [{ frames: 1 }, { frames: 17 }] });
  });

  it("train --explain tells every setting, its origin and what follows", async () => {
    const { code, data: text } = await runCli(["train", config(), "--explain", "--set", "lora.alpha=8"]);
    expect(code).toBe(0);
    expect(text).toMatch(/lora\.alpha +8 +command line +the scale alpha\/rank is 0\.25/);
    expect(text).toContain("3 steps (50.0 %) train the high-noise expert, 3 (50.0 %) the low-noise one");
    expect(text).toContain("64x64x17: 2 items in 2 batches");
    const { data: json } = await runCli(["train", config(), "--explain", "--json"]);
    expect(JSON.parse(json).settings.find(({ key }: { key: string }) => key === "steps")).toEqual({
      key: "steps",
      value: "6",
      from: "config",
    });
  });
});
