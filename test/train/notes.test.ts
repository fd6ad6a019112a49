// What a run says without stopping: files in each other's place, texts that are cut, data worth a look, a rate that never
// rises; and the same before it, by --explain.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { SafetensorsFile } from "../../src/io/safetensors.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import type { TrainSettings } from "../../src/train/config/settings.ts";
import { explainRun } from "../../src/train/plan/explain.ts";
import { cutWarning } from "../../src/train/run/warnings.ts";
import { clips, pictures } from "../dataset/dataset-files.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { writeTinyCheckpoint } from "../support/tiny-checkpoint.ts";
import { narrowSettings, notesOf, trainAll } from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("notes");
const long = "a very long caption about a red circle that moves and moves";

beforeAll(async () => {
  // The whole model: an expert is told from a file's name where its sizes are those of a model with two.
  await writeTinyCheckpoint(join(folder, "checkpoint"), wanModels["tiny-t2v"]);
  await clips(join(folder, "clips"), 2, { frames: 5, width: 32, height: 32 });
  await pictures(join(folder, "clips"), 1);
  writeFileSync(join(folder, "clips/clip001.txt"), long);
});

async function explained(settings: TrainSettings) {
  const run = explainRun(settings, []);
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
  }
}

describe("a run says", () => {
  it("that experts stand in each other's place, that texts are cut, that the rate never rises", async () => {
    const checkpoint = join(folder, "checkpoint");
    const file = (expert: string) => join(checkpoint, `${expert}_noise_model/diffusion_pytorch_model.safetensors`);
    const narrow = await narrowSettings(folder, {
      output: "said",
      steps: 2,
      experts: { switch_every: 2, high_share: 0.5 },
      model: { checkpoint, dit_high: file("low"), dit_low: file("high") },
      time: { sampling: "logit_normal", shift: 3 },
      schedule: { warmup: 5 },
    });
    const settings = { ...narrow, model: wanModels["tiny-t2v"] };
    const { result, events } = await trainAll(settings);
    expect(notesOf(events)).toEqual([
      expect.stringMatching(/low_noise_model.* is named like the low-noise expert but trains as the high-noise one$/),
      expect.stringMatching(/high_noise_model.* is named like the high-noise expert but trains as the low-noise one$/),
      expect.stringContaining("never reaches its highest: its warm-up takes 5 steps, the run 2"),
    ]);
    const cut = events.flatMap((event) => (event.type === "cache" && event.event.type === "cut" ? [event.event] : []));
    expect(cut).toMatchObject([{ length: settings.model.dit.textLength }]);
    expect(cut[0]!.texts.map(({ text }) => text)).toContain(long);
    // Musubi's key, for every sampling that shifts.
    using lora = SafetensorsFile.open(join(settings.output, result.files[0]!));
    expect(lora.metadata.ss_discrete_flow_shift).toBe("3.0");

    // What is cached already is told too.
    const again = await trainAll({ ...settings, output: join(folder, "again"), length: { steps: 1 } });
    expect(again.events.some((event) => event.type === "cache" && event.event.type === "cut")).toBe(true);

    const { warnings, implied } = await explained(settings);
    expect(warnings.join("\n")).toMatch(/texts? (?:is|are) cut: the model reads the first 32 tokens/);
    expect(warnings.join("\n")).toContain("never reaches its highest");
    expect(implied.find((line) => line.startsWith("learning rate"))).toBe(
      "learning rate: 0.00e+0 at step 1, 2.00e-4 at step 2",
    );
  });

  it("what the dataset's warnings say, and so does --explain", async () => {
    writeFileSync(
      join(folder, "config.toml"),
      'dataset = { path = "clips", trigger = "sks", target_frames = [5], resolution = [64, 64] }\nsteps = 1\noutput = "warned"\n[model]\nname = "tiny-t2v"\ncheckpoint = "checkpoint"\n',
    );
    const run = (...more: string[]) => runCli(["train", join(folder, "config.toml"), ...more]);
    const { data } = await run("--explain");
    const thoughts = data.split("worth a thought\n")[1]!;
    expect(thoughts).toMatch(/ {2}3 captions .* without the trigger phrase "sks".*\(begin every caption/);
    const { notes } = await run();
    expect(notes).toMatch(/^note: 3 captions .* without the trigger phrase "sks"/m);
    expect(notes).toMatch(/^note: \d texts? (?:is|are) cut/m);
    // A finished run has nothing to say of its data: one more step does.
    const json = (await run("--json", "--set", "steps=2")).notes.split("\n").find((line) => line.includes('"ready"'))!;
    expect(JSON.parse(json).warnings.join()).toContain("trigger phrase");
  });
});

describe("words about texts that are cut", () => {
  it("name the first and count the rest", () => {
    const texts = [600, 700, 800, 900].map((tokens) => ({ text: `${"x".repeat(60)} ${tokens}`, tokens }));
    expect(cutWarning(texts.slice(0, 1), 512)).toBe(
      `1 text is cut: the model reads the first 512 tokens; "${"x".repeat(40)}…" has 600`,
    );
    expect(cutWarning(texts, 512)).toMatch(/^4 texts are cut.* has 600.* has 700.* has 800 and 1 more$/);
  });
});

describe("warnings of a dataset", () => {
  it("are not given for what is told elsewhere", async () => {
    const settings = await narrowSettings(folder, { dataset: { bucket_no_upscale: true, enable_bucket: false } });
    expect(settings.dataset.notes).toHaveLength(1);
    const { warnings } = await explained(settings);
    expect(warnings.join()).not.toContain("bucket_no_upscale has no effect");
  });
});
