// What happens between the steps of a run: who is judged when, what a failing preview costs, what the page and the log
// show, and what a run that goes on makes up for.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { KinoraError } from "../../src/base/errors.ts";
import { readLoraFile } from "../../src/lora/read.ts";
import type { LogLine, ValidationLine } from "../../src/protocol/train-log.ts";
import type { TrainEvent } from "../../src/train/run/events.ts";
import type { PreviewRequest } from "../../src/train/run/preview.ts";
import { readLog } from "../../src/train/run/run-log.ts";
import { runPage } from "../../src/train/run/run-page.ts";
import { clips } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { narrowSettings, notesOf, outcome, stepsOf, trainAll, writeNarrowCheckpoint } from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("runs");
const both = ["style_high_noise.safetensors", "style_low_noise.safetensors"];

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 3, { frames: 5, width: 32, height: 32 });
  writeFileSync(join(folder, "prompts.txt"), "a red circle\n");
});

const judged = (lines: readonly { kind: string }[]): string[] =>
  lines
    .filter((line): line is ValidationLine => line.kind === "validation")
    .map(({ expert, step }) => `${expert} ${step}`);
const stateOf = (output: string) => JSON.parse(readFileSync(join(output, "state.json"), "utf8"));

describe("judging", () => {
  // h1–7, l8–13, h14–23, l24: at 5, 10, 15, 20 the experts in memory are h, l, h, h.
  const more = {
    steps: 24,
    experts: { switch_every: 10, high_share: 0.7 },
    validation: { hold_out: 1, every_steps: 5, sigmas: 1 },
  };

  it("reaches the expert that is not in memory when it is due, at its next turn; also after going on", async () => {
    const whole = await narrowSettings(folder, { ...more, output: "judged" });
    await trainAll(whole);
    const lines = judged(readLog(whole.output));
    expect(lines.join(", ")).toBe("high 0, high 5, low 7, low 10, high 13, high 15, high 20, low 23, low 24, high 24");
    const parts = await narrowSettings(folder, { ...more, output: "judged-parts" });
    for (const last of [5, 10, 12, 13, 14, 23]) {
      const stop = new AbortController();
      await trainAll(parts, {
        stop,
        onEvent: (event) => event.type === "step" && event.line.step === last && stop.abort(),
      });
      expect(stateOf(parts.output).step).toBe(last);
    }
    await trainAll(parts);
    expect(outcome(parts.output, both)).toEqual(outcome(whole.output, both));
  });

  it("gives clips their first frame where all train with it", async () => {
    const place = path("ti2v");
    await writeNarrowCheckpoint(place, "tiny-ti2v");
    await clips(join(place, "clips"), 2, { frames: 9, width: 64, height: 64, fps: 24 });
    const untrained = async (share: number) => {
      const settings = await narrowSettings(
        place,
        {
          output: `first-${share}`,
          steps: 1,
          dataset: { resolution: [64, 64], target_frames: [9] },
          conditioning: { first_frame: share },
          validation: { hold_out: 1, sigmas: 1 },
        },
        "tiny-ti2v",
      );
      const { events } = await trainAll(settings);
      return events.flatMap((event) => (event.type === "validation" ? [event.line.loss] : []))[0]!;
    };
    const [never, half, always] = [await untrained(0), await untrained(0.5), await untrained(1)];
    expect(half).toBe(never);
    expect(always).not.toBe(never);
  });
});

