// `kinora dataset prepare` on what people's folders really hold: each bad file named with its reason, the rest prepared,
// nothing of theirs changed; and on places that cannot be written to.
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { beforeAll, describe, expect, it, test } from "vitest";
import { main } from "../../src/cli/main.ts";
import { encodeImage } from "../../src/io/image/write.ts";
import { openVideo } from "../../src/io/video/read.ts";
import type { DatasetManifest, ManifestItem } from "../../src/protocol/dataset-manifest.ts";
import { makeFilm, makeSound, temporaryFolder } from "../support/film.ts";
import { canMount, ended, startKinora, withOwnMounts } from "../support/kinora-process.ts";
import { contents, readManifestFile } from "../support/prepared.ts";

const folder = temporaryFolder();
const sources = join(folder, "sources");
const at = (name: string) => join(sources, name);
const settings = join(folder, "settings.toml");
const usual = ["--model", "t2v-A14B", "--config", settings];

const fractal = (seconds: number, hue = 0) =>
  `mandelbrot=s=320x180:r=16:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=200,trim=end=${seconds},scroll=h=0.003,hue=h=${hue},format=yuv420p`;

/** Runs the command in this process. */
async function kinora(...argv: string[]): Promise<{ code: number; data: string; notes: string }> {
  const said = { data: "", notes: "" };
  const code = await main(["dataset", "prepare", ...argv], {
    data: (text) => {
      said.data += `${text}\n`;
    },
    note: (text) => {
      said.notes += `${text}\n`;
    },
    progress: () => {},
  });
  return { code, ...said };
}

const strange = [
  "two  blanks.mp4",
  "ünï 漢字 🎬.mp4",
  `single' and "double".mp4`,
  "new\nline.mp4",
  "per%03dcent #1?.mp4",
  "-out.mp4",
  "<img src=x onerror=alert(1)>.mp4",
  "back\\slash:colon|pipe*.mp4",
  ` ${"long ".repeat(48)}.mp4`,
];

/** A film with a key frame a second and its index in front; 3,000 of its bytes overwritten in the middle, or its end cut off. */
async function hurtFilms(): Promise<void> {
  await makeFilm(at("whole.mp4"), {
    graph: fractal(6, 120),
    encoderOptions: { g: "16", "x264-params": "scenecut=0" },
    muxerOptions: { movflags: "+faststart" },
  });
  const bytes = readFileSync(at("whole.mp4"));
  writeFileSync(at("cut-off.mp4"), bytes.subarray(0, Math.floor(bytes.length * 0.6)));
  const middle = Math.floor(bytes.length * 0.5);
  for (let i = 0; i < 3000; i++) bytes[middle + i] = (i * 7919) & 255;
  writeFileSync(at("hurt.mp4"), bytes);
}

/** A JPEG of 15360×8640: one frame of motion JPEG is one. */
async function hugePicture(path: string): Promise<void> {
  const film = join(folder, "huge.mkv");
  await makeFilm(film, { graph: "testsrc2=s=15360x8640:r=1:d=1,format=yuvj420p", encoder: "mjpeg" });
  const bytes = readFileSync(film);
  const start = bytes.indexOf("\xff\xd8\xff", 0, "latin1");
  writeFileSync(path, bytes.subarray(start, bytes.lastIndexOf("\xff\xd9", undefined, "latin1") + 2));
  rmSync(film);
}

const noise = (width: number, height: number) => ({
  width,
  height,
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 255),
});

