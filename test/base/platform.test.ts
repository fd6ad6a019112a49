import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import {
  cacheFolderOf,
  isBusyRename,
  isRunning,
  libraryFolders,
  libraryNames,
  nameKey,
  nameProblem,
  portableName,
  refusesLinks,
  stopSignals,
} from "../../src/base/platform.ts";

const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });

describe("folders", () => {
  it("keeps what can be made again in each system's own place", () => {
    const cache = (platform: NodeJS.Platform, home: string, environment = {}) =>
      cacheFolderOf({ platform, home, environment });
    expect(cache("linux", "/home/a")).toBe("/home/a/.cache/kinora");
    expect(cache("linux", "/home/a", { XDG_CACHE_HOME: "/var/c" })).toBe("/var/c/kinora");
    expect(cache("darwin", "/Users/a")).toBe("/Users/a/Library/Caches/kinora");
    expect(cache("win32", "C:\\Users\\a", { LOCALAPPDATA: "D:\\Local" })).toBe("D:\\Local\\kinora");
    expect(cache("win32", "C:\\Users\\a")).toBe("C:\\Users\\a\\AppData\\Local\\kinora");
    expect(cache("win32", "C:\\Users\\a", { KINORA_CACHE: "E:\\k" })).toBe("E:\\k");
  });
});

describe("libraries", () => {
  it("are named as each system's loader looks for them", () => {
    expect(libraryNames("linux", "dnnl", ["3", "2"])).toEqual(["libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"]);
    expect(libraryNames("darwin", "dnnl", ["3"])).toEqual(["libdnnl.3.dylib", "libdnnl.dylib"]);
    expect(libraryNames("win32", "dnnl", ["3"])).toEqual(["dnnl.dll"]);
  });

  it("lie in other folders of an environment on Windows", () => {
    expect(libraryFolders("linux", "/opt/conda")).toEqual(["/opt/conda/lib"]);
    expect(libraryFolders("win32", "C:\\conda")).toEqual(["C:\\conda\\Library\\bin", "C:\\conda\\bin"]);
  });
});

describe("links, renames, signals, processes", () => {
  it("tells a disk without hard links from a name that is taken", () => {
    for (const code of ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
      expect(refusesLinks(failure(code))).toBe(true);
    for (const code of ["EEXIST", "ENOSPC", "ENOENT"]) expect(refusesLinks(failure(code))).toBe(false);
  });

  it("waits for a busy file on Windows only", () => {
    for (const code of ["EPERM", "EACCES", "EBUSY"]) {
      expect(isBusyRename("win32", failure(code))).toBe(true);
      expect(isBusyRename("linux", failure(code))).toBe(false);
    }
    expect(isBusyRename("win32", failure("ENOENT"))).toBe(false);
  });

  it("listens for the signals a system has", () => {
    expect(stopSignals("win32")).toEqual(["SIGINT", "SIGBREAK", "SIGHUP"]);
    for (const platform of ["linux", "darwin"] as const) expect(stopSignals(platform)).toContain("SIGTERM");
  });

  it("knows a running process from one that is not there", () => {
    expect(isRunning(process.pid)).toBe(true);
    expect(isRunning(2 ** 22 + 12345)).toBe(false);
  });

  it.skipIf(process.platform !== "linux")("counts one that nobody has asked for since it ended as gone", async () => {
    // The shell becomes a program that never asks for the child.
    const parent = spawn("sh", ["-c", "sleep 0.1 & echo $!; exec sleep 30"], { stdio: ["ignore", "pipe", "ignore"] });
    const pid = Number(String((await once(parent.stdout, "data"))[0]));
    expect(isRunning(pid)).toBe(true);
    for (let i = 0; i < 100 && isRunning(pid); i++) await sleep(50);
    expect(isRunning(pid)).toBe(false);
    expect(() => process.kill(pid, 0)).not.toThrow();
    parent.kill();
  });
});

describe("names", () => {
  it("are compared as the least particular disk compares them", () => {
    expect(nameKey("Cafe\u0301.MP4")).toBe(nameKey("caf\u00e9.mp4"));
    expect(nameKey("a.mp4")).not.toBe(nameKey("b.mp4"));
  });

  it.each(["CON", "con.mp4", "LPT1.txt", "COM9", "nul", "com\u00b9.x"])("%s is a device on Windows", (name) => {
    expect(nameProblem(name)).toMatch(/device/);
    expect(nameProblem(portableName(name))).toBeUndefined();
  });

  it.each(["", ".", "..", "a:b", "a/b", "a\\b", "a.", "a ", "a\u0000b", "what?", "\u{1f642}".repeat(64)])(
    "%j cannot be used everywhere, what is made of it can",
    (name) => {
      expect(nameProblem(name)).toBeTypeOf("string");
      expect(nameProblem(portableName(name))).toBeUndefined();
    },
  );

  it.each(["style_v2.safetensors", "\u540d\u524d", "console.mp4", "a b", ".hidden", "com10"])("%s can", (name) => {
    expect(nameProblem(name)).toBeUndefined();
  });
});
