// Films that would lose content without a word: joined recordings, palettes, sources that give nothing.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { encodeImage } from "../../src/io/image/write.ts";
import { measureNames } from "../../src/protocol/prepare-config.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { makeHeic } from "../support/heic.ts";
import { prepare, quick } from "../support/prepared.ts";

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

/** Everything is kept, so that the items show what was read. */
const everything = {
  ...quick,
  quality: Object.fromEntries(measureNames.map((name) => [name, false as const])),
  duplicates: { detect: false },
};

const fractal = (seconds: number, scale: number) =>
  `mandelbrot=s=320x180:r=16:start_scale=${scale}:end_scale=${scale / 4}:end_pts=200:maxiter=200,trim=end=${seconds},scroll=h=0.003,format=yuv420p`;

describe("a film of joined recordings", () => {
  it("is used whole where they can be read one after the other, and the manifest says so", async () => {
    for (const [name, scale] of [
      ["a.ts", 0.3],
      ["b.ts", 0.02],
    ] as const)
      await makeFilm(at(name), { graph: fractal(name === "a.ts" ? 2 : 3, scale), encoder: "mpeg2video" });
    writeFileSync(at("joined.ts"), Buffer.concat(["a.ts", "b.ts"].map((name) => readFileSync(at(name)))));
    const { manifest, problems } = await prepare([at("joined.ts")], at("joined"), everything);
    const kept = manifest.items.filter(({ verdict }) => verdict === "keep");
    expect(kept.reduce((sum, item) => sum + item.out - item.in, 0)).toBeCloseTo(5, 1);
    const [source] = manifest.sources;
    expect(source).toMatchObject({ duration: 5, notes: [{ code: "media.joined" }] });
    expect(source!.notes![0]!.message).toBe("its timestamps jump at 1 place; the parts are read in sequence");
    expect(problems).toEqual([]);
  });

  it("is told where only the first can be read", async () => {
    await makeFilm(at("one.mp4"), { graph: fractal(2, 0.3) });
    writeFileSync(at("two.mp4"), Buffer.concat([readFileSync(at("one.mp4")), readFileSync(at("one.mp4"))]));
    const { manifest, problems, summary } = await prepare([at("two.mp4")], at("two"), everything);
    expect(summary.videos).toBe(1);
    const reason = { code: "media.partial", message: "contains more videos after the first, which are ignored" };
    expect(problems).toMatchObject([reason]);
    expect(manifest.sources[0]!.notes).toEqual([reason]);
    expect(readFileSync(summary.report, "utf8")).toContain(reason.message);
  });
});

describe("a film with a palette", () => {
  it("keeps its colours", async () => {
    const graph = `${fractal(2, 0.3)},split[a][b];[a]palettegen[p];[b][p]paletteuse`;
    await makeFilm(at("palette.avi"), { graph, encoder: "rawvideo" });
    const { summary, manifest } = await prepare([at("palette.avi")], at("palette"), everything);
    expect(summary.videos).toBe(1);
    expect(manifest.items[0]!.measures.brightness!.value).toBeGreaterThan(5);
  });
});

describe("a source that gives nothing", () => {
  it.each([
    [
      "black",
      "color=black:s=320x180:r=16,trim=end=3",
      "contains no scene: 3.0 s of a single colour, near black or white",
    ],
    [
      "white",
      "color=white:s=320x180:r=16,trim=end=2",
      "contains no scene: 2.0 s of a single colour, near black or white",
    ],
  ])("has a reason: %s", async (name, graph, message) => {
    await makeFilm(at(`${name}.mp4`), { graph: `${graph},format=yuv420p` });
    const { manifest, problems, summary } = await prepare([at(`${name}.mp4`)], at(name), quick);
    expect(manifest.items).toEqual([]);
    expect(manifest.sources[0]!.problem).toEqual({ code: "prepare.no-scene", message });
    expect(problems).toMatchObject([{ code: "prepare.no-scene", message }]);
    expect(summary.problems).toBe(1);
  });

  it("has one also where it has a single frame", async () => {
    await makeFilm(at("single.mp4"), { graph: `${fractal(1, 0.3)},trim=end_frame=1` });
    const { manifest } = await prepare([at("single.mp4")], at("single"), quick);
    expect(manifest.items).toMatchObject([{ verdict: "drop", frames: 1, reasons: [{ code: "too-short" }] }]);
  });

  it("and one of which a large part is left out says how much", async () => {
    const graph = `${fractal(2, 0.3)},setsar=1[a];color=black:s=320x180:r=16,trim=end=3,format=yuv420p,setsar=1[b];[a][b]concat`;
    await makeFilm(at("half.mp4"), { graph });
    const { manifest, problems } = await prepare([at("half.mp4")], at("half"), everything);
    expect(manifest.items.filter(({ verdict }) => verdict === "keep")).toHaveLength(1);
    expect(manifest.sources[0]!.notes).toMatchObject([{ code: "prepare.left-out" }]);
    expect(problems[0]!.message).toMatch(
      /^3\.\d s are not in any clip: (2|3)\.\d s of a single colour, near black or white/,
    );
  });
});

