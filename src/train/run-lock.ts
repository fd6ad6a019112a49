// One process at a time in a run's folder. A lock whose process is gone is taken over.
import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { writeError } from "../io/atomic.ts";

interface Holder {
  pid: number;
  host: string;
  token: string;
  since: string;
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Holder;
  } catch {
    return undefined;
  }
}

/** A process of another machine (a shared disk) counts as alive: it cannot be asked. */
function alive({ pid, host }: Holder): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export class RunLock implements Disposable {
  readonly #path: string;
  readonly #token: string;

  private constructor(path: string, token: string) {
    this.#path = path;
    this.#token = token;
  }

  /** Takes the folder, which is made where it is missing. Throws `train.locked`, `io.*`. */
  static take(folder: string): RunLock {
    const path = join(folder, ".lock");
    const token = randomBytes(8).toString("hex");
    const own = `${path}.${token}`;
    const holder: Holder = { pid: process.pid, host: hostname(), token, since: new Date().toISOString() };
    try {
      mkdirSync(folder, { recursive: true });
      writeFileSync(own, JSON.stringify(holder));
    } catch (error) {
      throw writeError(error, folder);
    }
    try {
      for (let attempt = 0; attempt < 5; attempt++) {
        try {
          // A link appears whole, and only where nothing is: unlike a new file that is written to.
          linkSync(own, path);
          return new RunLock(path, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw writeError(error, path);
        }
        const other = readHolder(path);
        if (other && alive(other)) throw locked(folder, other);
        removeStale(path, own, other?.token);
      }
      throw new KinoraError("train.locked", `${folder} changes hands too fast to be taken`);
    } finally {
      rmSync(own, { force: true });
    }
  }

  [Symbol.dispose](): void {
    if (readHolder(this.#path)?.token === this.#token) rmSync(this.#path, { force: true });
  }
}

function locked(folder: string, { pid, host, since }: Holder): KinoraError {
  const where = host === hostname() ? "" : ` on ${host}`;
  return new KinoraError("train.locked", `another run is at work in ${folder}`, {
    actual: `process ${pid}${where}, since ${since}`,
    hint: `wait for it or stop it, or choose another output; if that process is gone for good, remove ${join(folder, ".lock")}`,
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
      linkSync(aside, path);
    } catch {
      // A third process took the folder meanwhile.
    }
  }
  rmSync(aside, { force: true });
}
