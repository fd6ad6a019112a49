// What `kinora dataset prepare` writes: in-place sets that train as the written ones, captions that are never overwritten,
// duplicates, crops, sizes, tones, colours, every kind of file, files a person changed.
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { byFile, itemFrames } from "../../src/cache/frames.ts";
import { readCaptionFolder } from "../../src/dataset/caption/folder.ts";
import { folderConfig } from "../../src/dataset/config.ts";
import { planDataset } from "../../src/dataset/dataset-plan.ts";
import { hashDistance, hashRow } from "../../src/dataset/prepare/hash.ts";
import { settlePrepareConfig } from "../../src/dataset/prepare/settings.ts";
import { probeMedia } from "../../src/dataset/probe.ts";
import { planWarnings } from "../../src/dataset/warnings.ts";
import { readImage } from "../../src/io/image/read.ts";
import { encodeImage } from "../../src/io/image/write.ts";
import { probe } from "../../src/io/video/probe.ts";
import { openVideo } from "../../src/io/video/read.ts";
import { measureNames } from "../../src/protocol/prepare-config.ts";
import { displayMatrices, makeFilm, temporaryFolder } from "../support/film.ts";
import { contents, prepare, quick } from "../support/prepared.ts";

const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const config = { ...quick, duplicates: { detect: false } };

const fractal = (seconds: number, more = "") =>
  `mandelbrot=s=320x180:r=24:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=200,trim=end=${seconds},scroll=h=0.003${more},format=yuv420p,setsar=1`;

beforeAll(async () => {
  mkdirSync(at("in"));
  // Two scenes with a cut at 2 s, and bars above and below.
  await makeFilm(at("in/film.mkv"), {
    graph: `${fractal(2)}[a];${fractal(2, ",hue=h=120,hflip")}[b];[a][b]concat=n=2,settb=1/24,setpts=N,scale=320:140,pad=320:180:0:20,setsar=1`,
    encoderOptions: { crf: "6" },
  });
  writeFileSync(at("in/film.txt"), "A fractal, twice.\n");
  const data = Uint8Array.from({ length: 300 * 400 * 3 }, (_, i) => 60 + ((i / 900) % 130) + (i % 3) * 20);
  writeFileSync(at("in/picture.png"), await encodeImage({ width: 300, height: 400, data }, "png"));
}, 120_000);

/** Plans a folder and reads the frames of all its items, by name. */
async function trained(place: string): Promise<Map<string, Uint8Array[]>> {
  const plan = await finished(planDataset(folderConfig(place), probeMedia));
  const found = new Map<string, Uint8Array[]>();
  for (const group of byFile(plan.items))
    for await (const { item, frames } of itemFrames(group)) found.set(item.name.replace(/\.\w+$/, ""), frames);
  return found;
}

/** Mean absolute difference of light, 8-bit levels; colours are written at half the size. */
function apart(a: Uint8Array, b: Uint8Array): number {
  expect(a.length).toBe(b.length);
  let sum = 0;
  for (let i = 0; i < a.length; i += 3)
    sum += Math.abs(0.3 * (a[i]! - b[i]!) + 0.6 * (a[i + 1]! - b[i + 1]!) + 0.1 * (a[i + 2]! - b[i + 2]!));
  return (3 * sum) / a.length;
}

