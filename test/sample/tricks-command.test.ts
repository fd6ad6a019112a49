// Samplers, schedules, guidance and step caches as people ask for them on the command line: into the recipe, back out of it,
// and what is told where they do not go together.
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { parseNamed } from "../../src/cli/parse.ts";
import { loadLatents } from "../../src/sample/latents-file.ts";
import { tinyParts, writeKinoraFolder } from "../support/checkpoint-layouts.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const folder = path("tiny-t2v");

beforeAll(async () => {
  process.env.KINORA_CACHE = path("cache");
  await writeKinoraFolder(folder, tinyParts("tiny-t2v"));
});

const tiny = ["generate", "--task", "tiny-t2v", "--prompt", "a red circle", "--size", "32*32", "--frame_num", "5"];
const make = (out: string, ...flags: string[]) =>
  runCli([...tiny, "--seed", "7", "--ckpt_dir", folder, "--keep-latents", "--out", path(out), ...flags]);
const latentsOf = (out: string) => loadLatents(path(out.replace(".mp4", ".latents.safetensors"))).latents;
const recipeOf = async (out: string) => JSON.parse((await runCli(["show", path(out), "--json"])).data);

describe("everything at once", () => {
  const flags = [
    ...["--profile", "comfy", "--sample_steps", "10", "--sample_solver", "dpmpp_2m_sde:eta=0.5"],
    ...["--sample_schedule", "beta", "--sample_guide_scale", "2,3", "--guidance", "cfg-zero"],
    ...["--guidance", "slg:blocks=[1],start=0,end=0.9", "--guidance", "nag", "--nag_negative", "blue"],
    ...["--guidance", "enhance:variant=wrapper", "--cache", "comfy-easycache:threshold=5,start=0,subsample=1"],
  ];

  it("is in the recipe, with every setting, and repeats from it to the same bits", async () => {
    expect(await make("all.mp4", ...flags)).toMatchObject({ code: 0 });
    const recipe = await recipeOf("all.mp4");
    expect(recipe).toMatchObject({
      sampler: "dpmpp_2m_sde",
      samplerOptions: { eta: 0.5, s_noise: 1 },
      schedule: "beta",
      scheduleOptions: { alpha: 0.6, beta: 0.6 },
      noise: "torch-cpu",
      nagNegative: "blue",
      cache: { kind: "comfy-easycache", threshold: 5, start: 0, end: 0.95, subsample: 1 },
    });
    for (const [expert, scale] of [
      ["low", 2],
      ["high", 3],
    ] as const) {
      expect(recipe.guidance[expert]).toMatchObject({
        kind: "enhance",
        variant: "wrapper",
        over: { kind: "nag", scale: 11, over: { kind: "slg", blocks: [1], over: { kind: "cfg-zero", scale } } },
      });
    }
    const repeated = path("again.mp4");
    expect((await runCli(["generate", "--from", path("all.mp4"), "--out", repeated, "--keep-latents"])).code).toBe(0);
    expect(latentsOf("again.mp4")).toEqual(latentsOf("all.mp4"));
    const shown = (await runCli(["show", repeated])).data;
    expect(shown).toContain("10 steps of the schedule beta (alpha 0.6, beta 0.6)");
    expect(shown).toContain("comfy-easycache (threshold 5");
  });

  it("each changes the film", async () => {
    const before = latentsOf("all.mp4");
    const without: [string, string[]][] = [
      ["schedule.mp4", flags.map((flag) => (flag === "beta" ? "simple" : flag))],
      ["nag.mp4", flags.map((flag) => (flag === "blue" ? "green" : flag))],
      ["guidance.mp4", flags.map((flag) => (flag === "enhance:variant=wrapper" ? "enhance" : flag))],
      ["cache.mp4", flags.slice(0, -2)],
    ];
    for (const [out, given] of without) {
      expect(await make(out, ...given)).toMatchObject({ code: 0 });
      expect(latentsOf(out), out).not.toEqual(before);
    }
  });
});

