// A published LoRA's set: 120 images, 240 clips by head [1, 21], the same clips by uniform [45] ×2: 1,080 nominal items,
// 1,078 in fact, and nobody knew why. Real files, through the command line.
//
// Derivation. Images 120·1; head gives each clip an item of 1 and one of 21 frames: 240·2 = 480; uniform gives each two
// windows of 45: 240·2 = 480. Sum 1,080. Two items can be missing in two ways under musubi's rules:
// - a clip with fewer than 45 frames gives no window of 45 at all (`if frame_count >= target_frame`): 2 items less;
// - a clip with exactly 45 frames gives both windows at frame 0 (linspace(0, 0, 2)); they share one cache file, so the
//   epoch holds one: 1 item less.
// So two clips of exactly 45 frames, or one clip of fewer, make 1,078; two clips of fewer make 1,076.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { type ClipShape, clips, pictures } from "./dataset-files.ts";

const path = temporaryFolder();

async function inspect(...words: string[]): Promise<{ code: number; text: string }> {
  let text = "";
  const data = (part: string) => {
    text += part;
  };
  const out = { data, note: () => {}, progress: () => {} };
  return { code: await main(["dataset", "inspect", ...words], out), text };
}

async function published(name: string, odd: Record<number, ClipShape>): Promise<string> {
  const folder = path(name);
  await pictures(join(folder, "images"), 120);
  await clips(join(folder, "clips"), 240, { frames: 50 }, odd);
  const config = join(folder, "set.toml");
  writeFileSync(
    config,
    `
[general]
resolution = [64, 64]
caption_extension = ".txt"
enable_bucket = true

[[datasets]]
image_directory = "${folder}/images"
cache_directory = "${folder}/cache/images"

[[datasets]]
video_directory = "${folder}/clips"
cache_directory = "${folder}/cache/head"
target_frames = [1, 21]
frame_extraction = "head"

[[datasets]]
video_directory = "${folder}/clips"
cache_directory = "${folder}/cache/uniform"
target_frames = [45]
frame_extraction = "uniform"
frame_sample = 2
`,
  );
  return config;
}

describe("the published case", () => {
  it("has 1,078 items where two clips have exactly 45 frames, and names the two", async () => {
    const config = await published("exactly", { 17: { frames: 45 }, 201: { frames: 45 } });
    const html = path("page.html");
    const { code, text } = await inspect(config, "--html", html);
    expect(code).toBe(0);
    expect(text).toContain("1,080 nominal items − 2 = 1,078 items in 1,078 batches per epoch");
    const told = "has 45 frames: the 2 windows of 45 are one and the same (−1 item)";
    expect(text).toContain(`clip017.mp4: ${told}`);
    expect(text).toContain(`clip201.mp4: ${told}`);
    expect(text.match(/\(−/g)).toHaveLength(2);
    expect(text).toContain("240 files → 478 items (480 nominal), 478 batches");
  });

  it("has 1,078 where one clip has fewer, and 1,076 where two have: a short clip loses both its windows", async () => {
    const config = await published("fewer", { 17: { frames: 44 } });
    const { text } = await inspect(config, "--summary");
    expect(text).toContain("1,080 nominal items − 2 = 1,078 items in 1,078 batches per epoch");
    expect(text).toContain("dataset 3  clip017.mp4: has 44 frames; it needs 45 (−2 items)");
    expect(text).toContain("1 file yielded no item: clip017.mp4");
    await clips(join(config, "../clips"), 1, { frames: 30 });
    const { text: json } = await inspect(config, "--json");
    const data = JSON.parse(json);
    expect(data.totals).toEqual({ files: 600, onPaper: 1080, items: 1076, batches: 1076 });
    expect(data.withoutItems.map((file: { name: string }) => file.name)).toEqual(["clip000.mp4", "clip017.mp4"]);
    expect(data.items).toHaveLength(1076);
    expect(data.batches).toHaveLength(1076);
  });
});