describe("a set in place", () => {
  it("writes no media, and trains on what the written set holds: the same frames, the same crop", async () => {
    const written = await prepare([at("in")], at("written"), config);
    const before = contents(at("in"));
    const place = await prepare([at("in")], at("place"), { ...config, in_place: true });
    expect(contents(at("in"))).toEqual(before);
    expect(Object.keys(contents(at("place"))).sort()).toEqual([
      "manifest.json",
      "report.html",
      "videos/film-000m00s000.txt",
      "videos/film-000m02s000.txt",
    ]);
    expect(place.manifest.inPlace).toBe(true);
    expect(place.summary).toMatchObject({ videos: 2, images: 1, uncaptioned: 1 });
    const bare = ({ file: _file, bytes: _bytes, sha256: _sha, ...item }: (typeof written.manifest.items)[number]) =>
      item;
    expect(place.manifest.items).toEqual(written.manifest.items.map(bare));
    const [a, b] = [await trained(at("written")), await trained(at("place"))];
    expect([...b.keys()].sort()).toEqual([...a.keys()].sort());
    expect(a.size).toBe(3);
    for (const [name, frames] of a) {
      expect(b.get(name)!.length, name).toBe(frames.length);
      for (const [i, frame] of frames.entries()) {
        const same = apart(frame, b.get(name)![i]!);
        expect(same, `${name} ${i}`).toBeLessThan(4);
        // The crop in place is to whole colours of the source, at most a pixel off. A frame off would be seen.
        const next = frames[i + 1] ?? frames[i - 1];
        if (next) expect(same, `${name} ${i}`).toBeLessThan(0.75 * apart(frame, next));
      }
    }
  });

  it("keeps captions that a person wrote, where dataset caption looks for them, and says which are left over", async () => {
    const caption = at("place/videos/film-000m00s000.txt");
    writeFileSync(caption, "By hand.\n");
    writeFileSync(at("place/videos/film-000m02s000.draft.txt"), "A draft.\n");
    writeFileSync(at("place/images/..txt".replace("images/..", "images-")), "");
    const again = await prepare([at("in")], at("place"), { ...config, in_place: true });
    expect(again.summary.work).toEqual({ analysed: 0, rendered: 0, written: 0 });
    expect(readFileSync(caption, "utf8")).toBe("By hand.\n");
    const { items } = await readCaptionFolder(at("place"), { extension: ".txt" });
    expect(items.find(({ captionPath }) => captionPath === caption)!.caption).toBe("By hand.");
    const plan = await finished(planDataset(folderConfig(at("place")), probeMedia));
    expect(planWarnings(plan).map(({ code }) => code)).not.toContain("caption.orphan");
    // One scene now: the second clip is gone, its caption is not.
    const whole = await prepare([at("in")], at("place"), { ...config, in_place: true, scenes: { detect: false } });
    expect(whole.manifest.items.map(({ id }) => id)).toEqual(["film", "picture"]);
    expect(whole.summary.notes).toEqual([
      "videos/film-000m00s000.mp4 is no longer in the set; its caption videos/film-000m00s000.txt is kept",
      "videos/film-000m02s000.mp4 is no longer in the set; its caption videos/film-000m02s000.txt is kept",
    ]);
    expect(readFileSync(caption, "utf8")).toBe("By hand.\n");
    expect(
      (await prepare([at("in")], at("place"), { ...config, in_place: true, scenes: { detect: false } })).summary,
    ).toMatchObject({ notes: [], work: { written: 0 } });
  });

  it("takes the place of a written set, and gives it back", async () => {
    await prepare([at("in")], at("both"), config);
    const written = contents(at("both"));
    const { summary } = await prepare([at("in")], at("both"), { ...config, in_place: true });
    expect(summary.notes).toEqual([]);
    expect(existsSync(at("both/videos/film-000m00s000.mp4"))).toBe(false);
    expect(existsSync(at("both/videos/film-000m00s000.txt"))).toBe(true);
    await prepare([at("in")], at("both"), config);
    expect(contents(at("both"))).toEqual(written);
  });

  it("cannot be normalised", () => {
    expect(() => settlePrepareConfig({ model: "t2v-A14B", in_place: true, normalize: true })).toThrow("writes none");
  });
});

describe("captions", () => {
  const out = at("captions");
  it("of the sources go beside the items and, if asked, into captions/; blank ones count as none", async () => {
    writeFileSync(at("in/picture.txt"), "  \n");
    const { summary, items } = await prepare([at("in")], out, { ...config, captions_folder: true });
    expect(summary.uncaptioned).toBe(1);
    expect(readdirSync(join(out, "captions"))).toEqual(["film-000m00s000.txt", "film-000m02s000.txt"]);
    for (const path of ["videos/film-000m02s000.txt", "captions/film-000m02s000.txt"])
      expect(readFileSync(join(out, path), "utf8")).toBe("A fractal, twice.\n");
    expect(items.get("film-000m00s000")!.caption).toBe("../in/film.txt");
    expect(items.get("picture")!.caption).toBeUndefined();
    rmSync(at("in/picture.txt"));
  });

  it("that are there stay, and are copied to captions/ where that is asked for later", async () => {
    const later = at("captions-later");
    await prepare([at("in")], later, config);
    writeFileSync(join(later, "videos/film-000m00s000.txt"), "By hand.\n");
    writeFileSync(join(later, "images/picture.txt"), "A picture, by hand.\n");
    writeFileSync(at("in/picture.txt"), "A picture.\n");
    const { summary } = await prepare([at("in")], later, { ...config, captions_folder: true });
    rmSync(at("in/picture.txt"));
    expect(summary).toMatchObject({ uncaptioned: 0, work: { rendered: 0, analysed: 0 } });
    const read = (path: string) => readFileSync(join(later, path), "utf8");
    expect(read("images/picture.txt")).toBe("A picture, by hand.\n");
    expect(read("captions/picture.txt")).toBe("A picture, by hand.\n");
    expect(read("captions/film-000m00s000.txt")).toBe("By hand.\n");
    expect(readFileSync(join(later, "report.html"), "utf8")).not.toContain("no caption");
    const plan = await finished(planDataset(folderConfig(later), probeMedia));
    expect(
      planWarnings(plan)
        .map(({ code }) => code)
        .filter((code) => code.startsWith("caption")),
    ).toEqual([]);
  });
});

