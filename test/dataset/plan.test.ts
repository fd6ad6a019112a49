// Plans of real small datasets: what becomes an item, what does not and why, for folders, JSONL files and controls.
import { copyFileSync, linkSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { folderConfig, settleDatasetConfig } from "../../src/dataset/config.ts";
import { type PlanOptions, planDataset } from "../../src/dataset/dataset-plan.ts";
import { sourceFrames } from "../../src/dataset/items.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { makeFilm } from "../support/film.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { caption, clip, clips, picture } from "./dataset-files.ts";

const path = temporaryFolder();

type Table = Record<string, unknown>;
const plan = (tables: Table | Table[], general: Table = {}, options: PlanOptions = {}) =>
  finished(planDataset(settleDatasetConfig({ general, datasets: [tables].flat() }), probeMedia, options));
const names = (entries: readonly { file: string }[]) => entries.map(({ file }) => basename(file));

describe("a folder of clips", () => {
  it("gives items in musubi's order, with their frames, sizes, crops and captions", async () => {
    const folder = path("clips");
    await clips(folder, 2, { frames: 30, width: 128, height: 64 });
    const found = await plan(
      { video_directory: folder, target_frames: [1, 21], num_repeats: 2 },
      { resolution: [64, 64], enable_bucket: true, caption_extension: ".txt" },
    );
    expect(found.items.map(({ id, frames }) => [id, frames])).toEqual([
      ["1/clip000.mp4:0+1", 1],
      ["1/clip000.mp4:0+21", 21],
      ["1/clip001.mp4:0+1", 1],
      ["1/clip001.mp4:0+21", 21],
    ]);
    // 64×64: s = 64, widths 32…64: 32×128, 48×80, 64×64 and across; 2:1 lies nearest to 80×48 (1.667), then 128×32 (4).
    // Cover 80×48 from 128×64: scale 0.75 → 96×48, 16 columns go, 8 a side.
    expect(found.items[1]).toMatchObject({
      kind: "video",
      file: join(folder, "clip000.mp4"),
      firstFrame: 0,
      fps: 16,
      bucket: { width: 80, height: 48, frames: 21 },
      crop: { scaled: { width: 96, height: 48 }, left: 8, top: 0 },
      caption: { path: join(folder, "clip000.txt"), text: "Studio Ghibli style. Clip 0." },
      repeats: 2,
    });
    expect(found.drops).toEqual([]);
    expect(found.totals).toEqual({ files: 2, onPaper: 8, items: 8, batches: 8 });
    expect(found.datasets[0]!.buckets).toEqual([
      { width: 80, height: 48, frames: 1, items: 4, batches: 4 },
      { width: 80, height: 48, frames: 21, items: 4, batches: 4 },
    ]);
  });

  it("counts what decodes, not what the container says", async () => {
    const folder = path("lies");
    await clip(join(folder, "whole.mp4"), { frames: 60, width: 128, height: 96 });
    // Matroska keeps its duration in the header; the last frames are cut off with the file's end.
    await makeFilm(join(folder, "cut.mkv"), {
      graph: "testsrc2=s=128x96:r=16,trim=end_frame=60,format=yuv420p",
      encoderOptions: { preset: "ultrafast", g: "6" },
    });
    const bytes = readFileSync(join(folder, "cut.mkv"));
    writeFileSync(join(folder, "cut.mkv"), bytes.subarray(0, Math.floor(bytes.length * 0.6)));
    const found = await plan({ video_directory: folder, target_frames: [45] }, { resolution: [128, 96] });
    expect(names(found.items)).toEqual(["whole.mp4"]);
    const { frames } = await probeMedia(join(folder, "cut.mkv"));
    expect(frames).toBeGreaterThan(20);
    expect(frames).toBeLessThan(45);
    expect(found.drops.find((drop) => drop.code === "too-short")).toMatchObject({
      reason: `has ${frames} frames; it needs 45`,
      frames: 45,
      items: 1,
    });
  });

  it("keeps going over files that are none, each with its reason", async () => {
    const folder = path("mixed");
    await clip(join(folder, "good.mp4"), { frames: 9 });
    await picture(join(folder, "still.jpg"));
    await clip(join(folder, "deeper/clip.mp4"), { frames: 9 });
    await clip(join(folder, ".hidden.mp4"), { frames: 9 });
    writeFileSync(join(folder, "text.mp4"), "this is no film, whatever its name says\n".repeat(40));
    writeFileSync(join(folder, "empty.mp4"), "");
    writeFileSync(join(folder, "notes.pdf"), "…");
    writeFileSync(join(folder, "orphan.txt"), "a caption alone");
    symlinkSync(join(folder, "nowhere.mp4"), join(folder, "broken.mp4"));
    const found = await plan({ video_directory: folder, target_frames: [9] }, { resolution: [64, 64] });
    expect(names(found.items)).toEqual(["good.mp4"]);
    expect(Object.fromEntries(found.drops.map((drop) => [basename(drop.file), drop.code]))).toEqual({
      "broken.mp4": "missing",
      "empty.mp4": "unreadable",
      "text.mp4": "unreadable",
      "still.jpg": "other-kind",
      "notes.pdf": "not-media",
      deeper: "folder",
    });
    expect(found.datasets[0]!.orphanCaptions).toEqual(["orphan.txt"]);
    // Readable or not, a clip was asked for one item.
    expect(found.totals).toMatchObject({ files: 4, onPaper: 4, items: 1 });
  });

  it("too short for every length gives nothing, and an empty epoch is no error", async () => {
    const folder = path("short");
    await clips(folder, 1, { frames: 5 });
    const found = await plan({ video_directory: folder, target_frames: [21, 45], frame_extraction: "chunk" }, {});
    expect(found.items).toEqual([]);
    expect(found.drops.map(({ code, frames }) => [code, frames])).toEqual([
      ["too-short", 21],
      ["too-short", 45],
    ]);
    expect(found.totals).toMatchObject({ onPaper: undefined, items: 0, batches: 0 });
  });

  it("has odd names read as they are", async () => {
    const folder = path("names");
    const odd = ["with space.mp4", "\"quoted\" & 'so'.mp4", "новый 影片.mp4", "line\nbreak.mp4", "-dash.mp4", "%d.mp4"];
    for (const name of odd) await clip(join(folder, name), { frames: 5 });
    const found = await plan({ video_directory: folder, target_frames: [5] }, { resolution: [64, 64] });
    expect(new Set(names(found.items))).toEqual(new Set(odd));
    expect(new Set(found.items.map((item) => item.id)).size).toBe(odd.length);
  });

  it("that is missing, a file, or empty is an error with a hint", async () => {
    mkdirSync(path("nothing"));
    writeFileSync(path("file"), "x");
    await expect(plan({ video_directory: path("not-there") })).rejects.toMatchObject({ code: "dataset.no-folder" });
    await expect(plan({ video_directory: path("file") })).rejects.toMatchObject({ code: "dataset.no-folder" });
    await expect(plan({ video_directory: path("nothing") })).rejects.toMatchObject({ code: "dataset.empty" });
    await picture(path("pictures-only/a.jpg"));
    await expect(plan({ video_directory: path("pictures-only") })).rejects.toMatchObject({
      code: "dataset.empty",
      hint: "a.jpg: a picture; this dataset reads clips only",
    });
  });
});

describe("sizes", () => {
  it("follow the dataset's bucket settings and the model's step", async () => {
    const folder = path("sizes");
    await clip(join(folder, "small.mp4"), { frames: 1, width: 100, height: 50 });
    const bucket = async (table: Table, model?: string) => {
      const found = await plan(
        { video_directory: folder, target_frames: [1], ...table },
        { resolution: [160, 96] },
        model ? { model } : {},
      );
      const { width, height } = found.items[0]?.bucket ?? { width: 0, height: 0 };
      return `${width}x${height}`;
    };
    expect(await bucket({})).toBe("160x96");
    // A = 15,360, s = 123: widths 48…128 (< 139): 48×320 64×240 80×192 96×160 112×128(137→128) 128×112(120→112).
    // 2:1 lies nearest to 160×96 (1.667; 192×80 is 2.4).
    expect(await bucket({ enable_bucket: true })).toBe("160x96");
    // Musubi enlarges clips all the same.
    const noUpscale = { enable_bucket: true, bucket_no_upscale: true };
    expect(await bucket(noUpscale)).toBe("160x96");
    expect(await bucket({ ...noUpscale, clip_buckets: "as_written" })).toBe("96x48");
    // In steps of 32 without enlarging: 96×32.
    expect(await bucket({ ...noUpscale, clip_buckets: "as_written" }, "ti2v-5B")).toBe("96x32");
  });

  it("under one step are left out with a word", async () => {
    const folder = path("tiny");
    await picture(join(folder, "dot.png"), 1, 1);
    await picture(join(folder, "fine.png"), 64, 64);
    const found = await plan(
      { image_directory: folder, enable_bucket: true, bucket_no_upscale: true, num_repeats: 3 },
      { resolution: [64, 64] },
    );
    expect(names(found.items)).toEqual(["fine.png"]);
    expect(found.drops).toMatchObject([
      { code: "too-small", reason: "is 1×1; sides need at least 16 pixels", items: 3 },
    ]);
  });
});

describe("captions", () => {
  it("decide over images where an extension is given, as in musubi; clips stay and are remarked on", async () => {
    const folder = path("captions");
    await picture(join(folder, "a.jpg"));
    caption(join(folder, "a.jpg"), "\n  A caption.  \n");
    await picture(join(folder, "b.jpg"));
    await clip(join(folder, "c.mp4"), { frames: 1 });
    const asked = await plan({ image_directory: folder, caption_extension: ".txt" }, { resolution: [64, 64] });
    expect(names(asked.items)).toEqual(["a.jpg"]);
    expect(asked.items[0]!.caption.text).toBe("A caption.");
    expect(asked.drops.find((drop) => drop.code === "no-caption")).toMatchObject({ items: 1 });
    expect(asked.totals).toMatchObject({ files: 2, onPaper: 2, items: 1 });
    const unasked = await plan({ image_directory: folder }, { resolution: [64, 64] });
    expect(names(unasked.items)).toEqual(["a.jpg", "b.jpg"]);
    const film = await plan({ video_directory: folder, caption_extension: ".txt" }, { resolution: [64, 64] });
    expect(film.items.map((item) => item.caption.text)).toEqual([undefined]);
  });

  it("of another extension are found, and a byte order mark is taken off", async () => {
    const folder = path("other-extension");
    await picture(join(folder, "a.png"));
    writeFileSync(join(folder, "a.caption"), "\ufeffWith a mark.");
    const found = await plan({ image_directory: folder, caption_extension: ".caption" }, { resolution: [64, 64] });
    expect(found.items[0]!.caption.text).toBe("With a mark.");
  });
});

describe("rates", () => {
  it("with source_fps have frames skipped, and the item says which", async () => {
    const folder = path("fast");
    await clip(join(folder, "a.mp4"), { frames: 40, fps: 30 });
    const found = await plan(
      { video_directory: folder, target_frames: [9], frame_extraction: "uniform", frame_sample: 2, source_fps: 30 },
      { resolution: [64, 64] },
    );
    // 40 frames at 30 are ⌊39·16/30⌋ + 1 = 21 at 16; windows of 9 begin at 0 and 21 − 9 = 12.
    expect(found.items.map((item) => item.firstFrame)).toEqual([0, 12]);
    expect(found.items[1]).toMatchObject({
      fps: 16,
      rateChange: { sourceFps: 30, targetFps: 16, sourceFrames: 40 },
    });
    // Slot k is first reached by frame ⌈k·30/16⌉: 12 → 22.5 → 23, … 20 → 37.5 → 38. Slot 16 would be frame 30 exactly,
    // but thirty times 16/30 summed in float64 fall just short of 16, in musubi as here: frame 31.
    expect(sourceFrames(found.items[1]!)).toEqual([23, 25, 27, 29, 31, 32, 34, 36, 38]);
    const plain = await plan({ video_directory: folder, target_frames: [9] }, { resolution: [64, 64] });
    expect(sourceFrames(plain.items[0]!)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("with \"auto\" are each clip's own; nearly the model's rate counts as it", async () => {
    const folder = path("auto");
    await clip(join(folder, "fast.mp4"), { frames: 33, fps: 48 });
    await clip(join(folder, "slow.mp4"), { frames: 33, fps: 8 });
    await makeFilm(join(folder, "ntsc.mp4"), {
      graph: "testsrc2=s=64x64:r=24000/1001,trim=end_frame=33,format=yuv420p",
    });
    const lengths = async (model: string) => {
      const found = await finished(planDataset(folderConfig(folder), probeMedia, { model }));
      return found.items.map((item) => [basename(item.file), item.frames, item.rateChange?.sourceFps]);
    };
    // At 24: 33 of 48 fps are 17, 23.976 is 24, 8 keeps all. The 5B takes 64×64 in steps of 32.
    expect(await lengths("ti2v-5B")).toEqual([
      ["fast.mp4", 17, 48],
      ["ntsc.mp4", 33, undefined],
      ["slow.mp4", 33, undefined],
    ]);
  });
});

describe("a JSONL file", () => {
  const lines = (...values: unknown[]) => `${values.map((value) => JSON.stringify(value)).join("\n")}\n\n`;

  it("names files anywhere, beside itself too; a missing one is a drop, a doubled one counts twice", async () => {
    const folder = path("jsonl");
    await clip(join(folder, "one/a.mp4"), { frames: 9 });
    await clip(join(folder, "two/a.mp4"), { frames: 9 });
    writeFileSync(
      join(folder, "set.jsonl"),
      lines(
        { video_path: join(folder, "one/a.mp4"), caption: " first " },
        { video_path: "two/a.mp4", caption: "second" },
        { video_path: "two/a.mp4", caption: "again" },
        { video_path: "two/none.mp4", caption: "gone" },
      ),
    );
    const found = await plan(
      { video_jsonl_file: join(folder, "set.jsonl"), cache_directory: "c", target_frames: [9] },
      { resolution: [64, 64] },
    );
    expect(found.items.map((item) => [item.id, item.caption.text])).toEqual([
      ["1/one/a.mp4:0+9", "first"],
      ["1/two/a.mp4:0+9", "second"],
      ["1/two/a.mp4:0+9~2", "again"],
    ]);
    expect(found.drops).toMatchObject([{ code: "missing", items: 1 }]);
  });

  it("may name folders of frames", async () => {
    const folder = path("frames");
    for (let i = 0; i < 6; i++) await picture(join(folder, `shot/${String(i).padStart(4, "0")}.png`), 64, 48);
    writeFileSync(join(folder, "set.jsonl"), lines({ video_path: "shot", caption: "c" }));
    const found = await plan(
      { video_jsonl_file: join(folder, "set.jsonl"), target_frames: [5] },
      { resolution: [64, 48] },
    );
    expect(found.items).toMatchObject([
      { frameFolder: true, kind: "video", frames: 5, fps: undefined, facts: { height: 48 } },
    ]);
  });

  it("of pictures takes image_path_0 and a control, and warns of nothing", async () => {
    const folder = path("image-jsonl");
    await picture(join(folder, "a.jpg"));
    await picture(join(folder, "b.jpg"));
    writeFileSync(join(folder, "set.jsonl"), lines({ image_path_0: "a.jpg", caption: "c", control_path: "b.jpg" }));
    const found = await plan({ image_jsonl_file: join(folder, "set.jsonl") }, { resolution: [64, 64] });
    expect(found.items).toMatchObject([{ kind: "image", control: join(folder, "b.jpg"), caption: { text: "c" } }]);
  });

  it("with broken lines is refused with all their numbers", async () => {
    const content = `${JSON.stringify({ video_path: "a.mp4", caption: "c" })}\n{"video_path": "b.mp4",\n\n{"caption": "c"}\n[1]\n`;
    writeFileSync(path("broken.jsonl"), content);
    const failed = plan({ video_jsonl_file: path("broken.jsonl"), target_frames: [1] });
    await expect(failed).rejects.toMatchObject({ code: "dataset.jsonl" });
    await expect(failed).rejects.toThrow(/line 2: .*line 4: "video_path".*line 5/);
    await expect(plan({ image_jsonl_file: path("none.jsonl") })).rejects.toMatchObject({ code: "dataset.no-file" });
  });
});

describe("controls", () => {
  it("are found for clips by name, stem or folder, for pictures by the lowest number", async () => {
    const folder = path("controlled");
    for (const name of ["a", "a_1", "b", "c"]) await clip(join(folder, `clips/${name}.mp4`), { frames: 5 });
    await clip(join(folder, "control/a.mp4"), { frames: 5 });
    await clip(join(folder, "control/a_1.mov"), { frames: 5 });
    await picture(join(folder, "control/b/0.png"));
    await clip(join(folder, "control/c.mkv"), { frames: 5 });
    const found = await plan(
      { video_directory: join(folder, "clips"), control_directory: join(folder, "control"), target_frames: [5] },
      { resolution: [64, 64] },
    );
    expect(found.items.map((item) => basename(item.control!))).toEqual(["a.mp4", "a_1.mov", "b", "c.mkv"]);

    for (const name of ["p", "p_1"]) await picture(join(folder, `pictures/${name}.jpg`));
    for (const name of ["p_0000", "p_0002", "p_1"]) await picture(join(folder, `picture-control/${name}.png`));
    const images = { image_directory: join(folder, "pictures"), control_directory: join(folder, "picture-control") };
    const pictures = await plan(images, { resolution: [64, 64] });
    expect(pictures.items.map((item) => basename(item.control!))).toEqual(["p_0000.png", "p_1.png"]);
    rmSync(join(folder, "picture-control/p_1.png"));
    rmSync(join(folder, "picture-control/p_0000.png"));
    rmSync(join(folder, "picture-control/p_0002.png"));
    await expect(plan(images)).rejects.toMatchObject({ code: "dataset.no-control" });
  });
});

describe("Kinora's own form", () => {
  it("reads folders in folders, pictures and clips, once even where links go in circles", async () => {
    const folder = path("own");
    await clip(join(folder, "videos/a.mp4"), { frames: 9 });
    await picture(join(folder, "images/b.jpg"));
    symlinkSync(folder, join(folder, "videos/loop"));
    const found = await plan({ source: folder }, { resolution: [64, 64], model: "t2v-1.3B" });
    expect(found.model).toBe("t2v-1.3B");
    expect(found.items.map((item) => [item.id, item.kind, item.bucket])).toEqual([
      ["1/images/b.jpg:0+1", "image", { width: 64, height: 64, frames: 1 }],
      ["1/videos/a.mp4:0+9", "video", { width: 64, height: 64, frames: 9 }],
    ]);
    const images = await plan({ source: folder, media: "images" }, { resolution: [64, 64] });
    expect(names(images.items)).toEqual(["b.jpg"]);
  });

  it("takes whole clips up to the model's own length", async () => {
    const folder = path("long");
    await clip(join(folder, "a.mp4"), { frames: 100 });
    const found = await finished(planDataset(folderConfig(folder), probeMedia));
    expect(found.items[0]!.frames).toBe(81);
  });

  it("refuses models it does not know, naming the nearest", async () => {
    await expect(plan({ source: path("own") }, { model: "t2v-A14b" })).rejects.toMatchObject({
      code: "model.unknown",
      hint: "did you mean t2v-A14B?",
    });
  });
});

describe("planning", () => {
  it("looks into each file once, tells its progress, and can be stopped", async () => {
    const folder = path("events");
    await clips(folder, 6, { frames: 5 });
    const tables = [1, 2].map((n) => ({ video_directory: folder, cache_directory: `c${n}`, target_frames: [5] }));
    const probed: string[] = [];
    const probe = async (file: string) => {
      probed.push(file);
      return probeMedia(file);
    };
    const config = settleDatasetConfig({ datasets: tables });
    const events: string[] = [];
    const found = await finished(planDataset(config, probe), (event) => {
      events.push(event.type === "listed" ? `listed ${event.files}` : `${event.done} of ${event.files}`);
    });
    expect(found.items).toHaveLength(12);
    expect(probed.sort()).toEqual([...new Set(probed)].sort());
    expect(events).toEqual(["listed 6", "1 of 6", "2 of 6", "3 of 6", "4 of 6", "5 of 6", "6 of 6"]);
    const stop = new AbortController();
    const run = finished(planDataset(config, probe, { signal: stop.signal, concurrency: 1 }), (event) => {
      if (event.type === "probed") stop.abort();
    });
    await expect(run).rejects.toThrow(/abort/i);
  });

  it("gives the same plan every time", async () => {
    const folder = path("steady");
    await clips(folder, 4, { frames: 30 });
    linkSync(join(folder, "clip000.mp4"), join(folder, "Z.MP4"));
    copyFileSync(join(folder, "clip001.mp4"), join(folder, "é.mp4"));
    const run = () => plan({ video_directory: folder, target_frames: [5], frame_extraction: "slide", frame_stride: 7 });
    const [first, second] = [await run(), await run()];
    expect(first.items).toEqual(second.items);
    // By code point: capitals first, accents last.
    expect([...new Set(names(first.items))]).toEqual([
      ...["Z.MP4", "clip000.mp4", "clip001.mp4", "clip002.mp4", "clip003.mp4", "é.mp4"],
    ]);
  });
});

describe("numbers without measure", () => {
  it("of items are refused before they are laid out", async () => {
    const folder = path("repeated");
    for (let i = 0; i < 21; i++) await picture(join(folder, `${i}.png`), 16, 16);
    await expect(plan({ source: folder, num_repeats: 1_000_000 }, { resolution: [32, 32] })).rejects.toMatchObject({
      code: "dataset.too-many-items",
      actual: "21,000,000",
    });
  });

  it.each([{ resolution: [1e9, 1e9] }, { num_repeats: 1e12 }, { target_frames: [1e15] }, { batch_size: 1e9 }])(
    "in a configuration are errors: %j",
    (table) => {
      expect(() => settleDatasetConfig({ datasets: [{ source: "set", ...table }] })).toThrow(
        expect.objectContaining({ code: "dataset-config.invalid" }),
      );
    },
  );

  it("of pixels a sliver would be enlarged to are left out, with the reason", async () => {
    const folder = path("sliver");
    await picture(join(folder, "line.png"), 60_000, 16);
    await picture(join(folder, "usual.png"), 320, 240);
    const found = await plan({ image_directory: folder }, { resolution: [960, 544], enable_bucket: true });
    expect(names(found.items)).toEqual(["usual.png"]);
    expect(found.drops).toMatchObject([
      { code: "too-narrow", reason: expect.stringMatching(/^is 60000×16, far too narrow to enlarge to \d+×\d+$/) },
    ]);
  });
});
