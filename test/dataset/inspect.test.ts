// `kinora dataset inspect` itself: text, JSON, the page, and errors a person can act on.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { main } from "../../src/cli/main.ts";
import { sharedFolder, whySkipped } from "../support/shared-folder.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { caption, clip, clips, picture } from "./dataset-files.ts";

const path = temporaryFolder();

async function inspect(...words: string[]) {
  const said = { text: "", notes: "" };
  const code = await main(["dataset", "inspect", ...words], {
    data: (part) => {
      said.text += `${part}\n`;
    },
    note: (part) => {
      said.notes += `${part}\n`;
    },
    progress: () => {},
  });
  return { code, ...said };
}

function config(name: string, content: string): string {
  writeFileSync(path(name), content);
  return path(name);
}

describe("kinora dataset inspect", () => {
  it("prints items, batches, totals, drops and warnings", async () => {
    const folder = path("set");
    await clips(folder, 3, { frames: 30, width: 128, height: 64 }, { 2: { frames: 9 } });
    const file = config(
      "set.toml",
      `
[general]
resolution = [96, 64]
enable_bucket = true
batch_size = 2
num_repeats = 2
[[datasets]]
video_directory = "${folder}"
target_frames = [1, 21]
`,
    );
    const { code, text } = await inspect(file);
    expect(code).toBe(0);
    // 96×64: s = 78, widths 32…93: 32×192 48×128 64×96 80×64(76) and across; 2:1 is nearest to 96×64 (1.5), as 128×48 is 2.67.
    // Cover 96×64 from 128×64: the height fits, 32 columns go, 16 a side.
    expect(text).toContain("clip000.mp4  frames 0–20 (21)  16 fps  128x64  crop 96x64+16+0  96x64x21");
    expect(text).toContain("clip000.mp4  frame 0           16 fps  128x64  crop 96x64+16+0  96x64x1 ");
    // 1:1 is 64×80 (0.8) or 80×64 (1.25): the former is nearer.
    expect(text).toContain("clip002.mp4: has 9 frames; it needs 21 (−2 items)");
    expect(text).toMatch(/3 files → 10 items \(12 nominal\), 5 batches, 90 frames/);
    // Three buckets: two clips ×2 of 1 frame, one ×2 in another shape, two ×2 of 21 frames.
    expect(text).toMatch(/\n {2}1 {2}dataset 1 {2}\S+ +1\/clip\S+:0\+1 {2}1\/clip/);
    expect(text).toMatch(/12 nominal items − 2 = 10 items in 5 batches per epoch\n$/);
    expect((await inspect(file, "--summary")).text).not.toContain("frames 0–20");
  });

  it("writes everything as JSON, for the model asked for", async () => {
    const folder = path("json");
    await clip(join(folder, "a.mp4"), { frames: 30, width: 128, height: 64 });
    caption(join(folder, "a.mp4"), "A caption.");
    const { code, text } = await inspect(folder, "--json", "--model", "ti2v-5B");
    expect(code).toBe(0);
    const data = JSON.parse(text);
    expect(data).toMatchObject({ model: "ti2v-5B", fps: 24, sizeMultiple: 32, totals: { files: 1, items: 1 } });
    expect(data.items[0]).toMatchObject({
      id: "1/a.mp4:0+29",
      name: "a.mp4",
      firstFrame: 0,
      frames: 29,
      sourceRange: [0, 28],
      fps: 16,
      source: { width: 128, height: 64 },
      bucket: { width: 128, height: 64, frames: 29 },
      crop: { x: 0, y: 0, width: 128, height: 64, scale: 1, lost: 0 },
      caption: "A caption.",
      repeats: 1,
    });
    expect(data.warnings.map((warning: { code: string }) => warning.code)).toEqual(["fps.wrong", "bucket.single"]);
    expect(data.batches).toEqual([{ dataset: 1, width: 128, height: 64, frames: 29, items: ["1/a.mp4:0+29"] }]);
  });

  it("writes a page that needs nothing else and trusts no name", async () => {
    const folder = path("page");
    const name = "<img src=x onerror=alert(1)> & 'more'.jpg";
    await picture(join(folder, name));
    caption(join(folder, name), '<script>alert("caption")</script>');
    await picture(join(folder, "plain.jpg"));
    writeFileSync(join(folder, "notes.md"), "x");
    const page = path("page.html");
    const { code, notes } = await inspect(folder, "--html", page);
    expect(code).toBe(0);
    expect(notes).toContain(page);
    const html = readFileSync(page, "utf8");
    expect(html).toMatch(/^<!doctype html>/);
    expect(html).not.toMatch(/https?:\/\/|<link|src="/);
    expect(html).toContain("&lt;img src=x onerror=alert(1)&gt; &amp; &#39;more&#39;.jpg");
    expect(html.match(/<img|<script>/g)).toEqual(["<script>"]);
    expect(html).toContain("plain.jpg");
    expect(html).toContain("notes.md");
    expect(html).toContain("1 file (plain.jpg) without a caption");
  });

  it("ends with a code and a hint on what cannot be", async () => {
    const unknown = config("unknown.toml", '[[datasets]]\nvideo_directory = "/a"\ntarget_frame = [1]\n');
    expect(await inspect(unknown)).toMatchObject({
      code: 1,
      text: "",
      notes: expect.stringMatching(
        /error dataset-config\.unknown-key: .*"target_frame".*\nhint: did you mean target_frames\?/,
      ),
    });
    const broken = config("broken.toml", "[general]\nresolution = [960,\n[[datasets]]\n");
    expect((await inspect(broken)).notes).toMatch(/dataset-config\.syntax: .*broken\.toml, line 3/);
    const missing = config("missing.toml", '[[datasets]]\nvideo_directory = "/not/there"\n');
    expect((await inspect(missing)).notes).toMatch(/error dataset\.no-folder: .*"\/not\/there".*\nhint: /);
    mkdirSync(path("empty"));
    expect((await inspect(path("empty"))).notes).toMatch(/error dataset\.empty/);
    expect((await inspect(path("none.toml"))).notes).toMatch(/error dataset-config\.unreadable/);
    expect((await inspect()).notes).toMatch(/error cli\.bad-arguments/);
    expect(JSON.parse((await inspect(unknown, "--json")).text).error.code).toBe("dataset-config.unknown-key");
    const there = path("set");
    expect((await inspect(there, "--tokenizer", path("no-tokenizer"))).notes).toMatch(/error tokenizer\.not-found/);
  });

  it("takes paths from the working folder, and from the configuration's own where nothing is there", async () => {
    const folder = path("beside");
    await clip(join(folder, "clips/a.mp4"), { frames: 1 });
    writeFileSync(join(folder, "set.toml"), '[[datasets]]\nvideo_directory = "clips"\ntarget_frames = [1]\n');
    expect(existsSync("clips")).toBe(false);
    const { code, text } = await inspect(join(folder, "set.toml"), "--json");
    expect(code).toBe(0);
    expect(JSON.parse(text).items[0].file).toBe(join(folder, "clips/a.mp4"));
  });

  test.skipIf(!sharedFolder)(
    `of real clips says their true rates and lengths${sharedFolder ? "" : ` (skipped: ${whySkipped})`}`,
    async () => {
      const { text } = await inspect(`${sharedFolder}media`, "--json");
      const data = JSON.parse(text);
      const found = Object.fromEntries(
        data.items.map((item: { name: string; frames: number; sourceRange: number[]; skipped?: { from: number } }) => [
          item.name,
          [item.frames, item.sourceRange[1]! + 1, item.skipped?.from],
        ]),
      );
      // All but the 16 fps clips are thinned to 16; 120 frames at 30 are 64, floored to 61.
      expect(found["press-clay.mp4"]).toEqual([81, 81, undefined]);
      expect(found["dance-skeleton.mp4"]?.[0]).toBe(81);
      expect(found["motorcycle-4k.mp4"]?.[0]).toBe(61);
      expect(found["portrait.jpeg"]?.[0]).toBe(1);
      expect(data.warnings.map((warning: { code: string }) => warning.code)).toContain("caption.missing");
    },
  );
});
