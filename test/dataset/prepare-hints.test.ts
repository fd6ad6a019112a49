// What a newcomer is told on the way: how much of the clips will train, the trigger phrase for captions that came along,
// what training refuses, and a report that shows captions.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { prepareHints } from "../../src/dataset/prepare/hints.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { prepare, quick } from "../support/prepared.ts";
import { clip, picture } from "./dataset-files.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const sources = at("sources");

/** Runs a command in this process. */
async function kinora(...argv: string[]): Promise<{ code: number; data: string; notes: string; progress: string[] }> {
  const said = { data: "", notes: "", progress: [] as string[] };
  const code = await main(argv, {
    data: (text) => {
      said.data += `${text}\n`;
    },
    note: (text) => {
      said.notes += `${text}\n`;
    },
    progress: (text) => void said.progress.push(text),
  });
  return { code, ...said };
}

beforeAll(async () => {
  mkdirSync(sources);
  const graph =
    "mandelbrot=s=320x180:r=16:start_scale=0.25:end_scale=0.05:end_pts=300:maxiter=200,trim=end=9,scroll=h=0.003,format=yuv420p";
  await makeFilm(join(sources, "long.mp4"), { graph });
  writeFileSync(join(sources, "long.txt"), "Colours <b>turn</b> around a point.\n");
}, 120_000);

describe("hints of a preparation", () => {
  const settings = { fps: 16, trigger: undefined };
  const clips = (...frames: number[]) => frames.map((count) => ({ kind: "video" as const, frames: count }));

  it("say where training takes a small part of long clips, and how to change that", () => {
    const [hint, ...more] = prepareHints(clips(160, 160), { taken: 0, frames: 81, settings });
    expect(more).toEqual([]);
    expect(hint).toMatch(
      /^by default training uses only the first 81 frames \(5\.1 s\) of each clip, 10\.1 of the 20\.0 s/,
    );
    expect(hint).toContain("`clips.longest` 5.0625 ");
    expect(hint).toContain('frame_extraction = "chunk"');
    expect(prepareHints(clips(81, 85, 100), { taken: 0, frames: 81, settings })).toEqual([]);
    expect(prepareHints([{ kind: "image", frames: 1 }], { taken: 0, frames: 81, settings })).toEqual([]);
  });

  it("offer a trigger phrase where captions came along without one", async () => {
    const { summary } = await prepare([sources], at("offered"), quick);
    expect(summary.hints).toEqual([
      expect.stringContaining("by default training uses only the first 81 frames"),
      expect.stringMatching(/^1 caption came with the sources: `trigger` "PHRASE"/),
    ]);
    // Once: the next time they are there.
    expect((await prepare([sources], at("offered"), quick)).summary.hints).toHaveLength(1);
  });
});

describe("--trigger", () => {
  const caption = (out: string) => readFileSync(join(out, "videos/long.txt"), "utf8");

  it("begins captions that came along with the phrase, now or later, and leaves edited ones alone", async () => {
    const out = at("triggered");
    await prepare([sources], out, { ...quick, captions_folder: true });
    expect(caption(out)).toBe("Colours <b>turn</b> around a point.\n");
    const { summary } = await prepare([sources], out, { ...quick, captions_folder: true, trigger: "Fractal look" });
    expect(caption(out)).toBe("Fractal look. Colours <b>turn</b> around a point.\n");
    expect(readFileSync(join(out, "captions/long.txt"), "utf8")).toBe(caption(out));
    expect(summary.work).toMatchObject({ analysed: 0, rendered: 0 });
    expect(summary.hints.join()).not.toContain("trigger");
    // A caption that begins with it already gets it once.
    const again = await prepare([sources], out, { ...quick, captions_folder: true, trigger: "Fractal look" });
    expect(again.summary.work).toEqual({ analysed: 0, rendered: 0, written: 0 });
    writeFileSync(join(out, "videos/long.txt"), "By hand.\n");
    await prepare([sources], out, { ...quick, captions_folder: true, trigger: "Another look" });
    expect(caption(out)).toBe("By hand.\n");
  });

  it("is one line of text", async () => {
    await expect(prepare([sources], at("lines"), { ...quick, trigger: "a\nb" })).rejects.toMatchObject({
      code: "prepare-config.invalid",
    });
  });
});