describe("a step cache", () => {
  it("goes by what a calibration measured, which leaves its own film as it is", async () => {
    const steps = ["--sample_steps", "8"];
    await make("plain.mp4", ...steps);
    const measured = await make("measured.mp4", ...steps, "--calibrate-cache");
    const file = path("measured.cache.json");
    expect(measured.notes).toContain(file);
    expect(latentsOf("measured.mp4")).toEqual(latentsOf("plain.mp4"));
    const { magcache, teacache } = JSON.parse(readFileSync(file, "utf8"));
    expect(magcache).toHaveLength(14);
    for (const ratio of magcache) expect(ratio).toBeGreaterThan(0);
    expect([teacache.embedding.length, teacache.projection.length]).toEqual([5, 5]);
    const cached = ["--cache", "magcache:threshold=0.5", "--cache_coefficients", file];
    const made = await make("cached.mp4", ...steps, ...cached, "--json");
    const told = made.notes.split("\n").filter((line) => line.includes('"type":"step"'));
    const passes = told.map((line) => JSON.parse(line));
    expect(passes.flatMap(({ cache }) => cache).some(({ skip }: { skip: boolean }) => skip)).toBe(true);
    for (const { passes: computed, cache } of passes) {
      expect(computed).toBe(cache.filter(({ skip }: { skip: boolean }) => !skip).length);
    }
    expect((await recipeOf("cached.mp4")).cache.ratios).toEqual(magcache);
    // A threshold of 0 is no cache, and leaves no trace in the recipe.
    await make("zero.mp4", ...steps, "--cache", "easycache:threshold=0");
    expect(latentsOf("zero.mp4")).toEqual(latentsOf("plain.mp4"));
    expect((await recipeOf("zero.mp4")).cache).toBeUndefined();
  });
});

describe("lists of steps", () => {
  it("settle how many steps there are", async () => {
    await make("list.mp4", "--sample_schedule", "distilled:list=[1000,500]", "--sample_guide_scale", "1");
    expect(await recipeOf("list.mp4")).toMatchObject({
      schedule: "distilled",
      steps: 2,
      guidance: { low: 1, high: 1 },
    });
  });
});

describe("what does not go together", () => {
  it.each([
    ["generate.unknown-sampler", ["--sample_solver", "eular"]],
    ["sampler.options", ["--sample_solver", "euler:eta=1"]],
    ["generate.unknown-schedule", ["--sample_schedule", "smple"]],
    ["schedule.options", ["--sample_schedule", "beta:alpha=-1"]],
    ["scheduler.options", ["--sample_schedule", "distilled:list=[1000,500]", "--sample_steps", "4"]],
    ["generate.unknown-profile", ["--profile", "comfi"]],
    ["generate.bad-guidance", ["--guidance", "slg:blocks=[40]"]],
    ["generate.bad-guidance", ["--guidance", "slg-simple:blocks=[1]", "--sample_guide_scale", "1"]],
    ["generate.bad-guidance", ["--guidance", "nagg"]],
    ["generate.bad-cache", ["--cache", "teacash"]],
    ["generate.bad-cache", ["--cache", "easycache:threshold=often"]],
    ["generate.cache-coefficients", ["--cache", "teacache"]],
    ["generate.cache-coefficients", ["--cache", "magcache", "--cache_coefficients", "nowhere.json"]],
    ["generate.contradiction", ["--cache_coefficients", "nowhere.json"]],
    ["generate.contradiction", ["--cache", "easycache", "--calibrate-cache"]],
    ["cli.bad-value", ["--cache", "easycache:0.2"]],
  ])("is %s: %j", async (code, flags) => {
    const { code: exit, notes, data } = await make("never.mp4", ...flags);
    expect(exit).toBe(1);
    expect(notes + data).toContain(code);
    expect(notes + data).toMatch(/hint|expected/);
  });
});

it("settings are JSON where they can be, and lists keep their commas", () => {
  expect(parseNamed("--x", "slg:blocks=[7,8],scale=2.5,by=steps,on=true")).toEqual({
    name: "slg",
    settings: { blocks: [7, 8], scale: 2.5, by: "steps", on: true },
  });
  expect(parseNamed("--x", "euler")).toEqual({ name: "euler", settings: {} });
});