beforeAll(async () => {
  mkdirSync(sources);
  writeFileSync(
    settings,
    '[clips]\nshortest = 1\n[video]\npreset = "ultrafast"\n[duplicates]\ndetect = false\n[quality]\nnoise = false\n',
  );
  writeFileSync(settings, `resolution = [208, 112]\n${readFileSync(settings, "utf8")}`);
  await makeFilm(at("good.mp4"), { graph: fractal(2) });
  writeFileSync(at("good.txt"), "A fractal.\n");
  await hurtFilms();
  copyFileSync(at("good.mp4"), at("no-index.mp4"));
  truncateSync(at("no-index.mp4"), Math.floor(readFileSync(at("good.mp4")).length * 0.6));
  const nothing = "testsrc2=s=64x48:r=10:d=0.1,trim=start=5,format=yuv420p";
  await makeFilm(at("no-frames.mp4"), { graph: nothing });
  await makeFilm(at("no-frames.mkv"), { graph: nothing });
  await makeSound(at("sound.mp4"));
  for (const name of ["text.mp4", "text.jpg"]) writeFileSync(at(name), "this is no film\n".repeat(99));
  for (const name of ["empty.mp4", "empty.png"]) writeFileSync(at(name), "");
  writeFileSync(at("one-pixel.png"), await encodeImage(noise(1, 1), "png"));
  await makeFilm(at("tiny-film.mkv"), { graph: "testsrc2=s=8x8:r=16:d=2,format=yuv420p" });
  for (const kind of ["png", "jpeg", "webp"] as const) {
    const bytes = await encodeImage(noise(300, 200), kind);
    writeFileSync(at(`cut-off.${kind}`), bytes.subarray(0, Math.floor(bytes.length * 0.9)));
  }
  await hugePicture(at("huge.jpg"));
  for (const name of strange) copyFileSync(at("good.mp4"), at(name));
  writeFileSync(at("new\nline.txt"), "Two lines.\n");
  symlinkSync(at("loop-b.mp4"), at("loop-a.mp4"));
  symlinkSync(at("loop-a.mp4"), at("loop-b.mp4"));
  symlinkSync(at("gone.mp4"), at("broken.mp4"));
  // A folder that holds itself, and one that holds the other's parent.
  symlinkSync(sources, at("circle"));
  mkdirSync(at("inner"));
  symlinkSync(sources, at("inner/outer"));
  copyFileSync(at("good.mp4"), at("inner/good.mp4"));
}, 120_000);