describe("the report", () => {
  it("shows captions, harmless, beside the pictures, and no empty sections", async () => {
    const { summary } = await prepare([sources], at("reported"), quick);
    const page = readFileSync(summary.report, "utf8");
    expect(page).toContain('<p class="caption">Colours &lt;b&gt;turn&lt;/b&gt; around a point.</p>');
    expect(page).toMatch(/<img loading="lazy"[^>]+src="data:image\/jpeg;base64,/);
    expect(page).not.toMatch(/class="tile"><b>0<|<h2>Dropped|\(0\)/);
  });
});

describe("the command line", () => {
  it("prints no empty rows, and progress that never goes back", async () => {
    writeFileSync(at("settings.toml"), 'resolution = [208, 112]\n[video]\npreset = "ultrafast"\n');
    const words = ["dataset", "prepare", sources, "--out", at("printed"), "--model", "t2v-1.3B"];
    const { code, data, notes, progress } = await kinora(...words, "--config", at("settings.toml"));
    expect(code).toBe(0);
    expect(notes).toMatch(/^1 film$/m);
    expect(data).toMatch(/^kept 1 clip \(9 s\)$/m);
    expect(data).not.toMatch(/\b0 (clips|pictures|films)|dropped 0/);
    const shares = progress.flatMap((line) => /^ *(\d+) %/.exec(line)?.[1] ?? []).map(Number);
    expect(shares.length).toBeGreaterThan(0);
    expect([...shares].sort((a, b) => a - b)).toEqual(shares);
  }, 120_000);

  it("inspect says what training refuses", async () => {
    const silent = at("silent");
    await clip(join(silent, "a.mp4"), { frames: 9 });
    await picture(join(silent, "b.png"));
    const { data } = await kinora("dataset", "inspect", silent);
    expect(data).toMatch(
      /this dataset cannot be trained\n {2}2 of the dataset's files have no caption; got a\.mp4, b\.png/,
    );
    const short = at("short.toml");
    writeFileSync(short, `[[datasets]]\nvideo_directory = ${JSON.stringify(silent)}\ntarget_frames = [81]\n`);
    const { refusals } = JSON.parse((await kinora("dataset", "inspect", short, "--json")).data);
    expect(refusals).toMatchObject([
      { code: "train.no-items", message: expect.stringContaining("has 9 frames; it needs 81") },
    ]);
    const page = at("page.html");
    await kinora("dataset", "inspect", short, "--html", page);
    expect(readFileSync(page, "utf8")).toContain("Training refuses this dataset");
    writeFileSync(join(silent, "a.txt"), "A clip.");
    writeFileSync(join(silent, "b.txt"), "");
    expect((await kinora("dataset", "inspect", silent)).data).not.toContain("training refuses");
  });

  it("inspect says where a small part of the clips trains", async () => {
    const place = at("headed");
    for (let i = 0; i < 3; i++) {
      await clip(join(place, `${i}.mp4`), { frames: 160, width: 32, height: 32 });
      writeFileSync(join(place, `${i}.txt`), "A clip.");
    }
    const config = at("head.toml");
    const write = (more: string) =>
      writeFileSync(config, `[[datasets]]\nsource = ${JSON.stringify(place)}\ntarget_frames = [33]\n${more}\n`);
    const codes = async () =>
      JSON.parse((await kinora("dataset", "inspect", config, "--json")).data).warnings.map(
        ({ code }: { code: string }) => code,
      );
    write("");
    expect(await codes()).toContain("clips.partly-used");
    expect((await kinora("dataset", "inspect", config)).data).toMatch(
      /21 % of the clips' frames are trained on: frame_extraction head takes 33 frames \(2\.1 s\) of clips of 160 on average/,
    );
    write('frame_extraction = "chunk"');
    expect(await codes()).not.toContain("clips.partly-used");
  });
});
