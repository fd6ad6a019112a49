// Small files that others may have written or damaged, read without waiting and within bounds: indexes, logs, locks,
// configurations beside weights, and patterns that would run for ever.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { firstMatch } from "../../src/base/foreign-pattern.ts";
import { CacheStore, cacheKey } from "../../src/cache/store.ts";
import { FileLock } from "../../src/io/file-lock.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { readIndex } from "../../src/io/sharded.ts";
import { VideoWriter } from "../../src/io/video/write.ts";
import { readLoraFile } from "../../src/lora/read.ts";
import { settledBoundary } from "../../src/models/wan/checkpoint-files.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { vaeConfigPath } from "../../src/models/wan/vae/statistics.ts";
import { readLog } from "../../src/train/run/run-log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { loraShapes, randomTensors, tinyDit } from "../support/wan-files.ts";

const path = temporaryFolder();
const coded = (code: string) => expect.objectContaining({ code, hint: expect.stringMatching(/\w/) });

/** A folder with something odd under a name. */
function folderWith(name: string, make: (file: string) => void): string {
  const folder = path(`${name}-${Math.random().toString(36).slice(2)}`);
  mkdirSync(folder);
  make(join(folder, name));
  return folder;
}

const odd: readonly (readonly [string, (file: string) => void])[] = [
  ["a folder", (file) => mkdirSync(file)],
  ["a pipe", (file) => void spawnSync("mkfifo", [file])],
  [
    "far too large",
    (file) => {
      writeFileSync(file, "");
      truncateSync(file, 2 ** 33);
    },
  ],
];
const here = process.platform === "win32" ? odd.filter(([what]) => what !== "a pipe") : odd;

describe.each(here)("%s", (_, make) => {
  it("in the place of a log is told", () => {
    const folder = folderWith("log.jsonl", make);
    expect(() => readLog(folder)).toThrow(coded("train.bad-log"));
  });

  it("in the place of model_index.json is told, and of no interest where there is one transformer", () => {
    const folder = folderWith("model_index.json", make);
    expect(() => settledBoundary(wanModels["t2v-A14B"], { folder })).toThrow(coded("checkpoint.bad-index"));
    expect(settledBoundary(wanModels["ti2v-5B"], { folder })).toBeUndefined();
  });

  it("in the place of an autoencoder's config.json is told", () => {
    const folder = folderWith("config.json", make);
    expect(() => vaeConfigPath(join(folder, "vae.safetensors"))).toThrow(coded("vae.config"));
  });

  it("in the place of an index of shards is told", () => {
    const folder = folderWith("m.safetensors.index.json", make);
    expect(() => readIndex(join(folder, "m.safetensors.index.json"))).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^(?:shards\.bad-index|io\.not-a-file)$/) }),
    );
  });
});

it.each([["2"], ['"0.9"'], ["0"]])("a boundary_ratio of %s is told, not passed over", (ratio) => {
  const folder = folderWith("model_index.json", (file) => writeFileSync(file, `{"boundary_ratio":${ratio}}`));
  expect(() => settledBoundary(wanModels["t2v-A14B"], { folder })).toThrow(coded("checkpoint.bad-index"));
});

it("a boundary_ratio of null is the official one", () => {
  const folder = folderWith("model_index.json", (file) => writeFileSync(file, '{"boundary_ratio":null}'));
  expect(settledBoundary(wanModels["t2v-A14B"], { folder })).toBe(wanModels["t2v-A14B"].boundary);
});

it.runIf(process.platform !== "win32")("a pipe in the place of a lock is told, not waited for", () => {
  const folder = folderWith("lock", (file) => void spawnSync("mkfifo", [file]));
  const words = { code: "test.locked", message: "somebody has it", instead: "take another" };
  expect(() => FileLock.take(join(folder, "lock"), words)).toThrow(coded("io.not-a-file"));
});

it("a folder in the place of a film or of a cached entry is told and stays", async () => {
  const film = folderWith("film.mp4", (file) => mkdirSync(file));
  const writer = await VideoWriter.create(join(film, "film.mp4"), { width: 32, height: 32, fps: 8 });
  await writer.write(new Uint8Array(32 * 32 * 3));
  await expect(writer.finish()).rejects.toThrow(coded("io.not-a-file"));
  expect(readdirSync(film)).toEqual(["film.mp4"]);

  const store = new CacheStore(path("cache"));
  const key = cacheKey({ folder: true });
  mkdirSync(store.path("latents", key), { recursive: true });
  expect(() => store.look("latents", key)).toThrow(coded("io.not-a-file"));
  expect(existsSync(store.path("latents", key))).toBe(true);
});

it("patterns that repeat repetitions are stopped; others match as ever", () => {
  expect(() => firstMatch([/^(?:(\w+)+)+$/], [`${"a".repeat(60)}!`])).toThrow(RangeError);
  expect(firstMatch([/^b/, /a.*c$/], ["xabc"])).toBe(1);
  expect(firstMatch([/q/], ["abc"])).toBe(-1);
});

it("a PEFT folder whose pattern runs for ever is refused", async () => {
  const folder = path("peft");
  mkdirSync(folder);
  const tensors = randomTensors(loraShapes("peft", tinyDit, /self_attn\.q$/, 4), "f32").map((tensor) => ({
    ...tensor,
    name: tensor.name.replace("diffusion_model.", "base_model.model."),
  }));
  await writeSafetensors(join(folder, "adapter_model.safetensors"), tensors);
  const config = { peft_type: "LORA", r: 4, lora_alpha: 4 };
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  expect(readLoraFile(folder).adapters.length).toBeGreaterThan(0);
  const slow = path("peft-slow");
  cpSync(folder, slow, { recursive: true });
  writeFileSync(
    join(slow, "adapter_config.json"),
    JSON.stringify({ ...config, alpha_pattern: { "(([a-z_.0-9]+)+)+!": 2 } }),
  );
  expect(() => readLoraFile(slow)).toThrow(coded("lora.peft-config"));
});
