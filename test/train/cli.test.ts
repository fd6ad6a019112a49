// `kinora train` as people run it: previews through the real sampler, Ctrl-C, going on, and what is printed.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { probe } from "../../src/io/video/probe.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { clips } from "../dataset/dataset-files.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyCheckpoint } from "../support/tiny-checkpoint.ts";

const path = temporaryFolder();
const config = path("style.toml");
const cacheBefore = process.env.KINORA_CACHE;

beforeAll(async () => {
  process.env.KINORA_CACHE = path("user-cache");
  await writeTinyCheckpoint(path("checkpoint"), wanModels["tiny-t2v"]);
  await clips(path("clips"), 3, { frames: 5, width: 32, height: 32 });
  writeFileSync(path("prompts.txt"), "a red circle --w 32 --h 32 --f 5 --s 2 --d 3\n");
  writeFileSync(
    config,
    `steps = 6
dataset = { path = "clips", target_frames = [5], resolution = [32, 32] }
[model]
name = "tiny-t2v"
checkpoint = "checkpoint"
[lora]
rank = 2
[experts]
switch_every = 4
[validation]
hold_out = 1
sigmas = 2
[preview]
prompts = "prompts.txt"
every_steps = 3
`,
  );
});
afterAll(() => {
  if (cacheBefore === undefined) delete process.env.KINORA_CACHE;
  else process.env.KINORA_CACHE = cacheBefore;
});

const run = (argv: readonly string[], watch?: (progress: string) => void) => runCli(["train", ...argv], watch);

describe("kinora train", () => {
  it("stops at Ctrl-C with its state saved, and goes on to the end", async () => {
    const stopped = await run([config], (text) => {
      if (text.startsWith("step 2/6")) process.emit("SIGINT");
    });
    expect(stopped.code).toBe(130);
    expect(stopped.data).toBe("");
    const done = /^stopped after step (\d) of 6; run the same command again to continue$/m.exec(stopped.notes)![1]!;
    expect(stopped.notes).toContain("stopping after this step; press Ctrl-C again to stop now");
    expect(stopped.progress.find((text) => text.startsWith("step 1/6"))).toMatch(
      /^step 1\/6 {2}loss \d\.\d{4} \(\d\.\d{4}\) {2}lr 1\.00e-4 {2}norm \d.* s\/step {2}.* left {2}\d.*B$/,
    );
    const finished = await run([config]);
    expect(finished.code).toBe(0);
    expect(finished.notes).toContain(`resuming from step ${done}`);
    expect(finished.notes).toMatch(/\d+ latents reused from the cache, 0 to encode/);
    expect(finished.data).toContain("style_high_noise.safetensors");
    expect(finished.data).toContain("style_low_noise.safetensors");
    const output = path("runs/style");
    for (const step of [3, 6]) {
      const film = await probe(join(output, `previews/0000000${step}-0.mp4`));
      expect(film.video).toMatchObject({ width: 32, height: 32, frameCount: 5 });
    }
    const page = readFileSync(join(output, "index.html"), "utf8");
    expect(page).toContain("data:video/mp4;base64,");
    expect(page).toContain("Held-out loss");
    expect(page.split("<script>")[0]!.replaceAll(/base64,[^"]*/g, "")).not.toMatch(/NaN|undefined|https?:\/\//);
    expect(existsSync(path("user-cache/content-hashes.json"))).toBe(true);
  });

  it("says which files give less than they were asked for", async () => {
    const more = ["dataset.target_frames=[5, 9]", "output=other", "steps=1", "preview.every_steps=9"];
    const { code, notes } = await run([config, ...more.flatMap((text) => ["--set", text])]);
    expect(code).toBe(0);
    expect(notes).toMatch(/note: 3 files of the dataset yielded fewer items.*\n {2}\S+: has 5 frames; it needs 9\n/);
  });

  it("says that nothing is left to do, and answers machines in JSON", async () => {
    const plain = await run([config]);
    expect(plain.notes).toContain("note: this run is already finished (6 steps); nothing was changed");
    expect(plain.data).toMatch(/^finished 6 steps\n {2}.*style_high_noise\.safetensors\n/);
    const again = await run([config, "--json"]);
    expect(JSON.parse(again.data)).toMatchObject({ end: "finished", step: 6, steps: 6 });
    const more = await run([config, "--json", "--set", "steps=7", "--from", "3"]);
    expect(JSON.parse(more.data)).toMatchObject({ end: "finished", step: 7, steps: 7 });
    expect(JSON.parse(more.notes.split("\n").find((line) => line.includes('"ready"'))!)).toMatchObject({
      resumed: 3,
      heldOut: 1,
    });
  });

  it.each([
    [[], "cli.bad-arguments"],
    [["a.toml", "b.toml"], "cli.bad-arguments"],
    [["style.toml", "--set", "steps"], "cli.bad-value"],
    [["style.toml", "--from", "last"], "cli.bad-number"],
  ])("refuses %j", async (argv, code) => {
    const refused = await run([...argv, "--json"]);
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.data).error).toMatchObject({ code, hint: expect.stringMatching(/./) });
  });
});
