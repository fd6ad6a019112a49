// Caches of latents and texts: what is in them, what makes a new entry, and that nothing of others is touched.
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { byFile, itemFrames } from "../../src/cache/frames.ts";
import { CacheStore, cacheKey } from "../../src/cache/store.ts";
import { folderConfig, parseDatasetConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import type { DatasetItem } from "../../src/dataset/items.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { HashCache } from "../../src/io/content-hash.ts";
import { writeSafetensors } from "../../src/io/safetensors-writer.ts";
import { openVideo } from "../../src/io/video/read.ts";
import { searchCheckpoint } from "../../src/models/wan/checkpoint-files.ts";
import { loadVae } from "../../src/models/wan/load.ts";
import { openScope } from "../../src/tensor/scope.ts";
import { fromValues } from "../../src/tensor/tensor.ts";
import type { TrainSettings } from "../../src/train/config/settings.ts";
import { buildCaches, type CachedData, type DataEvent, planItems } from "../../src/train/run/data.ts";
import { clip, clips, pictures } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { narrowSettings, writeNarrowCheckpoint } from "../support/training-run.ts";

const path = temporaryFolder();
const folder = path("set");
const { device } = await openDevice("auto");

beforeAll(async () => {
  await writeNarrowCheckpoint(folder);
  await clips(join(folder, "clips"), 2, { frames: 14, width: 48, height: 32 });
  await pictures(join(folder, "clips"), 1);
});

const dataset = { target_frames: [5], frame_extraction: "chunk", resolution: [32, 32] };

async function build(
  settings: TrainSettings,
): Promise<{ data: CachedData; made: Record<string, number>; reused: Record<string, number>; items: DatasetItem[] }> {
  const drain = async <T>(run: AsyncGenerator<DataEvent, T>, see: (event: DataEvent) => void): Promise<T> => {
    for (;;) {
      const { done, value } = await run.next();
      if (done) return value;
      see(value);
    }
  };
  const { items } = await drain(planItems(settings), () => {});
  const made: Record<string, number> = {};
  const reused: Record<string, number> = {};
  const data = await drain(
    buildCaches(settings, items, {
      device,
      hashes: new HashCache(settings.cache),
      files: searchCheckpoint(settings.model, settings.files),
      texts: ["a prompt"],
    }),
    (event) => {
      if (event.type !== "cache" || event.event.type !== "cached") return;
      made[event.event.kind] = event.event.done;
      reused[event.event.kind] = event.event.reused;
    },
  );
  return { data, made, reused, items: items.train };
}

const entries = (cache: string, kind: string): string[] =>
  readdirSync(join(cache, kind), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".safetensors"));