describe("previews", () => {
  const shown = { steps: 4, preview: { prompts: "prompts.txt", every_steps: 3 }, save: { state_every_steps: 100 } };

  it("that cannot be made are told and end nothing", async () => {
    const settings = await narrowSettings(folder, { ...shown, output: "broken-preview" });
    // biome-ignore lint/correctness/useYield: it fails before there is anything to tell
    const preview = async function* () {
      throw new KinoraError("media.unreadable", "picture.png is no picture", { hint: "another picture" });
    };
    const { result, events } = await trainAll(settings, { preview });
    expect(result).toMatchObject({ end: "finished", files: both });
    expect(notesOf(events)).toEqual([
      "the previews of step 3 could not all be made: picture.png is no picture (another picture)",
      "the previews of step 4 could not all be made: picture.png is no picture (another picture)",
    ]);
  });

  it("tell how far a round is by one count that only grows, though films take their steps in turns", async () => {
    writeFileSync(join(folder, "two.txt"), "a red circle --s 3\na blue one --s 2\n");
    const settings = await narrowSettings(folder, {
      output: "counted-preview",
      steps: 1,
      preview: { prompts: "two.txt" },
    });
    const preview = async function* () {
      for (const done of [1, 2])
        for (const index of [0, 1]) yield { type: "step" as const, index, done, of: 3 - index };
      yield { type: "step" as const, index: 0, done: 3, of: 3 };
    };
    const { events } = await trainAll(settings, { preview });
    const told = events.flatMap((event) => (event.type === "previewing" ? [`${event.done}/${event.of}`] : []));
    expect(told).toEqual(["1/5", "2/5", "3/5", "4/5", "5/5"]);
  });

  it("that a defect or a stop ends leave the steps before them saved, and come when the run goes on", async () => {
    const settings = await narrowSettings(folder, { ...shown, output: "stopped-preview" });
    // biome-ignore lint/correctness/useYield: it fails before there is anything to tell
    const broken = async function* () {
      throw new TypeError("a defect");
    };
    await expect(trainAll(settings, { preview: broken })).rejects.toThrow("a defect");
    expect(stateOf(settings.output)).toMatchObject({ step: 3, toPreview: true });
    const sound = async function* ({ films }: PreviewRequest) {
      const { out } = films[0]!;
      mkdirSync(dirname(out), { recursive: true });
      writeFileSync(out, "film");
      yield { type: "film" as const, index: 0, seconds: 1 };
    };
    const { events } = await trainAll(settings, { preview: sound });
    expect(stepsOf(events).map(({ step }) => step)).toEqual([4]);
    expect(readdirSync(join(settings.output, "previews"))).toEqual(["00000003-0.mp4", "00000004-0.mp4"]);
    expect(readLog(settings.output).flatMap((line) => (line.kind === "preview" ? [line.step] : []))).toEqual([3, 4]);
    const plain = await narrowSettings(folder, { output: "never-shown", steps: 4 });
    await trainAll(plain);
    expect(outcome(settings.output, both)).toEqual(outcome(plain.output, both));
  });
});

describe("the log", () => {
  it("smooths each expert's loss by itself, and draws both", async () => {
    const settings = await narrowSettings(folder, { output: "smoothed", steps: 8 });
    const { events } = await trainAll(settings);
    for (const expert of ["high", "low"] as const) {
      const own = stepsOf(events).filter((line) => line.expert === expert);
      expect(own.length).toBeGreaterThan(2);
      let smoothed = own[0]!.loss;
      for (const line of own) {
        smoothed = line === own[0] ? line.loss : 0.95 * smoothed + 0.05 * line.loss;
        expect(line.smoothed).toBeCloseTo(smoothed, 12);
      }
    }
    const page = readFileSync(join(settings.output, "index.html"), "utf8");
    expect(page).toContain("smoothed, high-noise expert");
    expect(page).toContain("smoothed, low-noise expert");
  });

  it("counts a step's own seconds, without what comes before it", async () => {
    const settings = await narrowSettings(folder, { output: "seconds", steps: 1 });
    const late = (event: TrainEvent) =>
      event.type === "loaded" && Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000);
    const { events } = await trainAll(settings, { onEvent: late });
    expect(stepsOf(events)[0]!.seconds).toBeLessThan(3);
  });

  it("says which expert gets no step", async () => {
    const settings = await narrowSettings(folder, { output: "none", steps: 2, experts: { high_share: 0.95 } });
    const { result, events } = await trainAll(settings);
    expect(result.files).toEqual(["style_high_noise.safetensors"]);
    expect(notesOf(events)).toEqual([expect.stringContaining("the low-noise expert gets none of the 2 steps")]);
  });
});