describe("files of the set", () => {
  it("that a person changed or put there stay, and are told", async () => {
    const out = at("changed");
    await prepare([at("in")], out, config);
    appendFileSync(join(out, "videos/film-000m00s000.mp4"), "changed");
    writeFileSync(join(out, "videos/mine.mp4"), "mine");
    const before = contents(out);
    const { summary } = await prepare([at("in")], out, { ...config, video: { preset: "superfast" } });
    expect(summary.notes).toEqual([
      "videos/film-000m00s000.mp4 existed before or has been edited since, and is left unchanged",
    ]);
    const after = contents(out);
    for (const name of ["videos/film-000m00s000.mp4", "videos/mine.mp4"]) expect(after[name]).toBe(before[name]);
    expect(after["videos/film-000m02s000.mp4"]).not.toBe(before["videos/film-000m02s000.mp4"]);
    // Deleted by hand: it comes again from the store.
    rmSync(join(out, "videos/film-000m02s000.mp4"));
    const again = await prepare([at("in")], out, { ...config, video: { preset: "superfast" } });
    expect(again.summary.work).toEqual({ analysed: 0, rendered: 0, written: 1 });
    expect(contents(out)).toEqual(after);
  });

  it("have names of their own, also where a clip lies beside the film it was cut from", async () => {
    mkdirSync(at("names"));
    copyFileSync(at("in/film.mkv"), at("names/film.mkv"));
    copyFileSync(at("written/videos/film-000m00s000.mp4"), at("names/film-000m00s000.mp4"));
    copyFileSync(at("in/film.mkv"), at("names/Film.mov"));
    const { items, summary } = await prepare([at("names")], at("names-out"), config);
    expect([...items.keys()].sort()).toEqual([
      "Film-mov-000m00s000",
      "Film-mov-000m02s000",
      "film-000m00s000",
      "film-mkv-000m00s000",
      "film-mkv-000m02s000",
    ]);
    expect(summary.videos).toBe(5);
  });

  it("follow limits without looking at the films again", async () => {
    const strict = await prepare([at("in")], at("changed"), { ...config, quality: { brightness: { min: 99 } } });
    expect(strict.summary).toMatchObject({ videos: 0, work: { analysed: 0, rendered: 0 } });
    expect(strict.summary.reasons["brightness-low"]).toContain("film-000m00s000");
  });
});

