// The hidden work folder of a preparation (DIR/.kinora): finished analyses, rendered files and contact strips, by content
// and settings. Everything in it can be made again, and is where it is not as it was written.
import { createHash } from "node:crypto";
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ZodType, z } from "zod";
import { finished } from "../../base/generators.ts";
import { makeFolder, replaceFile, sweepPartials, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { HashCache } from "../../io/content-hash.ts";
import { FileLock } from "../../io/file-lock.ts";
import { readBack, readBackText } from "../../io/read-back.ts";
import { sizeOf } from "../listing.ts";
import { workFolderName } from "../manifest.ts";
import { insideSet } from "./publish.ts";

/** Raised with every change that makes old analyses or renderings wrong. */
const formatVersion = 3;

/** A name for a result: the same for the same content and settings, nowhere else. */
export function keyOf(...parts: readonly unknown[]): string {
  return createHash("sha256")
    .update(JSON.stringify([formatVersion, ...parts]))
    .digest("hex")
    .slice(0, 32);
}

const textHash = (text: string): string => createHash("sha256").update(text).digest("hex");

export interface RenderedFile {
  bytes: number;
  sha256: string;
}

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const storeKey = z.string().regex(/^[0-9a-f]{32}$/);
const renderedFile = z.strictObject({ bytes: z.int().min(0), sha256 });
/** Results are kept as text beside its hash, and contact strips by theirs. */
const sealed = z.strictObject({ sha256, strips: z.record(storeKey, sha256), text: z.string() });

/** Files whose hashes are remembered: the sources and the files of a set. */
const mostHashes = 200_000;

const folders = ["results", "rendered", "strips"] as const;

/** What the store itself writes; nothing else in its folders is ever removed. */
const ownName = /^[0-9a-f]{32}\.(json|mp4|png|jpg)$/;

export class WorkStore implements AsyncDisposable {
  readonly folder: string;
  readonly #lock: FileLock;
  readonly #hashes: HashCache;
  /** Results and files that were there and not as they were written: each is made anew. */
  readonly damaged: string[] = [];

  private constructor(folder: string, lock: FileLock) {
    this.folder = folder;
    this.#lock = lock;
    this.#hashes = new HashCache(folder, { kept: mostHashes });
  }

  /**
   * Opens the work folder of `directory`, making both where they are missing, and takes its lock.
   * @throws KinoraError `prepare.busy` where another preparation runs there, in this process too; `prepare.link-out`;
   *   `io.*` where it cannot be written.
   */
  static async open(directory: string): Promise<WorkStore> {
    const folder = join(directory, workFolderName);
    await makeFolder(directory);
    for (const name of folders) await makeFolder(insideSet(directory, `${workFolderName}/${name}`));
    const lock = FileLock.take(join(folder, "lock"), {
      code: "prepare.busy",
      message: `another preparation is writing to ${JSON.stringify(directory)}`,
      instead: "choose another `out` folder",
    });
    for (const name of ["", ...folders]) await sweepPartials(join(folder, name), "all");
    return new WorkStore(folder, lock);
  }

  /** SHA-256 of a file, remembered for as long as the file does not change; `anew` reads it whatever is remembered. */
  async contentHash(path: string, how?: "anew"): Promise<string> {
    return await finished(this.#hashes.hash(path, how));
  }

  /** An analysis with its contact strips, whole; undefined where something of it is missing or damaged. */
  async result<T>(key: string, schema: ZodType<T>): Promise<T | undefined> {
    const path = join(this.folder, "results", `${key}.json`);
    const found = await readBack(path, sealed);
    if (found.state === "missing") return undefined;
    if (found.state === "read" && textHash(found.value.text) === found.value.sha256) {
      const result = readBackText(found.value.text, schema);
      if (result.state === "read" && (await this.#hasStrips(found.value.strips))) return result.value;
    }
    this.damaged.push(path);
    return undefined;
  }

  async #hasStrips(strips: Readonly<Record<string, string>>): Promise<boolean> {
    for (const [key, hash] of Object.entries(strips))
      if ((await this.contentHash(this.stripPath(key)).catch(() => undefined)) !== hash) return false;
    return true;
  }

  /** `strips`: the keys of those that belong to it and were written. */
  async saveResult(key: string, value: unknown, strips: readonly string[]): Promise<void> {
    const text = JSON.stringify(value);
    const hashes: Record<string, string> = {};
    for (const strip of strips) {
      const path = this.stripPath(strip);
      // A clip may have had no frame to show.
      if ((await sizeOf(path)) !== undefined) hashes[strip] = await this.contentHash(path);
    }
    const whole: z.infer<typeof sealed> = { sha256: textHash(text), strips: hashes, text };
    await writeFileAtomic(join(this.folder, "results", `${key}.json`), JSON.stringify(whole));
  }

  renderedPath(key: string, ending: string): string {
    return join(this.folder, "rendered", `${key}${ending}`);
  }

  /** What is known of a rendered file, if it was finished and still is what was written. */
  async rendered(key: string, ending: string): Promise<RenderedFile | undefined> {
    const path = this.renderedPath(key, ending);
    const note = await readBack(this.renderedPath(key, ".json"), renderedFile);
    if (note.state === "missing") return undefined;
    if (note.state === "read") {
      const { bytes, sha256: hash } = note.value;
      const size = await sizeOf(path);
      if (size === undefined) return undefined;
      if (size === bytes && (await this.contentHash(path)) === hash) return note.value;
    }
    this.damaged.push(path);
    return undefined;
  }

  /** Gives a finished film its name in the store. */
  async keepRendered(path: string, key: string, ending: string): Promise<RenderedFile> {
    const target = this.renderedPath(key, ending);
    try {
      await replaceFile(path, target);
    } catch (error) {
      throw writeError(error, target);
    }
    return await this.noteRendered(key, ending);
  }

  /** Notes a file that was just written under `renderedPath`. */
  async noteRendered(key: string, ending: string): Promise<RenderedFile> {
    const path = this.renderedPath(key, ending);
    const note = { bytes: (await stat(path)).size, sha256: await this.contentHash(path) };
    await writeFileAtomic(this.renderedPath(key, ".json"), JSON.stringify(note));
    return note;
  }

  stripPath(key: string): string {
    return join(this.folder, "strips", `${key}.jpg`);
  }

  async saveHashes(): Promise<void> {
    await this.#hashes.save();
  }

  /** Removes results that no item of the finished set needs. */
  async collect(needed: ReadonlySet<string>): Promise<void> {
    for (const name of folders)
      for (const file of await readdir(join(this.folder, name)))
        if (ownName.test(file) && !needed.has(file.slice(0, 32)))
          await rm(join(this.folder, name, file)).catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.saveHashes();
    this.#lock[Symbol.dispose]();
  }
}
