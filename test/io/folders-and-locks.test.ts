// Folders made where they are missing, and files that one process at a time holds.

import { spawnSync } from "node:child_process";
import fs, { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { hostname } from "node:os";
import { describe, expect, it } from "vitest";
import { makeFolder, sweepPartials } from "../../src/io/atomic.ts";
import { FileLock } from "../../src/io/file-lock.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

describe("a folder", () => {
  it("is made with those above it, by several at once, and again", async () => {
    await Promise.all(Array.from({ length: 8 }, () => makeFolder(path("a/b/c"))));
    await makeFolder(path("a/b/c"));
    expect(statSync(path("a/b/c")).isDirectory()).toBe(true);
  });

  it("cannot be made below a file", async () => {
    writeFileSync(path("file"), "");
    await expect(makeFolder(path("file"))).rejects.toMatchObject({ code: "io.not-a-folder" });
    await expect(makeFolder(path("file/below/it"))).rejects.toMatchObject({ code: "io.not-a-folder" });
  });

  it.skipIf(process.platform !== "linux")("where none can be is refused, and not tried for ever", async () => {
    await expect(makeFolder("/proc/kinora/below")).rejects.toMatchObject({ code: expect.stringMatching(/^io\./) });
  });
});

describe("what killed processes half wrote", () => {
  const { pid: gone } = spawnSync(process.execPath, ["--version"]);
  const old = new Date(Date.now() - 2 * 60 * 60 * 1000);
  const fill = (folder: string) => {
    mkdirSync(path(folder));
    const names = {
      abandoned: `.partial-${gone}-0123abcd.safetensors`,
      new: `.partial-${gone}-1123abcd.mp4`,
      living: `.partial-${process.ppid}-2123abcd.json`,
      other: "clip.mp4",
    };
    for (const name of Object.values(names)) writeFileSync(path(`${folder}/${name}`), "half");
    for (const name of [names.abandoned, names.living, names.other]) utimesSync(path(`${folder}/${name}`), old, old);
    return names;
  };

  it("is swept from a folder of one's own", async () => {
    const names = fill("own");
    await sweepPartials(path("own"), "all");
    expect(readdirSync(path("own"))).toEqual([names.other]);
  });

  it("is swept from a shared one where it is old and its process is gone", async () => {
    const names = fill("shared");
    await sweepPartials(path("shared"), "abandoned");
    expect(readdirSync(path("shared")).sort()).toEqual([names.new, names.living, names.other].sort());
  });

  it("need not be there", async () => {
    await sweepPartials(path("nowhere"), "all");
  });
});

describe("a lock", () => {
  const words = { code: "test.locked", message: "somebody has it", instead: "take another" };
  const holder = (pid: number, host = hostname()) =>
    JSON.stringify({ pid, host, token: "0123456789abcdef", since: "2024-01-01T00:00:00Z" });

  it("is held once, by this process too, and leaves nothing", () => {
    {
      using _lock = FileLock.take(path("once.lock"), words);
      expect(() => FileLock.take(path("once.lock"), words)).toThrow(
        expect.objectContaining({ code: "test.locked", hint: expect.stringMatching(/take another.*once\.lock/) }),
      );
    }
    expect(readdirSync(path(".")).filter((name) => name.includes("once"))).toEqual([]);
  });

  it.each([
    ["of a process of the same number, before this machine or container was started again", holder(process.pid)],
    ["that is no lock", "{"],
  ])("%s is taken over", (_what, content) => {
    writeFileSync(path("stale.lock"), content);
    using _lock = FileLock.take(path("stale.lock"), words);
    expect(existsSync(path("stale.lock"))).toBe(true);
  });

  it("is held where the file system has no hard links, too", () => {
    const { linkSync } = fs;
    // As exFAT answers.
    fs.linkSync = () => {
      throw Object.assign(new Error("EPERM: operation not permitted, link"), { code: "EPERM" });
    };
    syncBuiltinESMExports();
    try {
      {
        using _lock = FileLock.take(path("linkless.lock"), words);
        expect(() => FileLock.take(path("linkless.lock"), words)).toThrow(
          expect.objectContaining({ code: "test.locked" }),
        );
      }
      writeFileSync(path("linkless.lock"), holder(process.pid));
      FileLock.take(path("linkless.lock"), words)[Symbol.dispose]();
      expect(readdirSync(path(".")).filter((name) => name.includes("linkless"))).toEqual([]);
    } finally {
      fs.linkSync = linkSync;
      syncBuiltinESMExports();
    }
  });

  it("of another machine is left alone: nobody here knows whether its process lives", () => {
    writeFileSync(path("far.lock"), holder(1, "another-machine"));
    expect(() => FileLock.take(path("far.lock"), words)).toThrow(/process 1 on another-machine, since 2024/);
  });
});