describe("near-duplicates", () => {
  it("are told by the shift in time at which two rows of hashes agree best", () => {
    const hash = fc
      .array(fc.constantFrom(..."0123456789abcdef"), { minLength: 16, maxLength: 16 })
      .map((signs) => signs.join(""));
    const rows = fc.array(hash, { minLength: 1, maxLength: 12 });
    const bits = (a: string, b: string) =>
      [...a].reduce((sum, sign, i) => {
        let rest = Number.parseInt(sign, 16) ^ Number.parseInt(b[i]!, 16);
        let count = 0;
        for (; rest > 0; rest >>= 1) count += rest & 1;
        return sum + count;
      }, 0);
    fc.assert(
      fc.property(rows, rows, fc.double({ min: 0, max: 64, noNaN: true }), (a, b, most) => {
        let best = Number.POSITIVE_INFINITY;
        for (let shift = -20; shift <= 20; shift++) {
          const pairs = a.flatMap((one, i) => (b[i - shift] === undefined ? [] : [bits(one, b[i - shift]!)]));
          const reachable =
            shift >= -Math.max(4, b.length - a.length + 4) && shift <= Math.max(4, a.length - b.length + 4);
          if (!reachable || pairs.length < Math.max(1, Math.ceil(0.6 * Math.min(a.length, b.length)))) continue;
          best = Math.min(best, pairs.reduce((sum, count) => sum + count, 0) / pairs.length);
        }
        const found = hashDistance(hashRow(a), hashRow(b), most);
        expect(found).toBeCloseTo(best <= most ? best : Number.POSITIVE_INFINITY, 9);
      }),
    );
  });

  it("are dropped, the better one stays: scaled, recoded, a little brighter and softer, cut shorter; others are none", async () => {
    mkdirSync(at("twins"));
    const make = (name: string, graph: string, more: Record<string, string> = {}) =>
      makeFilm(at("twins", name), { graph, encoderOptions: more });
    await make("a.mkv", fractal(3));
    await make("smaller.mkv", `${fractal(3)},scale=256:144`, { crf: "24" });
    // Softer too: which one stays must not hang on the last digit of a sharpness.
    await make("brighter.mkv", `${fractal(3)},eq=brightness=0.04,gblur=sigma=0.8`);
    await make("part.mkv", `${fractal(3)},trim=start=0.5:end=2.5,setpts=PTS-STARTPTS`);
    await make("other.mkv", fractal(3, ",hflip,vflip"));
    const { items } = await prepare([at("twins")], at("twins-out"), quick);
    const duplicates = [...items.values()].filter((item) => item.verdict === "drop");
    expect(duplicates.map(({ id }) => id).sort()).toEqual(["brighter", "part", "smaller"]);
    for (const { reasons } of duplicates) {
      expect(reasons.map(({ code }) => code)).toEqual(["near-duplicate"]);
      expect(reasons[0]!.message).toMatch(/^nearly the same as a \([\d.]+ of 64 bits differ\)$/);
    }
  });
});

describe("crop and size", () => {
  it("the part where most moves is kept if asked, the middle otherwise", async () => {
    // A box that jumps about at the right end of a wide, still picture.
    await makeFilm(at("wide.mkv"), {
      graph:
        "gradients=s=480x160:r=16:d=0.1:n=4:seed=7,loop=loop=60:size=1,trim=end_frame=48,format=yuv420p[b];testsrc=s=64x64:r=16:d=3,format=yuv420p[f];[b][f]overlay=x='380+12*sin(n)':y='20+n',setsar=1",
      encoderOptions: { crf: "6" },
    });
    const square = { ...config, resolution: undefined, sizes: [[128, 128]] as [number, number][] };
    const lax = {
      ...square,
      quality: Object.fromEntries(measureNames.map((name) => [name, false])),
    };
    const middle = await prepare([at("wide.mkv")], at("middle"), lax);
    const motion = await prepare([at("wide.mkv")], at("motion"), { ...lax, crop: "motion" });
    expect(middle.items.get("wide")!.crop!.x).toBeCloseTo(160, -1);
    expect(motion.items.get("wide")!.crop!.x).toBeGreaterThan(290);
    expect(motion.items.get("wide")!.size).toEqual({ width: 128, height: 128 });
    // Who trains on it takes the size as it is.
    const [frame] = (await trained(at("motion"))).get("videos/wide")!;
    expect(frame!.length).toBe(128 * 128 * 3);
  });

  it("nothing is enlarged unless asked", async () => {
    const large = { ...config, resolution: [416, 240] as [number, number], quality: { resolution: false as const } };
    const own = await prepare([at("in")], at("own"), large);
    const enlarged = await prepare([at("in")], at("enlarged"), { ...large, upscale: true });
    const size = (set: typeof own) => set.items.get("film-000m00s000")!.size;
    expect(size(own)).toEqual({ width: 320, height: 128 });
    expect(size(enlarged)!.width).toBeGreaterThan(400);
    const { video } = await probe(at("enlarged/videos/film-000m00s000.mp4"));
    expect({ width: video!.width, height: video!.height }).toEqual(size(enlarged));
  });

  it("fixed sizes stand for a resolution, so that no reader of the set makes them smaller", () => {
    const sizes: [number, number][] = [
      [640, 352],
      [1280, 720],
    ];
    expect(settlePrepareConfig({ model: "t2v-A14B", sizes }).resolution).toEqual([1280, 720]);
    expect(() => settlePrepareConfig({ model: "t2v-A14B", sizes, resolution: [832, 480] })).toThrow(
      "both sizes and resolution",
    );
    expect(() => settlePrepareConfig({ model: "ti2v-5B", sizes })).toThrow("is not a valid size for ti2v-5B");
  });
});

