// What clips of a set tell of one another and of their films: overlays under a still camera, the best of near-duplicates,
// light that flickers and is no fade, and stretches that are in no clip.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { measureNames } from "../../src/protocol/prepare-config.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { prepare } from "../support/prepared.ts";

const folder = temporaryFolder();
const at = (...parts: string[]) => join(folder, ...parts);

const config = {
  model: "t2v-A14B" as const,
  resolution: [480, 272] as [number, number],
  clips: { shortest: 1 },
  video: { preset: "ultrafast" as const },
};

/** A scene that stands still but for one thing that moves through it; `scale` says which. */
const stillScene = (scale: number, more = "") =>
  `mandelbrot=s=640x368:r=16:start_scale=${scale}:end_scale=${scale / 2}:end_pts=200:maxiter=300,trim=end_frame=1,loop=loop=60:size=1,trim=end_frame=48,noise=alls=3:allf=t,format=yuv420p[b];testsrc=s=80x80:r=16:d=3,format=yuv420p[f];[b][f]overlay=x='40+7*n':y=200${more}`;

const logo =
  ",drawbox=x=520:y=24:w=90:h=40:color=white:t=4,drawbox=x=536:y=36:w=24:h=14:color=black:t=fill,drawbox=x=572:y=34:w=6:h=20:color=white:t=fill";

const codes = (item: { reasons: { code: string }[] }) => item.reasons.map(({ code }) => code);

describe("an overlay under a camera that stands still", () => {
  beforeAll(async () => {
    for (const [name, scale] of [
      ["first", 0.3],
      ["second", 0.02],
    ] as const) {
      await makeFilm(at(`${name}.mkv`), { graph: stillScene(scale) });
      await makeFilm(at(`${name}-logo.mkv`), { graph: stillScene(scale, logo) });
    }
  });

  it("is unknown in one clip alone, and proven by another of the set with the same at the same spot", async () => {
    const alone = await prepare([at("first-logo.mkv")], at("alone"), config);
    expect(alone.items.get("first-logo")).toMatchObject({ verdict: "keep", measures: { overlay: { value: null } } });
    const both = await prepare([at("first-logo.mkv"), at("second-logo.mkv")], at("both"), config);
    for (const item of both.items.values()) expect(codes(item), item.id).toEqual(["overlay-high"]);
  });

  it("is not seen where scenes have nothing but their kind in common", async () => {
    const { items } = await prepare([at("first.mkv"), at("second.mkv"), at("second-logo.mkv")], at("none"), {
      ...config,
      duplicates: { detect: false },
    });
    for (const item of items.values()) expect(codes(item), item.id).toEqual([]);
  });

  it("makes its clip the worse of two that look alike", async () => {
    const { items } = await prepare([at("first-logo.mkv"), at("first.mkv")], at("twins"), config);
    expect(codes(items.get("first")!)).toEqual([]);
    expect(items.get("first-logo")!.reasons).toMatchObject([
      { code: "near-duplicate", message: expect.stringMatching(/^nearly the same as first /) },
    ]);
  });
});

describe("changing light", () => {
  const scene =
    "mandelbrot=s=320x180:r=16:start_scale=0.3:end_scale=0.1:end_pts=200:maxiter=200,trim=end=5,scroll=h=0.003";

  it.each([
    ["strong", "eq=brightness='0.12*(mod(n*7+3*floor(n/3),5)/2-1)':eval=frame"],
    ["pumping", "eq=gamma='exp(0.6*sin(2*PI*n/16*2.7))':eval=frame"],
    ["slow", "eq=gamma='exp(0.5*sin(2*PI*n/16*0.9))':eval=frame"],
  ])("is no fade: %s flicker stays one clip, dropped for what it is", async (name, filter) => {
    await makeFilm(at(`${name}.mkv`), { graph: `${scene},${filter},format=yuv420p` });
    const { items, manifest } = await prepare([at(`${name}.mkv`)], at(`${name}-set`), {
      ...config,
      resolution: [208, 112],
    });
    expect(manifest.sources[0]!.gaps).toBeUndefined();
    expect([...items.values()]).toMatchObject([{ frames: 80, verdict: "drop" }]);
    expect(codes(items.get(name)!).some((code) => /^(flicker|brightness-change)-high$/.test(code))).toBe(true);
  });

  it("of a fade to black is left out, and the manifest and the report say from when to when", async () => {
    await makeFilm(at("fades.mkv"), {
      graph: `${scene},fade=t=out:st=2:d=1.5,format=yuv420p`,
    });
    const { manifest, summary } = await prepare([at("fades.mkv")], at("fades-set"), {
      ...config,
      resolution: [208, 112],
      quality: Object.fromEntries(measureNames.map((name) => [name, false])),
    });
    const { gaps } = manifest.sources[0]!;
    expect(gaps!.map(({ code }) => code)).toEqual(["fade", "blank"]);
    // Every moment of the film is in an item or in a gap.
    const stretches = [...manifest.items, ...gaps!].sort((a, b) => a.in - b.in);
    let end = 0;
    for (const stretch of stretches) {
      expect(stretch.in).toBeCloseTo(end, 6);
      end = stretch.out;
    }
    expect(end).toBeCloseTo(5, 6);
    expect(readFileSync(summary.report, "utf8")).toContain("of fades and dissolves");
  });
});
