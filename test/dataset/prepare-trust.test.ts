// A set that comes from elsewhere, or was damaged: nothing in its files decides a path outside of it, what is not as it was
// written is made anew and said, and one preparation at a time works on it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { readCaptionFolder } from "../../src/dataset/caption/folder.ts";
import { Journal, readJournal } from "../../src/dataset/caption/journal.ts";
import { readManifest } from "../../src/dataset/manifest.ts";
import { WorkStore } from "../../src/dataset/prepare/store.ts";
import { encodeImage } from "../../src/io/image/write.ts";
import type { DatasetManifest, ManifestItem } from "../../src/protocol/dataset-manifest.ts";
import { makeFilm, temporaryFolder } from "../support/film.ts";
import { contents, prepare, quick, readManifestFile } from "../support/prepared.ts";

const folder = temporaryFolder();
const sources = join(folder, "sources");
const finished = join(folder, "first/set");
/** A copy of the finished set for each test, with a file beside it that must not change. */
let set: string;
let victim: string;
let count = 0;

beforeAll(async () => {
  mkdirSync(sources);
  const graph = "mandelbrot=s=320x180:r=16:start_scale=0.25:end_scale=0.05:end_pts=200:maxiter=200,trim=end=2";
  await makeFilm(join(sources, "film.mp4"), { graph: `${graph},scroll=h=0.003,format=yuv420p` });
  const data = Uint8Array.from({ length: 320 * 240 * 3 }, (_, i) => (i / 5) & 255);
  writeFileSync(join(sources, "picture.png"), await encodeImage({ width: 320, height: 240, data }, "png"));
  await prepare([sources], finished);
});

beforeEach(() => {
  const place = join(folder, `place-${count++}`);
  set = join(place, "set");
  victim = join(place, "victim.mp4");
  mkdirSync(place);
  cpSync(finished, set, { recursive: true });
  writeFileSync(victim, "not of the set");
});

function changeManifest(change: (manifest: DatasetManifest) => void): void {
  const manifest = readManifestFile(set);
  change(manifest);
  writeFileSync(join(set, "manifest.json"), JSON.stringify(manifest));
}

/** An item as `prepare` would have written it for the victim. */
const foreign = (manifest: DatasetManifest, more: Partial<ManifestItem>): ManifestItem => {
  const text = readFileSync(victim);
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { ...manifest.items[0]!, id: "gone", bytes: text.length, sha256, ...more };
};