describe("settings", () => {
  it("the shortest clip is no longer than the longest, where nobody said otherwise", () => {
    const shortest = (clips: object) => settlePrepareConfig({ model: "t2v-A14B", clips }).clips.shortest;
    expect(shortest({})).toBe(2);
    expect(shortest({ longest: 0.5625 })).toBe(0.5625);
    expect(shortest({ longest: 5, shortest: 1 })).toBe(1);
  });

  it.each([
    [{ model: "t2v-A14" }, /unknown model "t2v-A14".*/],
    [{}, /no model was given/],
    [{ clips: { shortest: 5, longest: 2 } }, /clips\.shortest \(5 s\) exceeds clips\.longest \(2 s\)/],
    [{ clips: { shortst: 1 } }, /unknown key "shortst" in \[clips\]/],
    [{ quality: { shaking: { max: 1 } } }, /unknown key "shaking" in \[quality\]/],
    [{ quality: { shake: { maximum: 1 } } }, /unknown key "maximum" in \[quality\.shake\]/],
    [{ crop: "left" }, /crop must be one of center, motion \(it is the text "left"\)/],
    [{ upscale: "true" }, /upscale must be true or false \(it is the text "true"\)/],
    [{ quality: { shake: true } }, /quality\.shake must be/],
  ])("%j is refused", (input, message) => {
    const whole = { model: "model" in input || Object.keys(input).length === 0 ? undefined : "t2v-A14B", ...input };
    expect(() => settlePrepareConfig(whole as never)).toThrow(message);
  });
});

describe("tones", () => {
  it("are brought together if asked: exposure and white balance", async () => {
    mkdirSync(at("tones"));
    for (const [name, filter] of [
      ["dark", ",eq=brightness=-0.1"],
      ["plain", ""],
      ["bright", ",eq=brightness=0.12"],
      ["warm", ",colorbalance=rm=0.25:bm=-0.25"],
    ])
      await makeFilm(at("tones", `${name}.mkv`), { graph: fractal(2, filter) });
    const mean = async (place: string, name: string) => {
      const sums = [0, 0, 0];
      let count = 0;
      for await (const { data } of openVideo(at(place, "videos", `${name}.mp4`)))
        for (let i = 0; i < data.length; i += 3, count++) for (let c = 0; c < 3; c++) sums[c]! += data[i + c]!;
      return sums.map((sum) => sum / count);
    };
    const spread = async (place: string) => {
      const means = await Promise.all(["dark", "plain", "bright", "warm"].map((name) => mean(place, name)));
      const range = (values: number[]) => Math.max(...values) - Math.min(...values);
      return {
        light: range(means.map(([r, g, b]) => 0.3 * r! + 0.6 * g! + 0.1 * b!)),
        warmth: range(means.map(([r, , b]) => r! - b!)),
      };
    };
    const plain = await prepare([at("tones")], at("tones-plain"), config);
    const even = await prepare([at("tones")], at("tones-even"), { ...config, normalize: true });
    expect(plain.items.get("dark")!.normalized).toBeUndefined();
    expect(even.items.get("dark")!.normalized!.exposure).toBeGreaterThan(1.05);
    const [before, after] = [await spread("tones-plain"), await spread("tones-even")];
    expect(after.light).toBeLessThan(0.6 * before.light);
    expect(after.warmth).toBeLessThan(0.75 * before.warmth);
  });
});

