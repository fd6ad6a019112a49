// What a run reads back is not trusted: damage is found by hashes, no path leads out of the folder, and an earlier state is
// there to go on from. A finished run changes nothing.
import { createHash } from "node:crypto";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { clips } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import {
  narrowSettings,
  notesOf,
  outcome,
  stepsOf,
  tensorsOf,
  trainAll,
  writeNarrowCheckpoint,
} from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("runs");
const both = ["style_high_noise.safetensors", "style_low_noise.safetensors"];
/** States after 2, 4, 6 …; the order of the experts is that of a run of eight steps. */
const settingsOf = (output: string, more: Record<string, unknown> = {}) =>
  narrowSettings(folder, { output, steps: 6, experts: { switch_every: 3 }, ...more });

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 3, { frames: 5, width: 32, height: 32 });
  await trainAll(await settingsOf("sound"));
  await trainAll(await settingsOf("whole", { steps: 8 }));
});

/** Files, states and numbers of two runs are the same; a difference would be too long to print. */
const isLike = (output: string, other: string) =>
  expect(isDeepStrictEqual(outcome(output, both), outcome(other, both))).toBe(true);
const isWhole = (output: string) => isLike(output, join(folder, "whole"));

/** A copy of the run of six steps. */
function copied(name: string): string {
  const output = join(folder, name);
  cpSync(join(folder, "sound"), output, { recursive: true });
  return output;
}

function flipBit(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at]! ^= 0x10;
  writeFileSync(file, bytes);
}

type Json = Record<string, unknown>;
const recordOf = (output: string, name = "state.json") => JSON.parse(readFileSync(join(output, name), "utf8")) as Json;

/** Writes a record as its owner would, hash and all. */
function forge(output: string, change: (record: Json) => void): void {
  const { sha256: _old, ...record } = recordOf(output);
  change(record);
  const sha256 = createHash("sha256").update(JSON.stringify(record)).digest("hex");
  writeFileSync(join(output, "state.json"), JSON.stringify({ ...record, sha256 }, null, 2));
}

const goOn = async (name: string, options: { from?: number; steps?: number } = {}) =>
  trainAll(
    await settingsOf(name, { steps: options.steps ?? 8 }),
    options.from === undefined ? {} : { from: options.from },
  );
const refused = (name: string, part: object) => expect(goOn(name)).rejects.toMatchObject(part);
const earlier = { code: "train.bad-state", hint: expect.stringContaining("step 4 is intact: `from` 4") };