it("a folder of films whose headers lie about their length is prepared in bounded time", async () => {
  const place = at("lying");
  mkdirSync(place);
  await makeFilm(join(place, "hours.mp4"), {
    graph: `${fractal(4, 0.3)},settb=1/16,setpts=N+gte(N\\,40)*16*100000`,
  });
  const { manifest } = await prepare([place], at("bounded"), everything);
  expect(manifest.sources[0]!.duration).toBeLessThan(6);
  expect(manifest.items.reduce((sum, item) => sum + item.frames, 0)).toBeLessThan(80);
});

describe("pictures and films by their content", () => {
  it("a HEIC, a still GIF and a JPEG named as a film are pictures; a moving GIF and PNG are films", async () => {
    const place = at("kinds");
    mkdirSync(place);
    const inPlace = (name: string) => join(place, name);
    await makeHeic(inPlace("photo.heic"), { graph: "testsrc2=s=320x180:r=1", width: 320, height: 180 });
    const still = `${fractal(1, 0.3)},trim=end_frame=1`;
    await makeFilm(inPlace("still.gif"), { graph: `${still},format=rgb8`, encoder: "gif", container: "gif" });
    const data = Uint8Array.from({ length: 320 * 180 * 3 }, (_, i) => (i / 7) & 255);
    writeFileSync(inPlace("jpeg.mp4"), await encodeImage({ width: 320, height: 180, data }, "jpeg"));
    await makeFilm(inPlace("moving.gif"), {
      graph: `${fractal(2, 0.3)},format=rgb8`,
      encoder: "gif",
      container: "gif",
    });
    await makeFilm(inPlace("moving.png"), {
      graph: `${fractal(2, 0.3)},format=rgb24`,
      encoder: "apng",
      container: "apng",
    });
    const { manifest, problems } = await prepare([place], at("by-content"), everything);
    expect(problems).toEqual([]);
    const kinds = manifest.items.map((item) => [manifest.sources[item.source]!.path, item.kind, item.verdict]);
    expect(kinds.map(([path, ...rest]) => [path!.split("/").at(-1), ...rest]).sort()).toEqual([
      ["jpeg.mp4", "image", "keep"],
      ["moving.gif", "video", "keep"],
      ["moving.png", "video", "keep"],
      ["photo.heic", "image", "keep"],
      ["still.gif", "image", "keep"],
    ]);
  });
});

describe("an HDR film", () => {
  it("is prepared at any size, odd ones too, as bright as its SDR twin", async () => {
    const grey = (size: string) => `color=0x808080:s=${size}:r=16:d=1.2,format=gbrp`;
    const pq =
      "zscale=tin=709:pin=709:min=gbr:rin=full:t=linear:p=2020:m=gbr:npl=203,format=gbrpf32le,zscale=p=2020:t=smpte2084:m=2020_ncl:r=limited:npl=203,format=yuv420p10le";
    const codec = { encoder: "libx265", encoderOptions: { preset: "ultrafast", "x265-params": "log-level=none" } };
    // 320×180 becomes 85×48 before it is cropped, 320×160 even on both sides.
    for (const size of ["320x180", "320x160"]) {
      await makeFilm(at(`sdr-${size}.mkv`), { graph: `${grey(size)},format=yuv420p` });
      const color = { space: 9, range: 1, trc: 16, primaries: 9 };
      await makeFilm(at(`hdr-${size}.mkv`), { graph: `${grey(size)},${pq}`, ...codec, color });
    }
    const names = ["320x180", "320x160"].flatMap((size) => [`sdr-${size}.mkv`, `hdr-${size}.mkv`]);
    const config = { ...everything, model: "tiny-t2v" as const, resolution: [64, 64] as [number, number] };
    const { manifest, problems } = await prepare(names.map(at), at("hdr-set"), {
      ...config,
      scenes: { detect: false },
    });
    expect(problems).toEqual([]);
    const brightness = manifest.items.map(({ measures }) => measures.brightness!.value!);
    expect(brightness).toHaveLength(4);
    expect(Math.max(...brightness) - Math.min(...brightness)).toBeLessThan(4);
  }, 60_000);
});