describe("a folder with every kind of bad file", () => {
  const out = join(folder, "set");
  let manifest: DatasetManifest;
  let answer: { videos: number; images: number; problems: { path: string; code: string; message: string }[] };
  let before: Record<string, string>;
  /** Of every file, without following links. */
  const hashes = () =>
    Object.fromEntries(
      readdirSync(sources, { withFileTypes: true, recursive: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .map((path) => [path, createHash("sha256").update(readFileSync(path)).digest("hex")]),
    );
  const itemsOf = (name: string): ManifestItem[] =>
    manifest.items.filter((item) => basename(manifest.sources[item.source]!.path) === name);

  beforeAll(async () => {
    before = hashes();
    const { code, data } = await kinora(sources, "--out", out, ...usual, "--json");
    expect(code).toBe(0);
    answer = JSON.parse(data);
    manifest = readManifestFile(out);
  }, 120_000);

  it.each([
    ["no-index.mp4", "media.unreadable", "is not a video or picture that FFmpeg can read"],
    ["no-frames.mp4", "media.no-video", "contains no video"],
    ["no-frames.mkv", "media.unreadable", "is not a video or picture that FFmpeg can read"],
    ["sound.mp4", "media.no-video", "contains audio but no video"],
    ["text.mp4", "media.unreadable", "is not a video or picture that FFmpeg can read"],
    ["text.jpg", "image.unknown-format", "is not a picture in a known format"],
    ["empty.mp4", "media.empty", "is an empty file (0 bytes)"],
    ["empty.png", "image.unknown-format", "is not a picture in a known format"],
    ["one-pixel.png", "prepare.too-small", "is 1×1 pixels, smaller than the model's step size (t2v-A14B: 16×16)"],
    ["tiny-film.mkv", "prepare.too-small", "is 8×8 pixels, smaller than the model's step size (t2v-A14B: 16×16)"],
    ["cut-off.png", "image.unreadable", "could not be decoded as png"],
    ["cut-off.jpeg", "image.unreadable", "is truncated: the end of the picture is missing"],
    ["cut-off.webp", "image.unreadable", "could not be decoded as webp"],
    ["loop-a.mp4", "media.io-error", "is a circular link"],
    ["broken.mp4", "media.not-found", "is a broken link"],
  ])("%s gives nothing and is named with %s", (name, code, message) => {
    const problem = answer.problems.find(({ path }) => path === at(name));
    expect(problem).toMatchObject({ code, message: expect.stringContaining(message) });
    expect(itemsOf(name)).toEqual([]);
    const source = manifest.sources.find(({ path }) => basename(path) === name);
    expect(source!.problem).toEqual({ code, message: problem!.message });
  });

  it("all others are there", () => {
    const bad = new Set(answer.problems.filter(({ code }) => code !== "media.damaged").map(({ path }) => path));
    expect(bad.size).toBe(16);
    for (const { path } of manifest.sources) {
      const name = basename(path);
      if (bad.has(at(name))) continue;
      const kept = itemsOf(name).filter((item) => item.verdict === "keep");
      expect(kept.length, name).toBeGreaterThan(0);
      for (const { file } of kept) expect(existsSync(join(out, file!)), name).toBe(true);
    }
    const [goods, whole, cutOff, hurt] = [2, 1, 1, 2];
    expect(answer.videos).toBe(strange.length + goods + whole + cutOff + hurt);
    expect(answer.images).toBe(1);
  });

  it.each(strange)("the name %j becomes one that every file system takes", async (name) => {
    const [item] = itemsOf(name);
    expect(item!.file).toMatch(/^videos\/[^\s<>:"'`\\|?*/]{1,150}\.mp4$/);
    let frames = 0;
    for await (const _ of openVideo(join(out, item!.file!))) frames++;
    expect(frames).toBe(32);
  });

  it("a caption is found beside a file of any name", () => {
    const [item] = itemsOf("new\nline.mp4");
    expect(readFileSync(join(out, item!.file!.replace(/mp4$/, "txt")), "utf8")).toBe("Two lines.\n");
  });

  it("a film with damage in its middle gives its whole parts and none of the damaged frames", async () => {
    const damaged: number[] = [];
    let second = 0;
    for await (const { corrupt, time } of openVideo(at("hurt.mp4"))) {
      if (corrupt) damaged.push(time);
      second = time;
    }
    expect(damaged.length).toBeGreaterThan(3);
    const kept = itemsOf("hurt.mp4").filter((item) => item.verdict === "keep");
    expect(kept.map(({ in: from }) => from)).toEqual([0, expect.closeTo(Math.max(...damaged) + 1 / 16, 3)]);
    for (const time of damaged)
      expect(kept.some((item) => time > item.in - 0.03 && time < item.out - 0.03)).toBe(false);
    expect(kept[1]!.out).toBeCloseTo(second + 1 / 16, 3);
    expect(answer.problems.find(({ path }) => path === at("hurt.mp4"))).toMatchObject({
      code: "media.damaged",
      message: expect.stringMatching(/^\d decoding errors?; damaged frames are left out$/),
    });
  });

  it("a film cut off behind its index gives what is left of it", () => {
    const [item, ...more] = itemsOf("cut-off.mp4");
    expect(more).toEqual([]);
    expect(item!.in).toBe(0);
    expect(item!.out).toBeGreaterThan(3);
    expect(item!.out).toBeLessThan(4);
    expect(answer.problems.find(({ path }) => path === at("cut-off.mp4"))!.message).toMatch(
      /^1 decoding error, 3\.\d s of 6\.0 s could be read; damaged frames are left out$/,
    );
  });

  it("a picture of 132 megapixels is scaled to its target", () => {
    const [item] = itemsOf("huge.jpg");
    expect(item).toMatchObject({ verdict: "keep", size: { width: 208, height: 112 }, file: "images/huge.png" });
    expect(manifest.sources[item!.source]).toMatchObject({ width: 15360, height: 8640 });
  });

  it("folders that link in a circle are read once", () => {
    expect(itemsOf("good.mp4").map(({ id }) => id)).toEqual(["good", "inner__good"]);
  });

  it("the report lists them, and trusts no name", () => {
    const html = readFileSync(join(out, "report.html"), "utf8");
    expect(html).toContain("contains audio but no video");
    expect(html).not.toContain("<img src=x");
    expect(html).not.toMatch(/https?:\/\/|<link|src="(?!data:)/);
  });

  it("the sources are as they were, and a second run does nothing, for the bad ones neither", async () => {
    expect(hashes()).toEqual(before);
    const set = contents(out);
    const { code, data, notes } = await kinora(sources, "--out", out, ...usual);
    expect(code).toBe(0);
    expect(data).toContain("nothing to do: sources and settings are unchanged and the set is complete");
    expect(notes).toContain(
      `cannot use ${JSON.stringify(at("sound.mp4"))}: contains audio but no video (media.no-video)`,
    );
    expect(notes).toContain(`damaged ${JSON.stringify(at("hurt.mp4"))}`);
    expect(contents(out)).toEqual(set);
  });
});

describe("a picture larger than FFmpeg takes", () => {
  it("is named as such", async () => {
    // The head of a PNG of 32768×32768; nothing of it need be there to be refused.
    const head = Buffer.alloc(33);
    head.write("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1");
    head.writeUInt32BE(32768, 16);
    head.writeUInt32BE(32768, 20);
    head.set([8, 2, 0, 0, 0], 24);
    const { crc32 } = await import("node:zlib");
    head.writeUInt32BE(crc32(head.subarray(12, 29)), 29);
    const path = join(folder, "vast.png");
    writeFileSync(path, head);
    const { code, notes } = await kinora(path, "--out", join(folder, "vast"), ...usual);
    expect(code).toBe(2);
    expect(notes).toMatch(/vast\.png": is 32768×32768 pixels, too large to decode/);
  });
});

describe("sources that are none", () => {
  it.each([
    [
      "a file that does not exist",
      () => [join(folder, "gone.mp4")],
      /gone\.mp4": does not exist.*error prepare\.no-sources/s,
    ],
    ["a folder without media", () => [empty("nothing")], /error prepare\.no-sources: no video or picture was found/],
  ])("%s", async (_, words, said) => {
    const { code, notes } = await kinora(...words(), "--out", join(folder, "none"), ...usual);
    expect(code).toBe(1);
    expect(notes).toMatch(said);
  });

  function empty(name: string): string {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "notes.md"), "none");
    return join(folder, name);
  }

  it("the set's own folders are never read, nor taken as a source", async () => {
    const place = join(folder, "beside");
    mkdirSync(place);
    copyFileSync(at("good.mp4"), join(place, "film.mp4"));
    for (let run = 0; run < 2; run++) expect((await kinora(place, "--out", place, ...usual)).code).toBe(0);
    expect(readManifestFile(place).sources.map(({ path }) => path)).toEqual(["film.mp4"]);
    const { code, notes } = await kinora(join(place, "videos"), "--out", place, ...usual);
    expect(code).toBe(1);
    expect(notes).toMatch(/error prepare\.source-in-set: .*hint: choose another --out folder/s);
    rmSync(join(place, "film.mp4"));
    expect((await kinora(place, "--out", place, ...usual)).notes).toMatch(
      /beside\/videos: choose another --out folder/,
    );
  });
});

describe("a place that cannot be written to", () => {
  it.each([
    ["a file", "file.txt", "io.not-a-folder"],
    ["a place below a file", "file.txt/set", "io.not-a-folder"],
  ])("is named: %s", async (_, place, expected) => {
    writeFileSync(join(folder, "file.txt"), "here");
    const { code, notes } = await kinora(at("good.mp4"), "--out", join(folder, place), ...usual);
    expect(code).toBe(1);
    expect(notes).toContain(`error ${expected}: `);
    expect(notes).toContain(`writing "${join(folder, "file.txt")}`);
    expect(readFileSync(join(folder, "file.txt"), "utf8")).toBe("here");
  });

  it("is named before the work where a file has the name of one of the set's folders", async () => {
    const out = join(folder, "taken");
    mkdirSync(out);
    writeFileSync(join(out, "videos"), "here");
    const { code, notes } = await kinora(at("good.mp4"), "--out", out, ...usual);
    expect(code).toBe(1);
    expect(notes).toMatch(/error io\.not-a-folder: .*taken\/videos" is a file/s);
    expect(readFileSync(join(out, "videos"), "utf8")).toBe("here");
    expect(readdirSync(out).sort()).toEqual([".kinora", "videos"]);
  });

  test.skipIf(!canMount)(`is named: a disk mounted read-only${canMount ? "" : " (skipped: no mounts here)"}`, () => {
    mkdirSync(join(folder, "mounted"));
    const { code, output } = withOwnMounts(
      'mount -t tmpfs -o ro none "$1" && kinora dataset prepare "$2" --out "$1/set" --model t2v-A14B',
      join(folder, "mounted"),
      at("good.mp4"),
    );
    expect(code).toBe(1);
    expect(output).toMatch(/error io\.no-permission: .*mounted\/set.*hint: the disk is mounted read-only/s);
  });
});

describe("a full disk", () => {
  const films = () => [at("good.mp4"), at("whole.mp4"), at("huge.jpg")];
  const words = (out: string) => ["dataset", "prepare", ...films(), "--out", out, ...usual];
  let unbroken: Record<string, string>;
  beforeAll(async () => {
    expect((await kinora(...words(join(folder, "unbroken")).slice(2))).code).toBe(0);
    unbroken = contents(join(folder, "unbroken"));
  });
  const partials = (place: string): string[] =>
    readdirSync(place, { recursive: true, encoding: "utf8" }).filter((name) => name.includes(".partial-"));

  it("is told once, leaves nothing half written, and the run goes on where there is room again", async () => {
    const out = join(folder, "limited");
    // No file over 40 KiB: the system's limit on one file stands in for the end of the disk.
    const { code, stderr } = await ended(startKinora(words(out), "ulimit -f 40"));
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/error io\.disk-full: writing "[^"]*limited[^"]*": File too large\nhint: /);
    expect(stderr.match(/^error/gm)).toHaveLength(1);
    expect(partials(out)).toEqual([]);
    expect(existsSync(join(out, "manifest.json"))).toBe(false);
    expect((await kinora(...words(out).slice(2))).code).toBe(0);
    expect(contents(out)).toEqual(unbroken);
  });

  test.skipIf(!canMount)(
    `that is really full is told, and after making room run the same command again to continue${canMount ? "" : " (skipped: no mounts here)"}`,
    () => {
      const disk = join(folder, "disk");
      const saved = join(folder, "saved");
      mkdirSync(disk);
      const { code, output } = withOwnMounts(
        `mount -t tmpfs -o size=160k none "$1" || exit 9
         kinora "\${@:3}" && exit 8
         find "$1" -name '.partial-*' | grep . && exit 7
         test -e "$1/manifest.json" && exit 6
         mount -o remount,size=64m "$1"
         kinora "\${@:3}" || exit 5
         cp -r "$1" "$2"`,
        disk,
        saved,
        ...words(disk),
      );
      expect(code, output).toBe(0);
      expect(output).toMatch(/error io\.disk-full: .*[Nn]o space left on device.*hint: free disk space/s);
      expect(contents(saved)).toEqual(unbroken);
    },
  );
});
