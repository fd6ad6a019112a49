import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { insideFolder, isInside, relativePathFault } from "../../src/io/inside.ts";

const words = { code: "test.outside", file: "set/manifest.json", hint: "write it again" };
let place: string;
let set: string;

beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), "kinora-inside-"));
  set = join(place, "set");
  mkdirSync(join(set, "videos", "deep"), { recursive: true });
  mkdirSync(join(place, "other"));
  writeFileSync(join(place, "other", "a.mp4"), "a");
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

describe("relative paths", () => {
  it.each(["a.mp4", "videos/a.mp4", "videos/..a", "videos/a..b", "名前/é.mp4", "ab:c"])("%j is fine", (path) => {
    expect(relativePathFault(path, "linux")).toBeUndefined();
    expect(insideFolder(set, path, words)).toBe(join(set, path));
  });

  it.each([
    "",
    "/etc/passwd",
    "..",
    "../a",
    "videos/../../a",
    "videos/..",
    "./a",
    "videos//a",
    "videos/",
    "C:/a",
    "c:a",
    "C:\\a",
    "\\\\server\\share\\a",
    "//server/share",
    "..\\a",
    "a\0.mp4",
  ])("%j is refused", (path) => {
    expect(relativePathFault(path, "linux")).toBeTypeOf("string");
    expect(relativePathFault(path, "win32")).toBeTypeOf("string");
    expect(() => insideFolder(set, path, words)).toThrow(expect.objectContaining({ code: "test.outside" }));
  });

  it.each(["con", "NUL.txt", "a.", "a ", "a:b", "a?"])("%j is refused on Windows alone", (name) => {
    expect(relativePathFault(`videos/${name}`, "win32")).toBeTypeOf("string");
    expect(relativePathFault(`videos/${name}`, "linux")).toBeUndefined();
  });

  it("says what was wrong, where, and what to do", () => {
    expect(() => insideFolder(set, "../a", words)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('set/manifest.json names "../a", which points outside the folder'),
        hint: "write it again",
      }),
    );
  });
});

describe("symbolic links", () => {
  it("are followed where they stay inside and refused where they lead out or nowhere", () => {
    symlinkSync(join(set, "videos", "deep"), join(set, "inner"));
    symlinkSync(join(place, "other"), join(set, "outer"));
    symlinkSync(join(place, "other", "a.mp4"), join(set, "videos", "link.mp4"));
    symlinkSync(join(place, "missing"), join(set, "dangling"));
    expect(insideFolder(set, "inner/a.mp4", words)).toBe(join(set, "inner", "a.mp4"));
    expect(() => insideFolder(set, "outer/a.mp4", words)).toThrow(/link that points outside/);
    expect(() => insideFolder(set, "outer/new/b.mp4", words)).toThrow(/link that points outside/);
    expect(() => insideFolder(set, "videos/link.mp4", words)).toThrow(/link that points outside/);
    expect(() => insideFolder(set, "dangling", words)).toThrow(/goes through a broken link/);
  });

  it("may lead to the folder itself", () => {
    symlinkSync(set, join(place, "by-link"));
    expect(insideFolder(join(place, "by-link"), "videos/new.mp4", words)).toBe(
      join(place, "by-link", "videos", "new.mp4"),
    );
  });
});

it("knows what lies below a folder by name", () => {
  expect(isInside("/a/b", "/a/b")).toBe(true);
  expect(isInside("/a/b", "/a/b/..c")).toBe(true);
  expect(isInside("/a/b", "/a/bc")).toBe(false);
  expect(isInside("/a/b", "/a")).toBe(false);
});
