// Files that are there whole or not at all: written under another name in the same folder, then renamed.
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KinoraError } from "../base/errors.ts";
import { isBusyRename, isRunning, type Platform } from "../base/platform.ts";

/** A name beside `path` to write to before renaming. It keeps the ending, which some writers go by. */
export function partialPath(path: string): string {
  const dot = basename(path).lastIndexOf(".");
  const ending = dot > 0 ? basename(path).slice(dot) : "";
  return join(dirname(path), `.partial-${process.pid}-${randomBytes(4).toString("hex")}${ending}`);
}

export function isPartial(name: string): boolean {
  return /^\.partial-\d+-[0-9a-f]{8}/.test(name);
}

/** A partial file that nobody has written to for this long may be given up, where its process is gone. */
const ABANDONED = 60 * 60 * 1000;

/**
 * Removes what killed processes left half written in a folder, which need not be there. `all`: whoever calls holds the
 * folder alone. `abandoned`: others may be writing in it, on a shared disk those of other machines too, so that only
 * files that are old and whose process is gone on this one go. What cannot be removed stays.
 */
export async function sweepPartials(folder: string, which: "all" | "abandoned"): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!isPartial(name)) continue;
    const path = join(folder, name);
    if (which === "all" || (await isAbandoned(path))) await rm(path, { force: true }).catch(() => {});
  }
}

async function isAbandoned(path: string): Promise<boolean> {
  const { mtimeMs } = (await stat(path).catch(() => undefined)) ?? { mtimeMs: Number.POSITIVE_INFINITY };
  const [, pid] = /^\.partial-(\d+)-/.exec(basename(path))!;
  return Date.now() - mtimeMs > ABANDONED && !isRunning(Number(pid));
}

/** Turns the operating system's words for a failed write into ours. */
export function writeError(error: unknown, path: string): KinoraError {
  const code = (error as NodeJS.ErrnoException).code;
  const known: Record<string, [string, string]> = {
    ENOSPC: ["io.disk-full", "free disk space and run the same command again to continue"],
    EDQUOT: ["io.disk-full", "your disk quota is used up"],
    EFBIG: ["io.disk-full", "the file is too large for this file system: choose another disk"],
    ENOENT: ["io.not-found", "create the folder first"],
    EACCES: ["io.no-permission", "choose a folder that you can write to"],
    EPERM: ["io.no-permission", "choose a folder that you can write to"],
    EROFS: ["io.no-permission", "the disk is mounted read-only: choose another folder"],
    ENOTDIR: ["io.not-a-folder", "part of the path is a file: choose another folder"],
    EISDIR: ["io.not-a-file", "a folder has this name: move it away"],
    EEXIST: ["io.not-a-folder", "a file with this name exists: choose another folder"],
    ENAMETOOLONG: ["io.name-too-long", "choose a shorter path"],
  };
  const [stable, hint] = known[code ?? ""] ?? ["io.write-failed", "check the disk for errors"];
  return new KinoraError(stable, `writing ${JSON.stringify(path)}: ${(error as Error).message}`, {
    hint,
    cause: error,
  });
}

/** Makes a folder and those above it where they are missing. @throws KinoraError `io.*`. */
export async function makeFolder(path: string): Promise<void> {
  const there = async (folder: string) => (await stat(folder).catch(() => undefined))?.isDirectory() === true;
  if (await there(path)) return;
  const parent = dirname(path);
  // One at a time: Node's recursive form never ends where a folder is there and refuses to hold another, as /proc does.
  if (parent !== path && !(await there(parent))) await makeFolder(parent);
  try {
    await mkdir(path);
  } catch (error) {
    // Another process may have been first.
    if (!(await there(path))) throw writeError(error, path);
  }
}

/** Makes a renaming in a folder outlast a power cut. Windows cannot open a folder, and needs no such thing. */
export async function syncFolder(path: string): Promise<void> {
  try {
    await using folder = await open(path, "r");
    await folder.sync();
  } catch {
    // The file is complete either way.
  }
}

/** Pauses between tries at a file that another program has open: three quarters of a second in all. */
const BUSY_PAUSES_MS = [10, 20, 40, 80, 200, 400];

/** Renames over what is there. A file that is busy for a moment, as on Windows, is waited for. */
export async function replaceFile(
  from: string,
  to: string,
  { platform = process.platform, move = rename }: { platform?: Platform; move?: typeof rename } = {},
): Promise<void> {
  for (const pause of BUSY_PAUSES_MS) {
    try {
      return await move(from, to);
    } catch (error) {
      if (!isBusyRename(platform, error)) throw error;
      await delay(pause);
    }
  }
  await move(from, to);
}

/** Writes a file where there is none, down to the disk: it is to take another name. Throws as the file system does. */
export async function writeNewFile(path: string, data: Uint8Array | string): Promise<void> {
  const file = await open(path, "wx");
  try {
    await file.writeFile(data);
    // Some file systems rename before they write: a power cut would leave an empty file under the name.
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Writes a whole file: a reader, or a run after a kill or a power cut, sees the old content or the new, never a part. */
export async function writeFileAtomic(path: string, data: Uint8Array | string): Promise<void> {
  const partial = partialPath(path);
  try {
    await writeNewFile(partial, data);
    await replaceFile(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw writeError(error, path);
  }
  await syncFolder(dirname(path));
}