describe("a checkpoint's own boundary", () => {
  it("parts the noise levels of training, judging and previews, and stands in the files", async () => {
    const place = path("boundary");
    cpSync(join(folder, "checkpoint"), join(place, "checkpoint"), { recursive: true });
    cpSync(join(folder, "clips"), join(place, "clips"), { recursive: true });
    writeFileSync(join(place, "checkpoint/model_index.json"), JSON.stringify({ boundary_ratio: 0.5 }));
    writeFileSync(join(place, "prompts.txt"), "a red circle\n");
    const settings = await narrowSettings(place, {
      steps: 6,
      time: { sampling: "uniform" },
      validation: { hold_out: 1, sigmas: 1 },
      preview: { prompts: "prompts.txt" },
    });
    const boundaries: (number | undefined)[] = [];
    // biome-ignore lint/correctness/useYield: it only looks at what it is asked
    const preview = async function* ({ boundary }: PreviewRequest) {
      boundaries.push(boundary);
    };
    const { events } = await trainAll(settings, { preview });
    expect(boundaries).toEqual([0.5]);
    for (const { expert, sigmas } of stepsOf(events))
      for (const sigma of sigmas) expect(sigma >= 0.5 ? "high" : "low").toBe(expert);
    const levels = events.flatMap((event) => (event.type === "validation" ? [event.line.bands[0]!.sigma] : []));
    expect(new Set(levels)).toEqual(new Set([0.75, 0.25]));
    const { metadata } = readLoraFile(join(settings.output, both[0]!));
    expect(metadata["modelspec.timestep_range"]).toBe("500,1000");
    rmSync(join(place, "checkpoint/model_index.json"));
    await expect(
      trainAll(await narrowSettings(place, { steps: 8, time: { sampling: "uniform" } })),
    ).rejects.toMatchObject({ code: "train.other-config", message: expect.stringContaining("boundary") });
  });
});

describe("the run's page", () => {
  it("is there before the first step, and after an error shows how far the run came", async () => {
    const settings = await narrowSettings(folder, { output: "page", steps: 4, save: { state_every_steps: 100 } });
    const page = join(settings.output, "index.html");
    let first = "";
    const fail = (event: TrainEvent) => {
      if (event.type === "ready") first = readFileSync(page, "utf8");
      // The next state cannot be written: a folder has its name.
      if (event.type === "step" && event.line.step === 2) mkdirSync(join(settings.output, "state.json"));
    };
    await expect(trainAll(settings, { onEvent: fail })).rejects.toMatchObject({ code: expect.stringMatching(/^io\./) });
    expect(first).toContain("0 of 4");
    expect(readFileSync(page, "utf8")).toContain("4 of 4");
  });
});

