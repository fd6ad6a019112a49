// `kinora train --init`: a first configuration that runs as it is, and whose commented lines are settings that there are.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { manifestVersion } from "../../src/protocol/dataset-manifest.ts";
import { initialConfig, writeInitialConfig } from "../../src/train/config/init.ts";
import { readTrainConfig } from "../../src/train/config/read.ts";
import { clips, picture } from "../dataset/dataset-files.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const cacheBefore = process.env.KINORA_CACHE;
beforeAll(() => {
  process.env.KINORA_CACHE = path("user-cache");
});
afterAll(() => {
  if (cacheBefore === undefined) delete process.env.KINORA_CACHE;
  else process.env.KINORA_CACHE = cacheBefore;
});

function writeManifest(folder: string, model: string): void {
  mkdirSync(path(folder), { recursive: true });
  const manifest = {
    kind: "kinora.dataset",
    version: manifestVersion,
    model,
    fps: 16,
    sizeMultiple: 16,
    inPlace: false,
    settings: {},
    sources: [],
    items: [],
  };
  writeFileSync(path(`${folder}/manifest.json`), JSON.stringify(manifest));
}

describe("a first configuration", () => {
  it("names the captioned folder beside it, and trains", async () => {
    await clips(path("first/meine clips"), 2, { frames: 5, width: 32, height: 32 });
    await picture(path("first/a-bare/picture.png"));
    const file = path("first/run.toml");
    const written = await runCli(["train", "--init", file]);
    expect(written).toMatchObject({
      code: 0,
      data: expect.stringMatching(
        /^wrote .*run\.toml: trains tiny-t2v on meine clips\nnext: kinora train .* --explain$/,
      ),
    });
    const sizes = ["dataset.resolution=32", "dataset.max_frames=5", "lora.rank=2", "steps=1", "experts.train=low"];
    const run = await runCli(["train", file, ...sizes.flatMap((set) => ["--set", set])]);
    expect([run.code, run.data]).toEqual([0, expect.stringContaining("finished 1 step")]);
    expect(existsSync(path("first/runs/run/index.html"))).toBe(true);
    const again = readFileSync(file, "utf8");
    await expect(writeInitialConfig(file)).rejects.toMatchObject({ code: "train-config.exists" });
    expect(readFileSync(file, "utf8")).toBe(again);
  });

  it("goes for a prepared set, and for the model it was prepared for", async () => {
    await clips(path("second/a"), 1, { frames: 5 });
    writeManifest("second/set", "t2v-A14B");
    const found = await writeInitialConfig(path("second/style.toml"));
    expect(found).toMatchObject({ dataset: "set", kind: "prepared", model: "t2v-A14B" });
    mkdirSync(path("second/Wan2.2-T2V-A14B"));
    const { settings } = await readTrainConfig(path("second/style.toml"));
    expect(settings).toMatchObject({ name: "style", length: { steps: 1000 }, model: { name: "t2v-A14B" } });
    expect(settings.files.folder).toBe(path("second/Wan2.2-T2V-A14B"));
  });

  it("says where to put the data where there is none, and makes its folder", async () => {
    expect(await writeInitialConfig(path("third/deep/run.toml"))).toMatchObject({
      dataset: "clips",
      model: "tiny-t2v",
    });
    expect(readFileSync(path("third/deep/run.toml"), "utf8")).toContain("put yours here");
    await expect(writeInitialConfig(path("third/run.yaml"))).rejects.toMatchObject({ hint: "name it run.toml" });
  });

  it.each(["tiny-t2v", "t2v-A14B"] as const)("has nothing but settings in its commented lines: %s", async (model) => {
    mkdirSync(path(`open-${model}/Wan2.2-T2V-A14B`), { recursive: true });
    mkdirSync(path(`open-${model}/a "clip"`));
    writeFileSync(path(`open-${model}/prompts.txt`), "a red circle --w 64 --h 64 --f 1\n");
    const text = initialConfig({ dataset: 'a "clip"', kind: "captioned", model }, "run.toml");
    // The lines of the published model take the place of the small one's.
    const open = text.replace(/^name = "tiny-t2v".*\n/m, "").replace(/^# (\[|\w+ = )/gm, "$1");
    expect(open).not.toBe(text);
    writeFileSync(path(`open-${model}/run.toml`), open);
    const { settings } = await readTrainConfig(path(`open-${model}/run.toml`));
    expect(settings).toMatchObject({
      model: { name: "t2v-A14B" },
      base: "fp8",
      seed: 42n,
      lora: { rank: 32 },
    });
    expect(text.split("\n").every((line) => line.length <= 120)).toBe(true);
  });
});
