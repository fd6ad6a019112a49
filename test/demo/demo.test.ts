// npm run demo on random weights and with few steps: every stage as files, reused, stopped, gone on with, told apart.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkGoals, runDemo } from "../../scripts/demo/run.ts";
import { clipSize, type DemoSettings, demoFiles, heldOutPrompts, model, TRIGGER } from "../../scripts/demo/settings.ts";
import { scored, scoreTable, tally } from "../../scripts/tiny/analyser/score.ts";
import { combination } from "../../scripts/tiny/world/scene.ts";
import { readImage } from "../../src/io/image/read.ts";
import { probe } from "../../src/io/video/probe.ts";
import { latentsPath } from "../../src/sample/latents-file.ts";
import { readRecipe } from "../../src/sample/recipe.ts";
import { readTrainConfig } from "../../src/train/config/read.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyCheckpoint } from "../support/tiny-checkpoint.ts";

const path = temporaryFolder();
const cacheBefore = process.env.KINORA_CACHE;
const settings: DemoSettings = {
  folder: path("demo"),
  checkpoint: path("checkpoint"),
  clips: 5,
  prompts: 2,
  train: { steps: 4, batchSize: 2, rank: 2, learningRate: 1e-3, highShare: 0.5, heldOut: 1, judgeEvery: 2 },
  sampleSteps: 2,
};
const files = demoFiles(settings.folder);

beforeAll(async () => {
  process.env.KINORA_CACHE = path("user-cache");
  await writeTinyCheckpoint(path("checkpoint"), model);
});
afterAll(() => {
  if (cacheBefore === undefined) delete process.env.KINORA_CACHE;
  else process.env.KINORA_CACHE = cacheBefore;
});

/** Runs the demo; `stopAt` stops it at the first progress that holds these words. */
async function run(changes: Partial<DemoSettings> = {}, stopAt?: string) {
  const stop = new AbortController();
  const printed = { data: "", notes: "", progress: "" };
  const out = {
    data: (text: string) => {
      printed.data += `${text}\n`;
    },
    note: (text: string) => {
      printed.notes += `${text}\n`;
    },
    progress: (text: string) => {
      printed.progress += `${text}\n`;
      if (stopAt !== undefined && text.includes(stopAt)) stop.abort();
    },
  };
  const work = runDemo({ ...settings, ...changes }, { out, signal: stop.signal });
  if (stopAt === undefined) {
    const measures = await work;
    return { ...printed, measures };
  }
  await expect(work).rejects.toMatchObject({ name: "AbortError" });
  return { ...printed, measures: undefined };
}

/** Every file below a folder, by its content and the time it was written. */
function listing(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true }) as string[];
  const entries = names.flatMap((name) => {
    const stat = statSync(join(folder, name));
    if (!stat.isFile()) return [];
    const hash = createHash("sha256")
      .update(readFileSync(join(folder, name)))
      .digest("hex");
    return [[name, `${hash} ${stat.mtimeMs}`]];
  });
  return Object.fromEntries(entries);
}

const kept = () => [files.clips, files.run, files.videos].map(listing);

