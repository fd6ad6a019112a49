// A file that only one process at a time holds. A lock whose process is gone is taken over.
import { randomBytes } from "node:crypto";
import { constants, copyFileSync, linkSync, lstatSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { isRunning, refusesLinks } from "../base/platform.ts";
import { writeError } from "./atomic.ts";
import { readBackSync } from "./read-back.ts";

const holderSchema = z.object({ pid: z.int().positive(), host: z.string(), token: z.string(), since: z.string() });
type Holder = z.infer<typeof holderSchema>;

/** How a refusal reads. */
export interface LockedWords {
  code: string;
  /** e.g. `another run is at work in runs/style`. */
  message: string;
  /** What to do instead of waiting, e.g. `choose another output`. */
  instead: string;
}

/** Locks that this process holds. */
const held = new Set<string>();

/** A lock is a few words. */
const MOST_BYTES = 4096;

/** Undefined for one that is missing, half written or not a lock of ours. Throws `io.not-a-file` for what is no file. */
function readHolder(path: string): Holder | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return undefined;
  if (!found.isFile())
    throw new KinoraError("io.not-a-file", `${path} is not a regular file, so it cannot be used as a lock`, {
      hint: "remove it",
    });
  const holder = readBackSync(path, holderSchema, MOST_BYTES);
  return holder.state === "read" ? holder.value : undefined;
}

/** A process of another machine (a shared disk) counts as alive: it cannot be asked. */
function alive({ pid, host, token }: Holder): boolean {
  if (host !== hostname()) return true;
  // In a container that was started again, a process that was killed had the same number.
  return pid === process.pid ? held.has(token) : isRunning(pid);
}

/** Lets `to` be what `from` is, where nothing is at `to`; throws EEXIST otherwise. */
function place(from: string, to: string): void {
  try {
    // A link appears whole, unlike a new file that is written to.
    linkSync(from, to);
  } catch (error) {
    if (!refusesLinks(error)) throw error;
    copyFileSync(from, to, constants.COPYFILE_EXCL);
  }
}

/** Time in which a holder that makes its lock without links has written it. */
const WRITING_MS = 200;

/** Who holds a lock. One that cannot be read may just be coming to be: it gets a moment. */
function holderOf(path: string): Holder | undefined {
  const found = readHolder(path);
  if (found) return found;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WRITING_MS);
  return readHolder(path);
}

export class FileLock implements Disposable {
  readonly #path: string;
  readonly #token: string;

  private constructor(path: string, token: string) {
    this.#path = path;
    this.#token = token;
    held.add(token);
  }

  /** Takes the lock file `path`, in a folder that is there. Throws `words.code` where another holds it, `io.*`. */
  static take(path: string, words: LockedWords): FileLock {
    const token = randomBytes(8).toString("hex");
    const own = `${path}.${token}`;
    const holder: Holder = { pid: process.pid, host: hostname(), token, since: new Date().toISOString() };
    try {
      writeFileSync(own, JSON.stringify(holder));
    } catch (error) {
      throw writeError(error, path);
    }
    try {
      for (let attempt = 0; attempt < 5; attempt++) {
        try {
          place(own, path);
          return new FileLock(path, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw writeError(error, path);
        }
        const other = holderOf(path);
        if (other && alive(other)) throw locked(path, other, words);
        removeStale(path, own, other?.token);
      }
      throw new KinoraError(words.code, `${path} could not be acquired: it is contended`, { hint: "try again" });
    } finally {
      rmSync(own, { force: true });
    }
  }

  [Symbol.dispose](): void {
    held.delete(this.#token);
    if (readHolder(this.#path)?.token === this.#token) rmSync(this.#path, { force: true });
  }
}

function locked(path: string, { pid, host, since }: Holder, { code, message, instead }: LockedWords): KinoraError {
  const where = host === hostname() ? "" : ` on ${host}`;
  return new KinoraError(code, message, {
    actual: `process ${pid}${where}, since ${since}`,
    hint: `wait for it or stop it, or ${instead}; if that process no longer exists, remove ${path}`,
  });
}

/** Moves the lock of a process that is gone out of the way. Whoever moves it first wins; a newer lock is put back. */
function removeStale(path: string, own: string, token: string | undefined): void {
  const aside = `${own}.stale`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (readHolder(aside)?.token !== token) {
    try {
      place(aside, path);
    } catch {
      // A third process took it meanwhile.
    }
  }
  rmSync(aside, { force: true });
}