describe("a damaged state", () => {
  it("is found in an expert's file, and the run goes on from the one before with the same numbers", async () => {
    const output = copied("flipped");
    const file = Object.values(recordOf(output).experts as Record<string, { file: string }>)
      .map((saved) => join(output, saved.file))
      .find((name) => name.includes("00000006"))!;
    const { size } = statSync(file);
    // One bit in the header, one in the weights, one in the last byte.
    for (const at of [20, Math.floor(size / 2), size - 1]) {
      flipBit(file, at);
      await refused("flipped", {
        ...earlier,
        message: expect.stringContaining("is damaged: its SHA-256 does not match"),
      });
      flipBit(file, at);
    }
    flipBit(file, size - 1);
    const { events } = await goOn("flipped", { from: 4 });
    expect(stepsOf(events).map(({ step }) => step)).toEqual([5, 6, 7, 8]);
    isWhole(output);
  });

  it.each<[what: string, damage: (file: string) => void]>([
    ["cut off", (file) => truncateSync(file, statSync(file).size - 40)],
    ["empty", (file) => writeFileSync(file, "")],
    ["with a flipped bit", (file) => writeFileSync(file, readFileSync(file, "utf8").replace('"step": 6', '"step": 7'))],
    ["no JSON", (file) => writeFileSync(file, "\u0000".repeat(300))],
    ["of another kind", (file) => writeFileSync(file, "[1, 2]")],
    ["of another version", (file) => writeFileSync(file, JSON.stringify({ version: 2, step: 3 }))],
    ["with a deep nest in it", (file) => writeFileSync(file, "[".repeat(1e5))],
    [
      "a folder",
      (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    ],
  ])("is found where state.json is %s", async (what, damage) => {
    const name = `record-${what.replaceAll(" ", "-")}`;
    const output = copied(name);
    damage(join(output, "state.json"));
    await refused(name, { ...earlier, code: "train.bad-state", hint: expect.stringContaining("`from` 6") });
    if (what === "a folder") rmSync(join(output, "state.json"), { recursive: true });
    const { result } = await goOn(name, { from: 6 });
    expect(result.step).toBe(8);
    isWhole(output);
  });

  it("with a missing file says so; where none before it is whole, that it must begin again", async () => {
    const output = copied("none-whole");
    for (const place of ["state", "kept"])
      for (const name of readdirSync(join(output, place)))
        if (name.endsWith(".safetensors")) rmSync(join(output, place, name));
    await refused("none-whole", {
      code: "train.bad-state",
      message: expect.stringContaining("cannot be read"),
      hint: "choose another output to start over",
    });
    await expect(goOn("none-whole", { from: 5 })).rejects.toMatchObject({
      code: "train.bad-state",
      message: expect.stringContaining("no state was saved after step 5"),
    });
  });

  it("is given up for good by going on from an earlier one", async () => {
    const output = copied("given-up");
    await goOn("given-up", { from: 4, steps: 6 });
    expect(stepsOf((await goOn("given-up")).events).map(({ step }) => step)).toEqual([7, 8]);
    isWhole(output);
  });
});

describe("states on disk", () => {
  it.each([
    [1, ["00000006.json"]],
    [2, ["00000004.json", "00000006.json"]],
    [9, ["00000002.json", "00000004.json", "00000006.json"]],
  ])("are as many as save.keep_states asks for: %d", async (keep, records) => {
    const settings = await settingsOf(`keep-${keep}`, { save: { keep_states: keep } });
    await trainAll(settings);
    const [current, kept] = ["state", "kept"].map((place) => readdirSync(join(settings.output, place)));
    expect(kept!.filter((name) => name.endsWith(".json")).sort()).toEqual(records);
    const filesOf = (name: string) =>
      Object.values(recordOf(settings.output, name).experts as Record<string, { file: string }>).map(({ file }) =>
        basename(file),
      );
    // The newest state has its folder to itself.
    expect(current!.sort()).toEqual(filesOf("state.json").sort());
    const earlier = records.flatMap((name) => filesOf(`kept/${name}`)).filter((name) => !current!.includes(name));
    expect(new Set(kept!.filter((name) => name.endsWith(".safetensors")))).toEqual(new Set(earlier));
  });
});

describe("paths that were read back", () => {
  const victim = () => {
    mkdirSync(join(folder, "victim"), { recursive: true });
    writeFileSync(join(folder, "victim/p.safetensors"), "precious");
    return join(folder, "victim/p.safetensors");
  };

  it.each<[what: string, change: (record: Json) => void]>([
    ["outputs above the folder", (record) => (record.outputs = [["../victim/p.safetensors"]])],
    ["absolute outputs", (record) => (record.outputs = [[join(folder, "victim/p.safetensors")]])],
    ["outputs that are no LoRAs", (record) => (record.outputs = [["state.json"]])],
    ["outputs through a link", (record) => (record.outputs = [["link.safetensors"]])],
    [
      "an expert's file elsewhere",
      (record) => {
        const [saved] = Object.values(record.experts as Record<string, Json>);
        saved!.file = "state/../../victim/p.safetensors";
      },
    ],
  ])("%s are refused, and nothing outside is touched", async (what, change) => {
    const file = victim();
    const name = `paths-${what.replaceAll(/\W+/g, "-")}`;
    const output = copied(name);
    symlinkSync(file, join(output, "link.safetensors"));
    forge(output, change);
    const save = { every_steps: 1, keep_last: 1 };
    await expect(trainAll(await settingsOf(name, { steps: 8, save }))).rejects.toMatchObject({
      code: "train.bad-state",
    });
    expect(readFileSync(file, "utf8")).toBe("precious");
    expect(existsSync(join(output, "state.json"))).toBe(true);
  });

  it("a sound record is read whoever wrote it", async () => {
    const output = copied("forged");
    forge(output, (record) => (record.seconds = 1));
    expect((await goOn("forged")).result.step).toBe(8);
    isWhole(output);
  });
});

describe("a damaged log", () => {
  it.each<[what: string, line: string]>([
    ["a line that is none", "{broken"],
    ["a line of another kind", '{"kind":"weather","step":1}'],
    ["a preview outside", '{"kind":"preview","step":1,"index":0,"prompt":"a","file":"../../secret.mp4","seconds":1}'],
  ])("is told with its line: %s", async (what, line) => {
    const name = `log-${what.replaceAll(" ", "-")}`;
    const output = copied(name);
    const file = join(output, "log.jsonl");
    const lines = readFileSync(file, "utf8").split("\n");
    lines.splice(2, 0, line);
    writeFileSync(file, lines.join("\n"));
    await refused(name, {
      code: "train.bad-log",
      message: expect.stringContaining("line 3"),
      hint: expect.stringContaining("remove that line"),
    });
    lines.splice(2, 1);
    writeFileSync(file, lines.join("\n"));
    await goOn(name);
    isWhole(output);
  });

  it("is no obstacle where it is cut off at its end, or to a run that begins", async () => {
    const output = copied("log-cut");
    appendFileSync(join(output, "log.jsonl"), '{"kind":"step","st');
    expect((await goOn("log-cut")).result.step).toBe(8);
    mkdirSync(join(folder, "log-old"));
    writeFileSync(join(folder, "log-old/log.jsonl"), "not ours\nat all\n");
    expect((await goOn("log-old", { steps: 1 })).result.step).toBe(1);
  });
});

describe("a damaged cache entry", () => {
  it("is found before anything trains on it, made anew and said", async () => {
    const more = { cache: "damaged-cache", steps: 6, save: { state_every_steps: 100 } };
    const settings = await settingsOf("damaged-data", more);
    const stop = new AbortController();
    await trainAll(settings, {
      stop,
      onEvent: (event) => event.type === "step" && event.line.step === 1 && stop.abort(),
    });
    const entries = ["latents", "texts"].flatMap((kind) =>
      readdirSync(join(folder, "damaged-cache", kind), { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".safetensors"))
        .map((name) => join(folder, "damaged-cache", kind, name)),
    );
    const whole = entries.map((file) => readFileSync(file));
    for (const file of entries) flipBit(file, statSync(file).size - 3);
    const { events } = await trainAll(settings);
    const damaged = events.filter((event) => event.type === "cache" && event.event.type === "damaged");
    expect(damaged).toHaveLength(entries.length);
    entries.forEach((file, i) => void expect(readFileSync(file).equals(whole[i]!)).toBe(true));
    const plain = await settingsOf("undamaged-data");
    await trainAll(plain);
    isLike(settings.output, plain.output);
  });
});

describe("a finished run", () => {
  const files = (output: string) =>
    readdirSync(output, { recursive: true, encoding: "utf8" })
      .map((name) => [name, statSync(join(output, name)).mtimeMs] as const)
      .filter(([name]) => name !== "");

  it("says so, loads nothing and rewrites nothing", async () => {
    const output = copied("finished");
    const before = files(output);
    const { result, events } = await trainAll(await settingsOf("finished"));
    expect(result).toMatchObject({ end: "finished", step: 6, steps: 6, files: both });
    expect(notesOf(events)).toEqual([expect.stringContaining("finished")]);
    expect(events.every(({ type }) => type === "note" || type === "dataset")).toBe(true);
    expect(files(output)).toEqual(before);
  });

  it("writes the files that are gone again, and goes on where more steps are asked for", async () => {
    const output = copied("finished-again");
    const tensors = () => JSON.stringify(both.map((file) => tensorsOf(join(output, file))));
    const whole = tensors();
    renameSync(join(output, both[1]!), join(output, "moved.safetensors"));
    await trainAll(await settingsOf("finished-again"));
    expect(tensors() === whole).toBe(true);
    expect((await goOn("finished-again")).result.step).toBe(8);
    isWhole(output);
  });

  it("is still held to its settings", async () => {
    copied("finished-other");
    await expect(trainAll(await settingsOf("finished-other", { lora: { rank: 3 } }))).rejects.toMatchObject({
      code: "train.other-config",
    });
  });
});
