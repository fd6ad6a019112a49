// Every warning on a set that deserves it, and none on a set that is fine.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { settleDatasetConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { type DatasetWarning, planWarnings, type WarningOptions } from "../../src/dataset/warnings.ts";
import { loadTokenizer } from "../../src/io/tokenizer/load.ts";
import { makeFilm } from "../support/film.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { caption, clip, clips, picture, pictures } from "./dataset-files.ts";

const path = temporaryFolder();
type Table = Record<string, unknown>;

async function warnings(table: Table, general: Table = {}, options: WarningOptions = {}): Promise<DatasetWarning[]> {
  const config = settleDatasetConfig({ general: { resolution: [64, 64], ...general }, datasets: [table] });
  return planWarnings(await finished(planDataset(config, probeMedia)), options);
}
const codes = (list: readonly DatasetWarning[]) => list.map((warning) => warning.code);

describe("warnings", () => {
  it("are none for a set that is fine", async () => {
    const folder = path("fine");
    await clips(folder, 3, { frames: 30 });
    await pictures(folder, 2);
    expect(await warnings({ source: folder }, { trigger: "Studio Ghibli style" })).toEqual([]);
  });

  it("tell clips of the wrong rate, how wrong, and what to set", async () => {
    const folder = path("rates");
    await clip(join(folder, "a30.mp4"), { frames: 30, fps: 30 });
    await clip(join(folder, "b8.mp4"), { frames: 30, fps: 8 });
    await clip(join(folder, "c16.mp4"), { frames: 30 });
    for (const name of ["a30", "b8", "c16"]) caption(join(folder, `${name}.mp4`), "A clip.");
    const plain = await warnings({ video_directory: folder, target_frames: [21] });
    expect(codes(plain)).toEqual(["fps.wrong", "fps.wrong"]);
    expect(plain[0]!.message).toBe(
      "1 clip (a30.mp4) with 30 fps; t2v-A14B is trained at 16 fps, so motion will be learned 1.88× too slow",
    );
    expect(plain[0]!.hint).toContain("source_fps = 30.0");
    expect(plain[1]!.message).toContain("2.00× too fast");
    // One frame has no motion.
    expect(await warnings({ video_directory: folder, target_frames: [1] })).toEqual([]);
    // 30 is right for the first; the others are thinned although they are not that fast.
    const claimed = await warnings({ video_directory: folder, target_frames: [9], source_fps: 30 });
    expect(codes(claimed)).toEqual(["fps.claimed", "fps.claimed"]);
    expect(claimed.map((warning) => warning.files.length)).toEqual([1, 1]);
    const auto = await warnings({ source: folder, target_frames: [9], frame_extraction: "chunk" });
    expect(auto.map(({ code, files }) => [code, files.length])).toEqual([["fps.wrong", 1]]);
  });

  it("tell clips whose rate changes inside", async () => {
    const folder = path("variable");
    mkdirSync(folder);
    await makeFilm(join(folder, "a.mp4"), {
      // Every third frame is taken out: steps of 1/24 and 2/24, 16 a second on average.
      graph: "testsrc2=s=64x64:r=24,trim=end_frame=60,select='mod(n\\,3)',format=yuv420p",
    });
    caption(join(folder, "a.mp4"), "A clip.");
    const found = await warnings({ video_directory: folder, target_frames: [21] });
    expect(codes(found)).toEqual(["fps.variable", "bucket.single"]);
  });

  it("tell missing, empty, orphaned and long captions, and captions without the trigger", async () => {
    const folder = path("captions");
    const texts: Record<string, string | undefined> = {
      "fine.jpg": "ohwx man. Walks.",
      "missing.jpg": undefined,
      "empty.jpg": " \n",
      "without.jpg": "A man walks.",
      "late.jpg": "A man, ohwx man, walks.",
      "long.jpg": `ohwx man. ${"word ".repeat(600)}`,
    };
    for (const [name, text] of Object.entries(texts)) {
      await picture(join(folder, name));
      if (text !== undefined) caption(join(folder, name), text);
    }
    caption(join(folder, "orphan.jpg"), "Alone.");
    const found = await warnings({ image_directory: folder }, { trigger: "ohwx man" });
    expect(found.map(({ code, files }) => [code, files])).toEqual([
      ["caption.missing", ["missing.jpg"]],
      ["caption.empty", ["empty.jpg"]],
      ["caption.no-trigger", ["without.jpg"]],
      ["caption.trigger-late", ["late.jpg"]],
      ["caption.long", ["long.jpg"]],
      ["caption.orphan", ["orphan.txt"]],
    ]);
    expect(found[4]!.message).toContain("(estimated)");
    const exact = await warnings({ image_directory: folder }, {}, { countTokens: (text) => text.split(" ").length });
    expect(exact.find(({ code }) => code === "caption.long")!.message).not.toContain("estimate");
    const other = await warnings({ image_directory: folder }, {}, { countTokens: () => 512 });
    expect(codes(other)).not.toContain("caption.long");
  });

  test.skipIf(!sharedFolder)(
    `count tokens exactly with a tokenizer${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`,
    async () => {
      const tokenizer = await loadTokenizer(`${sharedFolder}golden/tokenizer.json`);
      const countTokens = (text: string) => tokenizer.encode(text).length;
      const folder = path("exact");
      let text = "a";
      while (countTokens(`${text} a`) <= 512) text += " a";
      await picture(join(folder, "fits.jpg"));
      caption(join(folder, "fits.jpg"), text);
      await picture(join(folder, "over.jpg"));
      caption(join(folder, "over.jpg"), `${text} a`);
      const found = await warnings({ image_directory: folder }, {}, { countTokens });
      expect(found.map(({ code, files }) => [code, files])).toEqual([["caption.long", ["over.jpg"]]]);
    },
  );

  it("tell still items in an image-to-video set, and only there", async () => {
    const folder = path("stills");
    await clips(folder, 2, { frames: 30 });
    await pictures(folder, 2);
    const still = (model: string, table: Table) => warnings({ source: folder, ...table }, { model });
    expect(codes(await still("i2v-A14B", {}))).toEqual(["i2v.still"]);
    expect((await still("i2v-A14B", { target_frames: [1, 21] }))[0]!.files).toHaveLength(4);
    expect(await still("i2v-A14B", { media: "videos" })).toEqual([]);
    expect(codes(await still("ti2v-5B", { media: "images" }))).toEqual([]);
  });

  it("tell buckets with a single item, large crops and enlarging", async () => {
    const folder = path("shapes");
    await clips(folder, 3, { frames: 9 }, { 2: { frames: 9, width: 32, height: 128 } });
    const buckets = await warnings({ video_directory: folder, target_frames: [9], enable_bucket: true, batch_size: 2 });
    expect(codes(buckets)).toEqual(["bucket.single"]);
    expect(buckets[0]!.message).toBe("1 bucket with a single item: 32×128×9 clip002.mp4");
    const none = await warnings({ video_directory: folder, clip_buckets: "as_written", target_frames: [9] });
    // 32×128 covers 64×64 at twice its size and keeps a quarter... of 64×256: 64 rows of 256.
    expect(codes(none)).toEqual(["crop.large", "size.enlarged"]);
    expect(none[0]!.message).toContain("up to 75 %");
    expect(none[0]!.hint).toContain("enable_bucket = true");
  });

  it("tell a dataset that gives nothing", async () => {
    const folder = path("nothing");
    await clips(folder, 2, { frames: 9 });
    const found = await warnings({ video_directory: folder, target_frames: [21, 45] });
    expect(found).toMatchObject([
      { code: "items.none", hint: "every clip is shorter than 21 frames: lower target_frames" },
    ]);
  });

  it("tell when a set is small for its goal", async () => {
    const folder = path("goal");
    await clips(folder, 30, { frames: 5 });
    const of = async (goal: string, table: Table = {}) => {
      const found = await warnings({ source: folder, target_frames: [5], ...table }, { goal });
      return found.map((warning) => warning.message);
    };
    expect(await of("character")).toEqual([]);
    expect(await of("style")).toEqual(["0 images and 30 clips are few for a style set; 200–300 clips are recommended"]);
    expect(await of("motion")).toEqual([
      "0 images and 30 clips are few for a motion set; 300–500 clips are recommended",
    ]);
    expect(await of("domain")).toEqual([
      "0 images and 30 clips are few for a domain set; 400–600 clips are recommended",
    ]);
    const few = path("goal-few");
    await clips(few, 29, { frames: 5 });
    expect(await of("character", { source: few })).toEqual([
      "0 images and 29 clips are few for a character set; 150–200 images or 30–50 clips are recommended",
    ]);
  });
});