/** Flips one bit in the middle of a file. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 0x10;
  writeFileSync(path, bytes);
}

const kept = (name: string, ending: string): string => {
  const place = join(set, ".kinora", name);
  return join(place, readdirSync(place).find((file) => file.endsWith(ending))!);
};

describe("a manifest that names files outside", () => {
  it.each<[string, Partial<ManifestItem>]>([
    ["above", { file: "../victim.mp4" }],
    ["above, after going down", { file: "videos/../../victim.mp4" }],
    ["from the root", { file: "/etc/hosts" }],
    ["by a drive", { file: "C:/victim.mp4" }],
    ["by Windows' separators", { file: "..\\victim.mp4" }],
    ["on another machine", { file: "\\\\server\\share\\victim.mp4" }],
    ["with a zero byte", { file: "videos/a\0.mp4" }],
    ["by its id", { id: "../../victim" }],
    ["by an id with a folder", { id: "a/b" }],
  ])("%s is an error for who reads it; preparing again leaves that file alone", async (_, more) => {
    changeManifest((manifest) => void manifest.items.push(foreign(manifest, more)));
    await expect(readManifest(set)).rejects.toMatchObject({
      code: "dataset.bad-manifest",
      hint: expect.stringContaining("same kinora dataset prepare command again"),
    });
    await expect(readCaptionFolder(set, { extension: ".txt" })).rejects.toMatchObject({ code: "dataset.bad-manifest" });
    const { summary } = await prepare([sources], set);
    expect(summary.notes).toEqual([expect.stringMatching(/^manifest\.json was damaged and will be rewritten: the /)]);
    expect(readFileSync(victim, "utf8")).toBe("not of the set");
    expect(readManifestFile(set).items).toEqual(readManifestFile(finished).items);
  });

  it.each<[string, (manifest: DatasetManifest) => void]>([
    ["two items of one name", ({ items }) => void items.push({ ...items[0]!, id: items[0]!.id.toUpperCase() })],
    ["an item of no source", ({ items }) => void Object.assign(items[0]!, { source: 99 })],
    ["a negative size", ({ items }) => void Object.assign(items[0]!.size!, { width: -16 })],
    ["frames without end", ({ items }) => void Object.assign(items[0]!, { frames: 1e12 })],
    ["a part of the picture that is none", ({ items }) => void Object.assign(items[0]!.crop!, { width: 0 })],
    ["a rate of nothing", (manifest) => void Object.assign(manifest, { fps: 0 })],
  ])("%s: an error with a hint", async (_, change) => {
    changeManifest(change);
    await expect(readManifest(set)).rejects.toMatchObject({ code: "dataset.bad-manifest" });
  });

  it("one cut off is an error with a hint; another tool's is none of ours; preparing again mends ours", async () => {
    const path = join(set, "manifest.json");
    const whole = readFileSync(path, "utf8");
    for (const text of [whole.slice(0, whole.length >> 1), ""]) {
      writeFileSync(path, text);
      await expect(readManifest(set)).rejects.toMatchObject({ code: "dataset.bad-manifest" });
    }
    const { summary } = await prepare([sources], set);
    expect(summary.notes).toEqual([expect.stringMatching(/^manifest\.json was damaged/)]);
    expect(summary.work).toMatchObject({ analysed: 0, rendered: 0 });
    expect(readFileSync(path, "utf8")).toBe(whole);
    const other = join(set, "other");
    mkdirSync(other);
    for (const text of ["{", "[]", '{"name": "an app"}']) {
      writeFileSync(join(other, "manifest.json"), text);
      expect(await readManifest(other)).toBeUndefined();
    }
  });
});

describe("links out of the set", () => {
  it.each(["videos", "images", "captions", ".kinora", ".kinora/rendered", ".kinora/results"])(
    "%s is refused before anything is written or removed there",
    async (name) => {
      const elsewhere = join(set, "../elsewhere");
      if (existsSync(join(set, name))) renameSync(join(set, name), elsewhere);
      else mkdirSync(elsewhere);
      writeFileSync(join(elsewhere, `${"a".repeat(32)}.json`), "theirs");
      const before = contents(elsewhere);
      symlinkSync(elsewhere, join(set, name));
      await expect(prepare([sources], set)).rejects.toMatchObject({
        code: "prepare.link-out",
        hint: expect.stringContaining("`out`"),
      });
      expect(contents(elsewhere)).toEqual(before);
    },
  );

  it("captions of a set in place are not written through one", async () => {
    const place = join(set, "../in-place");
    await prepare([sources], place, { ...quick, in_place: true });
    rmSync(join(place, "videos"), { recursive: true, force: true });
    symlinkSync(join(set, ".."), join(place, "videos"));
    await expect(readCaptionFolder(place, { extension: ".txt" })).rejects.toMatchObject({ code: "caption.link-out" });
  });

  it("nor is the journal of captions", async () => {
    rmSync(join(set, ".kinora"), { recursive: true });
    symlinkSync(join(set, ".."), join(set, ".kinora"));
    await expect(readJournal(set)).rejects.toMatchObject({ code: "caption.link-out" });
    expect(() => new Journal(set)).toThrow(expect.objectContaining({ code: "caption.link-out" }));
  });
});

describe("the work folder", () => {
  it("removes nothing that its notes of what it wrote name outside of the set", async () => {
    const sha256 = createHash("sha256").update(readFileSync(victim)).digest("hex");
    for (const name of ["../victim.mp4", "videos/../../victim.mp4", victim, "manifest.json"]) {
      writeFileSync(join(set, ".kinora/laid.json"), JSON.stringify({ [name]: [sha256] }));
      const { summary } = await prepare([sources], set);
      expect(summary.notes).toEqual([expect.stringMatching(/laid\.json names .* which is not an item of the set/)]);
      expect(existsSync(victim)).toBe(true);
    }
    writeFileSync(join(set, ".kinora/laid.json"), '["no", "journal"]');
    expect((await prepare([sources], set)).summary.notes).toEqual([expect.stringMatching(/laid\.json is malformed/)]);
  });

  it("keeps what it did not write", async () => {
    const theirs = [".kinora/results/notes.txt", ".kinora/strips/a.jpg", ".kinora/rendered/film.mp4"];
    for (const name of theirs) writeFileSync(join(set, name), "theirs");
    await prepare([sources], set);
    for (const name of theirs) expect(readFileSync(join(set, name), "utf8")).toBe("theirs");
  });

  it.each([
    ["an analysis", "results", ".json", { analysed: 1 }],
    ["a contact strip", "strips", ".jpg", { analysed: 1 }],
  ])("a flipped bit in %s is found, said and mended", async (_, name, ending, work) => {
    const path = kept(name, ending);
    flip(path);
    const { summary } = await prepare([sources], set);
    expect(summary.notes).toEqual([expect.stringContaining("had been changed and was rebuilt")]);
    expect(summary.work).toMatchObject(work);
    expect(contents(set)["videos/film.mp4"]).toBe(contents(finished)["videos/film.mp4"]);
    expect(readFileSync(path)).toEqual(readFileSync(path.replace(set, finished)));
    expect((await prepare([sources], set)).summary).toMatchObject({ notes: [], work: { analysed: 0, rendered: 0 } });
  });

  it("a flipped bit in a film of it is found before it is given to the set again", async () => {
    const path = kept("rendered", ".mp4");
    rmSync(join(set, "videos/film.mp4"));
    flip(path);
    const { summary } = await prepare([sources], set);
    expect(summary.notes).toEqual([expect.stringMatching(/rendered.*mp4 had been changed/)]);
    expect(summary.work.rendered).toBe(1);
    expect(contents(set)["videos/film.mp4"]).toBe(contents(finished)["videos/film.mp4"]);
  });

  it("results that are whole and hold other things than they should are not used", async () => {
    const path = kept("results", ".json");
    for (const text of ["{}", '{"clips": [{"first": -1}]}', "null", "no json"]) {
      const sha256 = createHash("sha256").update(text).digest("hex");
      writeFileSync(path, JSON.stringify({ sha256, strips: {}, text }));
      expect((await prepare([sources], set)).summary.work.analysed).toBe(1);
    }
    writeFileSync(join(set, ".kinora/content-hashes.json"), '{"version": 2, "files": {"a": 1}, "places": []}');
    expect((await prepare([sources], set)).summary.work).toMatchObject({ analysed: 0, rendered: 0 });
  });

  it("is one preparation's at a time, in one process too", async () => {
    await using _store = await WorkStore.open(set);
    await expect(WorkStore.open(set)).rejects.toMatchObject({ code: "prepare.busy" });
    await expect(prepare([sources], set)).rejects.toMatchObject({
      code: "prepare.busy",
      hint: expect.stringContaining("choose another `out` folder"),
    });
  });

  it("a lock that is damaged or was left by a process that is gone is taken over", async () => {
    for (const text of ["", "null", "12345", '{"pid": -1}', '{"pid": 999999999, "host": 1}', "x".repeat(10_000)]) {
      writeFileSync(join(set, ".kinora/lock"), text);
      await prepare([sources], set);
    }
    expect(existsSync(join(set, ".kinora/lock"))).toBe(false);
  });
});

describe.skipIf(process.platform === "win32")("pipes, sockets and devices", () => {
  const pipe = (path: string) => {
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    return path;
  };

  it("given as sources are named and not waited for, whatever their names", async () => {
    const place = join(set, "../pipes");
    mkdirSync(place);
    mkdirSync(join(place, "folder.mp4"));
    const names = ["film.mp4", "picture.png", "unknown"].map((name) => pipe(join(place, name)));
    const { problems } = await prepare([...names, place, "/dev/zero", join(sources, "film.mp4")], set);
    expect(problems.map(({ path, code }) => [path, code]).sort()).toEqual(
      [...names, "/dev/zero"].map((path) => [path, "media.not-a-file"]).sort(),
    );
  });

  it("in the place of a set's own files stop or are made anew, and are not waited for", async () => {
    const manifest = join(set, "manifest.json");
    rmSync(manifest);
    pipe(manifest);
    await expect(readManifest(set)).rejects.toMatchObject({ code: "dataset.bad-manifest" });
    rmSync(manifest);
    const lock = pipe(join(set, ".kinora/lock"));
    await expect(prepare([sources], set)).rejects.toMatchObject({ code: "io.not-a-file", hint: "remove it" });
    rmSync(lock);
    for (const path of [kept("results", ".json"), kept("strips", ".jpg"), join(set, ".kinora/laid.json")]) {
      rmSync(path);
      pipe(path);
      const outcome = await prepare([sources], set).then(
        ({ summary }) => summary.notes.length,
        (error: unknown) => isKinoraError(error),
      );
      expect(outcome, path).toBeTruthy();
    }
  });
});
