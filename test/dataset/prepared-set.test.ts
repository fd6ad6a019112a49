// Planning a folder that was prepared: written files taken by the manifest's word, items in place by their cut.
import { appendFileSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { folderConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import { inspection } from "../../src/dataset/inspection.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { planWarnings } from "../../src/dataset/warnings.ts";
import type { DatasetManifest, ManifestItem } from "../../src/protocol/dataset-manifest.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { caption, clip, picture } from "./dataset-files.ts";

const path = temporaryFolder();

const item = (id: string, more: Partial<ManifestItem>): ManifestItem => ({
  id,
  kind: "video",
  source: 0,
  in: 0,
  out: 2,
  frames: 33,
  measures: {},
  verdict: "keep",
  reasons: [],
  ...more,
});

function manifest(folder: string, more: Partial<DatasetManifest>): void {
  const whole: DatasetManifest = {
    kind: "kinora.dataset",
    version: 1,
    model: "t2v-1.3B",
    fps: 16,
    sizeMultiple: 16,
    inPlace: false,
    settings: { resolution: [128, 96] },
    sources: [{ path: "film.mp4", kind: "video", bytes: 1, width: 256, height: 192 }],
    items: [],
    ...more,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(whole));
}

/** Plans a folder and tells which files had to be looked into. */
async function planned(folder: string) {
  const probed: string[] = [];
  const plan = await finished(
    planDataset(folderConfig(folder), (file) => {
      probed.push(file);
      return probeMedia(file);
    }),
  );
  return { plan, probed };
}

describe("a prepared set", () => {
  it("is planned for its model and size from the manifest alone; a file changed since is looked into", async () => {
    const folder = path("written");
    await clip(join(folder, "videos/film-0.mp4"), { frames: 33, width: 128, height: 96 });
    await clip(join(folder, "videos/film-1.mp4"), { frames: 33, width: 128, height: 96 });
    await picture(join(folder, "images/still.jpg"), 96, 128);
    caption(join(folder, "videos/film-0.mp4"), "Zero.");
    caption(join(folder, "images/still.jpg"), "Still.");
    mkdirSync(join(folder, "captions"));
    writeFileSync(join(folder, "captions/film-1.txt"), "One.");
    writeFileSync(join(folder, "videos/film-1.draft.txt"), "A draft.");
    writeFileSync(join(folder, "report.html"), "<p>report</p>");
    const bytes = (file: string) => statSync(join(folder, file)).size;
    const size = { width: 128, height: 96 };
    manifest(folder, {
      items: [
        item("film-0", { file: "videos/film-0.mp4", bytes: bytes("videos/film-0.mp4"), size }),
        item("film-1", { file: "videos/film-1.mp4", bytes: bytes("videos/film-1.mp4"), size }),
        item("film-2", { verdict: "drop", reasons: [{ code: "sharpness-low", message: "blurred" }] }),
        item("still", {
          kind: "image",
          frames: 1,
          file: "images/still.jpg",
          bytes: bytes("images/still.jpg"),
          size: { width: 96, height: 128 },
        }),
      ],
    });
    const { plan, probed } = await planned(folder);
    expect(probed).toEqual([]);
    expect(plan.model).toBe("t2v-1.3B");
    expect(plan.items.map(({ id, bucket, caption: told, fps }) => [id, bucket, told.text, fps])).toEqual([
      ["1/images/still.jpg:0+1", { width: 96, height: 128, frames: 1 }, "Still.", undefined],
      ["1/videos/film-0.mp4:0+33", { width: 128, height: 96, frames: 33 }, "Zero.", 16],
      ["1/videos/film-1.mp4:0+33", { width: 128, height: 96, frames: 33 }, "One.", 16],
    ]);
    expect(plan.datasets[0]!.section.resolution).toEqual([128, 96]);
    expect(plan.drops).toEqual([]);
    expect(planWarnings(plan).map((warning) => warning.code)).toEqual(["bucket.single"]);
    appendFileSync(join(folder, "videos/film-0.mp4"), "more");
    expect((await planned(folder)).probed).toEqual([join(folder, "videos/film-0.mp4")]);
  });

  it("in place gives the parts of the originals, several of one film", async () => {
    const folder = path("in-place");
    const crop = { x: 32, y: 0, width: 192, height: 192 };
    mkdirSync(join(folder, "videos"), { recursive: true });
    mkdirSync(path("originals"));
    // Not looked into: the manifest has told what it holds.
    writeFileSync(path("originals/film.mkv"), "a film of 13 bytes".slice(0, 13));
    writeFileSync(join(folder, "videos/film-0.txt"), "Zero.");
    manifest(folder, {
      inPlace: true,
      sources: ["film.mkv", "gone.mkv"].map((name) => ({
        path: `../originals/${name}`,
        kind: "video" as const,
        bytes: 13,
        width: 256,
        height: 192,
        fps: 24,
      })),
      items: [
        item("film-0", { in: 1.5, out: 2.5, frames: 16 }),
        item("film-1", { in: 2.5, out: 4.5, frames: 32, crop }),
        item("film-2", { verdict: "drop", frames: 99 }),
        item("gone-0", { source: 1 }),
      ],
    });
    const { plan, probed } = await planned(folder);
    expect(probed).toEqual([]);
    expect(plan.drops).toMatchObject([{ name: "videos/gone-0", code: "missing", items: 1 }]);
    expect(plan.totals).toMatchObject({ files: 3, onPaper: 3, items: 2 });
    expect(plan.items).toMatchObject([
      {
        id: "1/videos/film-0:0+13",
        file: path("originals/film.mkv"),
        cut: { in: 1.5, out: 2.5, fps: 16 },
        bucket: { width: 128, height: 96 },
        rateChange: undefined,
        caption: { text: "Zero." },
      },
      {
        id: "1/videos/film-1:0+29",
        cut: { in: 2.5, out: 4.5, crop },
        facts: { width: 192, height: 192, frames: 32 },
        // 128×96: s = 110, widths 48…112, of which 112 → 109 → 96; to a square 96×112 (0.857) is nearer than 112×96 (1.167).
        bucket: { width: 96, height: 112 },
        caption: { text: undefined },
      },
    ]);
    const warnings = planWarnings(plan);
    expect(warnings.find((warning) => warning.code === "caption.missing")!.files).toEqual(["videos/film-1"]);
    expect(inspection(plan, warnings).items[1]!.cut).toEqual({ in: 2.5, out: 4.5, fps: 16, crop });
    appendFileSync(path("originals/film.mkv"), "more");
    await expect(planned(folder)).rejects.toMatchObject({
      code: "dataset.empty",
      hint: expect.stringContaining("has changed since the set was prepared"),
    });
  });

  it("with a manifest of another version is refused, and one of another program is no manifest", async () => {
    const folder = path("bad");
    manifest(folder, { version: 2 as never });
    await expect(planned(folder)).rejects.toMatchObject({ code: "dataset.bad-manifest" });
    writeFileSync(join(folder, "manifest.json"), '{"name": "something else"}');
    await picture(join(folder, "a.jpg"), 832, 480);
    const { plan } = await planned(folder);
    expect(plan.model).toBe("t2v-A14B");
    expect(plan.items[0]!.bucket).toEqual({ width: 832, height: 480, frames: 1 });
  });
});