describe("every kind of file", () => {
  it("is read: containers, codecs, pixel formats, turned, interlaced, of changing rate; the colours stay", async () => {
    mkdirSync(at("kinds"));
    const red =
      "color=0xc82828:s=320x180:r=25:d=1.5,format=gbrp[a];testsrc2=s=80x60:r=25:d=1.5,format=gbrp[b];[a][b]overlay=x=4*n:y=20:format=gbrp";
    const to = (matrix: string, range: string, format: string) =>
      `${red},scale=out_color_matrix=${matrix}:out_range=${range},format=${format}`;
    const make = (name: string, options: Omit<Parameters<typeof makeFilm>[1], "graph">, graph: string) =>
      makeFilm(at("kinds", name), { graph, ...options });
    await make("h264-601.mov", { color: { space: 6, range: 1 } }, to("smpte170m", "limited", "yuv420p"));
    await make("h264-709-full.mkv", { color: { space: 1, range: 2 } }, to("bt709", "full", "yuv420p"));
    await make("h264-444-10.mkv", { color: { space: 1, range: 1 } }, to("bt709", "limited", "yuv444p10le"));
    await make(
      "mpeg2.ts",
      { encoder: "mpeg2video", encoderOptions: { qscale: "2" }, color: { space: 1, range: 1 } },
      to("bt709", "limited", "yuv420p"),
    );
    await make(
      "mjpeg.avi",
      { encoder: "mjpeg", encoderOptions: { flags: "+qscale", global_quality: "200" } },
      to("smpte170m", "full", "yuvj420p"),
    );
    await make(
      "vp9.webm",
      {
        encoder: "libvpx-vp9",
        encoderOptions: { crf: "16", deadline: "realtime", "cpu-used": "8" },
        color: { space: 1, range: 1 },
      },
      to("bt709", "limited", "yuv420p"),
    );
    await make(
      "turned.mp4",
      { displayMatrix: displayMatrices.clockwise, color: { space: 1, range: 1 } },
      to("bt709", "limited", "yuv420p"),
    );
    await make(
      "uneven.mp4",
      { color: { space: 1, range: 1 } },
      `${to("bt709", "limited", "yuv420p")},select='mod(n\\,3)'`,
    );
    const { items, problems } = await prepare([at("kinds")], at("kinds-out"), {
      ...config,
      quality: Object.fromEntries(measureNames.map((name) => [name, false])),
    });
    expect(problems).toEqual([]);
    expect(items.size).toBe(8);
    for (const [id, { verdict, frames, reasons, file }] of items) {
      expect({ id, verdict, reasons }).toMatchObject({ verdict: "keep" });
      // 1.5 s at 16 frames a second, whatever the source's own rate.
      expect(Math.abs(frames - 24), id).toBeLessThanOrEqual(1);
      for await (const { data, width, height } of openVideo(at("kinds-out", file!))) {
        const corner = ((height - 3) * width + width - 3) * 3;
        for (const [c, wanted] of [200, 40, 40].entries())
          expect(Math.abs(data[corner + c]! - wanted), `${id} ${data.subarray(corner, corner + 3)}`).toBeLessThan(7);
        break;
      }
    }
    expect(items.get("turned")!.size).toEqual({ width: 112, height: 208 });
  });

  it("of picture is read: EXIF rotation, alpha, WebP, AVIF, BMP, TIFF", async () => {
    mkdirSync(at("pictures"));
    const film = async (name: string, encoder: string, format: string, container = "image2pipe") => {
      const path = at("pictures", name);
      await makeFilm(path, {
        graph: `testsrc2=s=320x192:r=1:d=1,format=rgb24,format=${format}`,
        encoder,
        container,
      });
    };
    await film("b.bmp", "bmp", "bgr24");
    await film("t.tiff", "tiff", "rgb24");
    await film("alpha.png", "png", "rgba");
    await film("a.avif", "libsvtav1", "yuv420p", "avif");
    const data = new Uint8Array(320 * 192 * 3).map((_, i) => (i % 960 < 480 ? 220 : 30 + (i % 97)));
    const jpeg = Buffer.from(await encodeImage({ width: 320, height: 192, data }, "jpeg"));
    writeFileSync(at("pictures/w.webp"), await encodeImage({ width: 320, height: 192, data }, "webp"));
    // An APP1 block with one tag, orientation 6: shown turned clockwise.
    const exif = Buffer.from(
      "ffe10022457869660000 4d4d002a00000008 0001 0112 0003 00000001 00060000 00000000".replaceAll(" ", ""),
      "hex",
    );
    writeFileSync(at("pictures/turned.jpg"), Buffer.concat([jpeg.subarray(0, 2), exif, jpeg.subarray(2)]));
    const { items, problems } = await prepare([at("pictures")], at("pictures-out"), {
      ...config,
      quality: Object.fromEntries(["sharpness", "noise", "blockiness"].map((name) => [name, false])),
    });
    expect(problems).toEqual([]);
    expect([...items].map(([id, { verdict, size }]) => [id, verdict, size!.width > size!.height])).toEqual([
      ["a", "keep", true],
      ["alpha", "keep", true],
      ["b", "keep", true],
      ["t", "keep", true],
      ["turned", "keep", false],
      ["w", "keep", true],
    ]);
    // The left half was bright; turned clockwise it is the upper one.
    const turned = await readImage(at("pictures-out/images/turned.png"));
    const brightness = (row: number) => turned.data[(row * turned.width + (turned.width >> 1)) * 3]!;
    expect(brightness(20)).toBeGreaterThan(200);
    expect(brightness(turned.height - 20)).toBeLessThan(150);
  });
});