describe("the cache", () => {
  it("holds what the autoencoder says of the item's own frames", async () => {
    const { data, made, items } = await build(await narrowSettings(folder, { dataset, cache: "first" }));
    // Two windows of each clip, which are the same film twice, and a picture; captions and a prompt.
    expect(made).toEqual({ latents: 3, texts: 4 });
    const second = items.find(({ firstFrame }) => firstFrame === 5)!;
    using _scope = openScope(device);
    const { latents } = data.latents(device, second, false);
    expect(latents.shape).toEqual([16, 2, 4, 4]);
    const frames: Uint8Array[] = [];
    let index = 0;
    for await (const { data: rgb } of openVideo(second.file, { width: 48, height: 32 })) {
      if (index >= 5 && index < 10) frames.push(rgb);
      index++;
    }
    const values = new Float32Array(3 * 5 * 32 * 32);
    for (const [t, rgb] of frames.entries())
      for (let y = 0; y < 32; y++)
        for (let x = 0; x < 32; x++)
          for (let c = 0; c < 3; c++)
            values[((c * 5 + t) * 32 + y) * 32 + x] = rgb[(y * 48 + x + 8) * 3 + c]! / 127.5 - 1;
    const vae = searchCheckpoint((await narrowSettings(folder)).model, { folder: join(folder, "checkpoint") }).file(
      "vae",
    );
    using network = loadVae(device, vae, { dtype: "f32", half: "encoder" });
    const expected = await network.encode(fromValues(device, values, [3, 5, 32, 32])).read();
    const cached = await latents.read();
    const error = Math.hypot(...expected.map((value, i) => value - cached[i]!)) / Math.hypot(...expected);
    expect(error).toBeLessThan(1e-5);
    // A piece for each letter and for the blank in front of each word, and the end.
    expect(data.text("a prompt").shape).toEqual([10, 128]);
  });

  it("is used again, by content: another name, time or folder makes nothing new", async () => {
    const cache = "second";
    const first = await build(await narrowSettings(folder, { dataset, cache }));
    expect(first.made.latents).toBe(3);
    const again = await build(await narrowSettings(folder, { dataset, cache }));
    expect(again.made).toEqual({ latents: 0, texts: 0 });
    expect(again.reused).toEqual({ latents: 3, texts: 4 });
    expect(again.data.identity()).toEqual(first.data.identity());
    mkdirSync(join(folder, "elsewhere"), { recursive: true });
    copyFileSync(join(folder, "clips/clip000.mp4"), join(folder, "elsewhere/renamed.mp4"));
    copyFileSync(join(folder, "clips/clip000.txt"), join(folder, "elsewhere/renamed.txt"));
    utimesSync(join(folder, "elsewhere/renamed.mp4"), 1, 1);
    const moved = await build(await narrowSettings(folder, { dataset: { ...dataset, path: "elsewhere" }, cache }));
    expect(moved.made).toEqual({ latents: 0, texts: 0 });
  });

  it("makes a new entry for everything that changes the values, and keeps the old ones", async () => {
    const cache = "third";
    const base = await narrowSettings(folder, { dataset, cache });
    await build(base);
    const count = () => entries(base.cache, "latents").length;
    let before = count();
    const changed = async (more: Record<string, unknown>, made: number) => {
      const result = await build(
        await narrowSettings(folder, { cache, ...more, dataset: { ...dataset, ...(more.dataset as object) } }),
      );
      expect(result.made.latents).toBe(made);
      expect(count()).toBe(before + made);
      before = count();
    };
    await changed({ dataset: { resolution: [48, 32], enable_bucket: false } }, 3);
    await changed({ dataset: { target_frames: [9], media: "videos" } }, 1);
    await changed({ dataset: { source_fps: 32, media: "videos" } }, 1);
    await changed({ model: { vae_dtype: "bf16" } }, 3);
    const caption = join(folder, "clips/clip001.txt");
    const text = readFileSync(caption, "utf8");
    appendFileSync(caption, " Another word.");
    const { made } = await build(base);
    expect(made).toEqual({ latents: 0, texts: 1 });
    writeFileSync(caption, text);
    // Another film under the old name and, worse, with the old length.
    const film = join(folder, "clips/clip001.mp4");
    const bytes = readFileSync(film);
    await clip(film, { frames: 14, width: 48, height: 32, fps: 24 });
    expect((await build(base)).made.latents).toBeGreaterThan(0);
    writeFileSync(film, bytes);
  });

  it("makes an entry again that a broken disk cut off, and removes nothing it does not know", async () => {
    const settings = await narrowSettings(folder, { dataset, cache: "fourth" });
    await build(settings);
    const [entry] = entries(settings.cache, "latents");
    const file = join(settings.cache, "latents", entry!);
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, whole.length - 7));
    writeFileSync(join(settings.cache, "latents/mine.safetensors"), "not a cache entry");
    expect((await build(settings)).made.latents).toBe(1);
    expect(statSync(file).size).toBe(whole.length);
    expect(readFileSync(file).equals(whole)).toBe(true);
    expect(readFileSync(join(settings.cache, "latents/mine.safetensors"), "utf8")).toBe("not a cache entry");
  });

  it("finds a flipped bit, in values, shapes and words, looked for or read, and makes the entry again", async () => {
    const values = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i));
    const key = cacheKey({ a: 3 });
    const write = (store: CacheStore) =>
      store.write("texts", key, { embedding: { values, shape: [4, 128] } }, "f32", { a: 3 });
    const fresh = () => new CacheStore(path("flipped"));
    await write(fresh());
    const file = fresh().path("texts", key);
    const whole = readFileSync(file);
    for (const at of [20, Math.floor(whole.length / 3), whole.length >> 1, whole.length - 1]) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 4;
      writeFileSync(file, bytes);
      expect(fresh().look("texts", key), `byte ${at}`).toBe("damaged");
      expect(existsSync(file)).toBe(false);
      writeFileSync(file, bytes);
      expect(() => fresh().read("texts", key, ["embedding"]), `byte ${at}`).toThrow();
      rmSync(file, { force: true });
      expect(fresh().look("texts", key)).toBe("missing");
      await write(fresh());
      expect(fresh().look("texts", key)).toBe("sound");
    }
    // One of an older version, which has no checksum, is written again without a word.
    await writeSafetensors(file, [{ name: "embedding", dtype: "f32", shape: [1], bytes: new Uint8Array(4) }]);
    expect(fresh().look("texts", key)).toBe("missing");
  });

  it("keeps values in bf16 where asked, at half the size", async () => {
    const store = new CacheStore(path("store"));
    const values = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i));
    const keys = { wide: cacheKey({ a: 1 }), narrow: cacheKey({ a: 2 }) };
    await store.write("texts", keys.wide, { embedding: { values, shape: [4, 128] } }, "f32", { a: 1 });
    await store.write("texts", keys.narrow, { embedding: { values, shape: [4, 128] } }, "bf16", { a: 2 });
    expect(store.read("texts", keys.wide, ["embedding"])[0]!.values).toEqual(values);
    const [narrow] = store.read("texts", keys.narrow, ["embedding"]);
    expect(Math.max(...narrow!.values.map((value, i) => Math.abs(value - values[i]!)))).toBeLessThan(2 ** -8);
    expect(statSync(store.path("texts", keys.narrow)).size).toBeLessThan(
      statSync(store.path("texts", keys.wide)).size - 1000,
    );
    expect(cacheKey({ b: 1, a: { d: 2, c: [1] } })).toBe(cacheKey({ a: { c: [1], d: 2 }, b: 1 }));
    expect(cacheKey({ a: [1, 2] })).not.toBe(cacheKey({ a: [2, 1] }));
  });
});