describe("npm run demo", () => {
  it("draws, trains, generates, measures and reports; stopped in training and in generating, it goes on", async () => {
    const inTraining = await run({}, "step 2/4");
    expect(inTraining.notes).toContain("5 clips drawn");
    expect(existsSync(files.videos)).toBe(false);

    const inGenerating = await run({}, "video 2 of 4, with the LoRA: step 1 of 2");
    expect(inGenerating.notes).toContain("all 5 clips are there: reused");
    expect(inGenerating.notes).toContain("resuming from step 2");
    expect(readdirSync(files.videos).sort()).toEqual(["000-with.latents.safetensors", "000-without.mp4"]);

    const { measures, notes, data } = await run();
    expect(notes).toContain("the LoRA is trained, 4 steps: reused");
    expect(notes).toContain("3 videos generated, 1 reused");
    expect(readdirSync(files.videos)).toHaveLength(4);
    expect(measures!.pairs).toHaveLength(2);
    const columns = (["without", "with"] as const).map((variant) => [
      `${variant} the LoRA`,
      measures!.pairs.map(({ scores }) => scores[variant]),
    ]);
    expect(data).toBe(`${scoreTable(Object.fromEntries(columns))}\n`);
  });

  it("writes clips as files like anybody's, captions behind the trigger phrase", async () => {
    const names = readdirSync(files.clips).sort();
    expect(names).toHaveLength(10);
    for (const name of names.filter((other) => other.endsWith(".mp4"))) {
      const { video, metadata } = await probe(join(files.clips, name));
      const { width, height, frames, fps } = clipSize;
      expect(video).toMatchObject({ codec: "h264", width, height, frameCount: frames, fps });
      const caption = readFileSync(join(files.clips, name.replace(".mp4", ".txt")), "utf8");
      expect(caption).toMatch(new RegExp(`^${TRIGGER}, [a-z, ]+\n$`));
      expect(metadata.comment).toBe(caption.trim());
    }
  });

  it("trains by a configuration that `kinora train` reads", async () => {
    const { settings: read, notes } = await readTrainConfig(files.config);
    expect(notes).toEqual([]);
    expect(read).toMatchObject({
      output: files.run,
      kind: "lora",
      length: { steps: 4 },
      lora: { rank: 2, alpha: 2 },
      experts: { train: ["high", "low"] },
      validation: { holdOut: 1 },
    });
    expect(existsSync(join(files.run, "index.html"))).toBe(true);
  });

  it("generates each prompt twice, alike in all but the LoRA, on combinations that were never trained", async () => {
    for (const { index, text, seed } of heldOutPrompts(2)) {
      const [without, withLora] = await Promise.all(
        ["without", "with"].map((variant) => readRecipe(join(files.videos, `00${index}-${variant}.mp4`))),
      );
      expect(without).toMatchObject({ prompt: text, seed: String(seed), steps: 2, loras: [] });
      expect({ ...withLora, loras: [] }).toEqual(without);
      expect(withLora!.loras.map(({ name, expert, strength }) => [name, expert, strength])).toEqual([
        ["neon_high_noise.safetensors", "high", 1],
        ["neon_low_noise.safetensors", "low", 1],
      ]);
    }
    const prompts = heldOutPrompts(40);
    expect(new Set(prompts.map(({ scene }) => combination(scene))).size).toBe(40);
  });

  it("reuses everything in another run, and says so", async () => {
    const before = kept();
    const { notes } = await run();
    expect(notes).toContain("all 5 clips are there: reused");
    expect(notes).toContain("the LoRA is trained, 4 steps: reused");
    expect(notes).toContain("all 4 videos are there: reused");
    expect(kept()).toEqual(before);
  });

  it("reports in one page that needs nothing else what was measured, learned and used", async () => {
    const { measures } = await run();
    const page = readFileSync(files.report, "utf8");
    const embedded = [
      ...page.matchAll(/<source src="([^"]+)" type="video\/mp4"><source src="data:video\/mp4;base64,([^"]+)"/g),
    ];
    expect(embedded).toHaveLength(4 + 5);
    for (const [, file, data] of embedded)
      expect(Buffer.from(data!, "base64").equals(readFileSync(join(settings.folder, file!)))).toBe(true);
    const bare = page.split("</main>")[0]!.replaceAll(/base64,[^"]*/g, "");
    expect(bare).not.toMatch(/https?:\/\/|<link|<script src|NaN|undefined|Infinity/);

    const rows = [...bare.matchAll(/<tr>(.*?)<\/tr>/g)].map(([, row]) =>
      [...row!.matchAll(/<td[^>]*>(.*?)<\/td>/g)].map(([, cell]) => cell!.replaceAll(/<[^>]*>/g, "")),
    );
    const tallies = (["without", "with"] as const).map((variant) =>
      tally(measures!.pairs.map(({ scores }) => scores[variant])),
    );
    for (const name of ["style: neon", ...scored] as const) {
      const [, without, withLora] = rows.find(([first]) => first === name)!;
      for (const [i, cell] of [without, withLora].entries()) {
        const { right, of } = tallies[i]![name];
        expect(cell).toBe(of === 0 ? "–" : `${((100 * right) / of).toFixed(1)} % (${right}/${of})`);
      }
    }
    for (const { what, wanted, got, met } of measures!.goals)
      expect(rows).toContainEqual([what, wanted, got, met ? "✓" : "✗ missed"]);
    for (const { text } of heldOutPrompts(2)) expect(bare).toContain(text);
    expect(bare).toContain("<polyline");
    expect(bare).toContain("learning_rate = 0.001");
    expect(bare).toContain("npx kinora generate --task tiny-t2v");
    const picture = await readImage(files.picture);
    expect(picture.width).toBeGreaterThan(8 * 2 * model.defaults.width);
    expect(JSON.parse(readFileSync(files.measures, "utf8"))).toMatchObject({ tally: { with: tallies[1] } });
  });

  it("fails with every figure that misses its goal: random weights learn no style", async () => {
    const { measures } = await run();
    expect(() => checkGoals(measures!)).toThrow(
      expect.objectContaining({
        code: "demo.missed",
        message: expect.stringMatching(/the style with the LoRA: 0\.0 % \(wanted over 90 %\)/),
      }),
    );
  });

  it("makes again only what was damaged, removed or begun with other settings", async () => {
    writeFileSync(join(files.clips, "001.mp4"), readFileSync(join(files.clips, "001.mp4")).subarray(0, 300));
    rmSync(join(files.clips, "002.txt"));
    writeFileSync(join(files.clips, "007.mp4"), "from another run");
    writeFileSync(join(files.videos, "000-with.mp4"), "no film");
    rmSync(join(files.videos, "001-without.mp4"));
    writeFileSync(latentsPath(join(files.videos, "001-with.mp4")), "no latents");
    const { notes } = await run();
    expect(notes).toContain("2 clips drawn, 3 reused");
    expect(readdirSync(files.clips)).toHaveLength(10);
    expect(notes).toContain("the LoRA is trained, 4 steps: reused");
    expect(notes).toContain("2 videos generated, 2 reused");
    expect(readdirSync(files.videos)).toHaveLength(4);
  });

  it("trains anew with other settings, and keeps the videos that no LoRA touched", async () => {
    const { notes } = await run({ train: { ...settings.train, steps: 3 } });
    expect(notes).toContain("the training that is there was another one: it begins anew");
    expect(notes).toContain("2 videos generated, 2 reused");
  });

  it("begins a video anew that was stopped with other settings", async () => {
    const changed = { train: { ...settings.train, steps: 3 } };
    await run({ ...changed, sampleSteps: 3 }, "video 1 of 4, without the LoRA: step 2 of 3");
    expect(existsSync(latentsPath(join(files.videos, "000-without.mp4")))).toBe(true);
    const { notes } = await run(changed);
    expect(notes).toContain("all 4 videos are there: reused");
    expect(existsSync(latentsPath(join(files.videos, "000-without.mp4")))).toBe(false);
  });
});