describe("the run's page as text", () => {
  const step = (number: number, expert: "high" | "low" = "low"): LogLine => ({
    kind: "step",
    step: number,
    epoch: 1,
    expert,
    loss: 1 / number,
    smoothed: 1 / number,
    learningRate: 1e-4,
    gradientNorm: 1,
    sigmas: [0.5],
    seconds: 1,
    peakBytes: 1e9,
  });
  /** Without its style and script. */
  const bodyOf = async (output: string, model: "tiny-t2v" | "tiny-ti2v", lines: LogLine[]) => {
    const settings = await narrowSettings(folder, { output }, model);
    return /<main>([\s\S]*)<\/main>/.exec(await runPage(settings, lines, 40))![1]!;
  };

  it("shows nothing of what is not there yet", async () => {
    const text = await bodyOf("page-empty", "tiny-ti2v", []);
    expect(text).toContain("LoRA of rank 2 on tiny-ti2v</p>");
    expect(text).toContain("No step is done yet.");
    expect(text.match(/<h2>/g)).toBeNull();
    expect(text).not.toMatch(/–<\/b>|NaN|undefined|Infinity/);
  });

  it("labels the first and the last step, and tells faint curves from strong ones", async () => {
    const lines = Array.from({ length: 30 }, (_, i) => step(i + 1, i < 15 ? "high" : "low"));
    const text = await bodyOf("page-steps", "tiny-t2v", lines);
    expect(text).toContain("on tiny-t2v, both experts</p>");
    const [losses] = text.split("</figure>");
    expect(
      [.../<div class="steps">(.*?)<\/div>/.exec(losses!)![1]!.matchAll(/<span>(\d+)<\/span>/g)].map(([, n]) => n),
    ).toEqual(["1", "16", "30"]);
    const legend = /<figcaption>(.*?)<\/figcaption>/.exec(losses!)![1]!;
    expect(
      [...legend.matchAll(/opacity:([\d.]+)"><\/i>([^<]+)/g)].map(([, opacity, name]) => `${name} ${opacity}`),
    ).toEqual([
      "each step, high-noise expert 0.4",
      "smoothed, high-noise expert 1",
      "each step, low-noise expert 0.4",
      "smoothed, low-noise expert 1",
    ]);
    const values = [...losses!.matchAll(/points="([^"]*)"/g)].flatMap(([, points]) =>
      points!.split(/[ ,]/).map(Number),
    );
    for (const value of values) expect(value >= 0 && value <= 1000).toBe(true);
  });

  it("has each preview under its prompt, with its step, and says where a film is gone", async () => {
    mkdirSync(join(folder, "page-films/previews"), { recursive: true });
    writeFileSync(join(folder, "page-films/previews/1.mp4"), "film");
    const line = (number: number, prompt: string): LogLine => ({
      kind: "preview",
      step: number,
      index: 0,
      prompt,
      file: `previews/${number}.mp4`,
      seconds: 1,
    });
    const text = await bodyOf("page-films", "tiny-ti2v", [step(1), line(1, "a <red> cat"), line(2, "a <red> cat")]);
    expect(text.match(/<h3>a &lt;red&gt; cat<\/h3>/g)).toHaveLength(1);
    expect(text).toMatch(/data:video\/mp4;base64,ZmlsbQ==.*<figcaption>step 1<\/figcaption>/);
    expect(text).toMatch(/the video was deleted.*<figcaption>step 2<\/figcaption>/);
  });
});

describe("a run that goes on", () => {
  it("refuses another base transformer and other repeats, by name", async () => {
    const place = path("base");
    cpSync(join(folder, "checkpoint"), join(place, "checkpoint"), { recursive: true });
    cpSync(join(folder, "clips"), join(place, "clips"), { recursive: true });
    const run = async (more: Record<string, unknown>) => trainAll(await narrowSettings(place, { steps: 2, ...more }));
    await run({});
    const high = join(place, "checkpoint/high_noise_model/diffusion_pytorch_model.safetensors");
    const low = join(place, "checkpoint/low_noise_model/diffusion_pytorch_model.safetensors");
    await expect(run({ steps: 4, model: { dit_high: low } })).rejects.toMatchObject({
      code: "train.other-config",
      message: expect.stringContaining("the high-noise transformer (content) was"),
    });
    await expect(run({ steps: 4, dataset: { num_repeats: 2 } })).rejects.toMatchObject({
      code: "train.other-config",
      message: expect.stringContaining("num_repeats"),
    });
    // The same weights in another place are the same weights.
    cpSync(high, join(place, "moved.safetensors"));
    expect((await run({ steps: 4, model: { dit_high: "moved.safetensors" } })).result.step).toBe(4);
  });

  it("begins anew where no step was done, whatever the settings were", async () => {
    const settings = await narrowSettings(folder, { output: "anew", steps: 2, validation: { hold_out: 1, sigmas: 1 } });
    const stop = new AbortController();
    await trainAll(settings, { stop, onEvent: (event) => event.type === "ready" && stop.abort() });
    expect(stateOf(settings.output).step).toBe(0);
    const other = await narrowSettings(folder, { output: "anew", steps: 2, lora: { rank: 3 } });
    expect((await trainAll(other)).result.end).toBe("finished");
  });

  it("sweeps what a killed one half wrote", async () => {
    const settings = await narrowSettings(folder, { output: "swept", steps: 1 });
    const { pid } = spawnSync(process.execPath, ["--version"]);
    const name = `.partial-${pid}-0123abcd.safetensors`;
    const cached = join(settings.cache, "latents/00");
    const old = new Date(Date.now() - 86_400_000);
    const places = [settings.output, join(settings.output, "state"), join(settings.output, "previews"), cached];
    for (const place of places) {
      mkdirSync(place, { recursive: true });
      writeFileSync(join(place, name), "half");
      utimesSync(join(place, name), old, old);
    }
    await trainAll(settings);
    for (const place of places) expect(existsSync(join(place, name)), place).toBe(false);
    rmSync(cached, { recursive: true });
  });
});