describe("frames of items", () => {
  const plan = async (config: ReturnType<typeof folderConfig>) =>
    (await finished(planDataset(config, probeMedia, { model: "tiny-t2v" }))).items;
  const collect = async (items: readonly DatasetItem[]) => {
    const found = new Map<string, Uint8Array[]>();
    for (const group of byFile(items))
      for await (const { item, frames } of itemFrames(group)) found.set(item.id, frames);
    return found;
  };

  it("of overlapping windows and of other rates come from one pass over the file", async () => {
    const place = path("slide");
    await clip(join(place, "a.mp4"), { frames: 12, width: 32, height: 32, fps: 32 });
    const items = await plan(
      folderConfig(place, { target_frames: [1, 5], frame_extraction: "slide", frame_stride: 1, resolution: [32, 32] }),
    );
    expect(byFile(items)).toHaveLength(1);
    const found = await collect(items);
    expect(found.size).toBe(items.length);
    // 32 to 16 frames a second: every other frame, of which windows of five slide by one.
    const all: Uint8Array[] = [];
    for await (const { data } of openVideo(join(place, "a.mp4"))) all.push(data);
    for (const item of items) {
      const expected = Array.from({ length: item.frames }, (_, i) => all[2 * (item.firstFrame + i)]!);
      expect(found.get(item.id)!.map((frame) => Buffer.compare(frame, expected.shift()!))).toEqual(
        new Array(item.frames).fill(0),
      );
    }
  });

  it("of a folder of pictures are those pictures, in order", async () => {
    const place = path("frames");
    await pictures(join(place, "clip"), 5);
    writeFileSync(join(place, "list.jsonl"), `${JSON.stringify({ video_path: "clip", caption: "x" })}\n`);
    const config = parseDatasetConfig(
      `[[datasets]]\nvideo_jsonl_file = ${JSON.stringify(join(place, "list.jsonl"))}\nresolution = [32, 32]\ntarget_frames = [5]\n`,
    );
    const items = await plan(config);
    const found = await collect(items);
    expect([...found.values()].map((frames) => [frames.length, frames[0]!.length])).toEqual([[5, 32 * 32 * 3]]);
  });

  it("tell where a file has lost frames since it was planned", async () => {
    const place = path("lost");
    await clip(join(place, "a.mp4"), { frames: 9, width: 32, height: 32 });
    const items = await plan(folderConfig(place, { target_frames: [9], resolution: [32, 32] }));
    await clip(join(place, "a.mp4"), { frames: 5, width: 32, height: 32 });
    await expect(collect(items)).rejects.toMatchObject({ code: "cache.file-changed" });
  });
});
