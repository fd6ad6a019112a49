// The hidden work folder of a preparation (DIR/.kinora): finished analyses and rendered files, by content and settings.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, rm, stat, unlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { isPartial, makeFolder, partialPath, writeError, writeFileAtomic } from "../../io/atomic.ts";

/** Raised with every change that makes old analyses or renderings wrong. */
const formatVersion = 1;

/** Milliseconds between two signs of life on the lock. */
const heartbeat = 10_000;

/** A name for a result: the same for the same content and settings, nowhere else. */
export function keyOf(...parts: readonly unknown[]): string {
  return createHash("sha256")
    .update(JSON.stringify([formatVersion, ...parts]))
    .digest("hex")
    .slice(0, 32);
}

export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

export interface RenderedFile {
  bytes: number;
  sha256: string;
}

interface KnownHash {
  size: number;
  modified: number;
  inode: number;
  sha256: string;
}

export class WorkStore implements AsyncDisposable {
  readonly folder: string;
  readonly #hashes: Map<string, KnownHash>;
  #hashesChanged = false;
  readonly #heartbeat: NodeJS.Timeout;

  private constructor(folder: string, hashes: Map<string, KnownHash>) {
    this.folder = folder;
    this.#hashes = hashes;
    this.#heartbeat = setInterval(() => {
      const now = new Date();
      utimes(join(folder, "lock"), now, now).catch(() => {});
    }, heartbeat);
    this.#heartbeat.unref();
  }

  /**
   * Opens the work folder of `directory`, making both where they are missing, and takes its lock.
   * @throws KinoraError `prepare.busy` where another preparation runs there, `io.*` where it cannot be written.
   */
  static async open(directory: string): Promise<WorkStore> {
    const folder = join(directory, ".kinora");
    await makeFolder(directory);
    for (const name of ["results", "rendered", "strips"]) await makeFolder(join(folder, name));
    try {
      await takeLock(join(folder, "lock"), directory);
    } catch (error) {
      throw error instanceof KinoraError ? error : writeError(error, directory);
    }
    const store = new WorkStore(folder, new Map(Object.entries((await readJson(join(folder, "hashes.json"))) ?? {})));
    await store.#sweep();
    return store;
  }

  /** SHA-256 of a file, remembered for as long as its size, time and inode stay. */
  async contentHash(path: string): Promise<string> {
    const { size, mtimeMs: modified, ino: inode } = await stat(path);
    const known = this.#hashes.get(path);
    if (known && known.size === size && known.modified === modified && known.inode === inode) return known.sha256;
    const sha256 = await hashFile(path);
    this.#hashes.set(path, { size, modified, inode, sha256 });
    this.#hashesChanged = true;
    return sha256;
  }

  async result<T>(key: string): Promise<T | undefined> {
    return await readJson<T>(join(this.folder, "results", `${key}.json`));
  }

  async saveResult(key: string, value: unknown): Promise<void> {
    await writeFileAtomic(join(this.folder, "results", `${key}.json`), JSON.stringify(value));
  }

  renderedPath(key: string, ending: string): string {
    return join(this.folder, "rendered", `${key}${ending}`);
  }

  /** What is known of a rendered file, if it was finished. */
  async rendered(key: string, ending: string): Promise<RenderedFile | undefined> {
    const note = await readJson<RenderedFile>(this.renderedPath(key, ".json"));
    if (!note) return undefined;
    const size = await stat(this.renderedPath(key, ending)).then(
      (info) => info.size,
      () => -1,
    );
    return size === note.bytes ? note : undefined;
  }

  /** Gives a finished film its name in the store. */
  async keepRendered(path: string, key: string, ending: string): Promise<RenderedFile> {
    const target = this.renderedPath(key, ending);
    try {
      await rename(path, target);
    } catch (error) {
      throw writeError(error, target);
    }
    return await this.noteRendered(key, ending);
  }

  /** Notes a file that was just written under `renderedPath`. */
  async noteRendered(key: string, ending: string): Promise<RenderedFile> {
    const path = this.renderedPath(key, ending);
    const note = { bytes: (await stat(path)).size, sha256: await hashFile(path) };
    await writeFileAtomic(this.renderedPath(key, ".json"), JSON.stringify(note));
    return note;
  }

  stripPath(key: string): string {
    return join(this.folder, "strips", `${key}.jpg`);
  }

  async saveHashes(): Promise<void> {
    if (!this.#hashesChanged) return;
    await writeFileAtomic(join(this.folder, "hashes.json"), JSON.stringify(Object.fromEntries(this.#hashes)));
    this.#hashesChanged = false;
  }

  /** Removes results that no item of the finished set needs. */
  async collect(needed: ReadonlySet<string>): Promise<void> {
    for (const name of ["results", "rendered", "strips"])
      for (const file of await readdir(join(this.folder, name)))
        if (!needed.has(file.replace(/\.[^.]*$/, ""))) await unlink(join(this.folder, name, file)).catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#heartbeat);
    await this.saveHashes().catch(() => {});
    await rm(join(this.folder, "lock"), { force: true });
  }

  /** What a killed run left half written. */
  async #sweep(): Promise<void> {
    for (const name of ["", "results", "rendered", "strips"])
      for (const file of await readdir(join(this.folder, name)))
        if (isPartial(file)) await rm(join(this.folder, name, file), { force: true });
  }
}

/** The content of a JSON file; undefined where it is missing or was cut off. */
async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as T;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** A file with our process id. One whose process is gone, or shows no life, was left by a kill and is taken over. */
async function takeLock(path: string, directory: string): Promise<void> {
  const owner = Number(await readFile(path, "utf8").catch(() => ""));
  const touched = await stat(path).then(
    (info) => info.mtimeMs,
    () => 0,
  );
  const fresh = Date.now() - touched < 6 * heartbeat;
  if (owner > 0 && owner !== process.pid && fresh && isAlive(owner))
    throw new KinoraError(
      "prepare.busy",
      `another preparation (process ${owner}) writes to ${JSON.stringify(directory)}`,
      {
        hint: "wait for it, or choose another folder with --out",
      },
    );
  const own = partialPath(path);
  const file = await open(own, "wx");
  try {
    await file.writeFile(String(process.pid));
  } finally {
    await file.close();
  }
  await rename(own, path);
}
