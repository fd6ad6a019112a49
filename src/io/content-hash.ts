// What a file holds, as a hash; computed once and remembered for as long as the file's size and time stay the same.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { finished } from "../base/generators.ts";
import { cacheFolderOf } from "../base/platform.ts";
import { makeFolder, writeFileAtomic } from "./atomic.ts";
import { fileError } from "./files.ts";
import { readIndex } from "./sharded.ts";
import { findModels } from "./tensor-source.ts";

/** SHA-256 of a file's bytes, or of its shards' hashes; 64 hexadecimal digits. */
export type ContentHash = string & { readonly brand: "content-hash" };

export interface HashProgress {
  path: string;
  bytesDone: number;
  bytesTotal: number;
}

interface Entry {
  size: number;
  /** Nanoseconds, decimal. */
  modified: string;
  hash: ContentHash;
}

interface Remembered {
  version: 1;
  /** By real path, the longest unused first. */
  files: Record<string, Entry>;
  /** Where content was last seen: a path as `hash` takes it. */
  places: Record<string, string>;
}

/** Entries beyond this are forgotten, the longest unused first. */
const KEPT = 2000;
/** Bytes between two reports. */
const REPORT = 256 * 2 ** 20;

/** Where this user's Kinora keeps what it can make again: KINORA_CACHE, or `kinora` in the system's usual place. */
export function cacheFolder(environment: NodeJS.ProcessEnv): string {
  return cacheFolderOf({ platform: process.platform, environment, home: homedir() });
}

/** The files that make up one model: a file, or an index with its shards. Throws as opening it does. */
async function filesOf(path: string): Promise<string[]> {
  let found: Awaited<ReturnType<typeof stat>>;
  try {
    found = await stat(path);
  } catch (error) {
    throw fileError(error, path);
  }
  if (found.isDirectory()) {
    const models = findModels(path, 0);
    if (models.length === 1) return filesOf(models[0]!);
    throw new KinoraError("io.ambiguous-folder", `${path} holds ${models.length} models`, {
      hint: "name the file you mean",
    });
  }
  if (!path.endsWith(".index.json")) return [path];
  const shards = new Set(readIndex(path).values());
  return [path, ...[...shards].sort().map((shard) => join(dirname(path), shard))];
}

/** Hashes of one user's files, kept in one small file. Two processes may use it at once: the later one wins. */
export class HashCache {
  readonly #path: string;
  #remembered: Remembered | undefined;
  #changed = false;

  /** @param folder where the file lies; made where it is missing */
  constructor(folder: string) {
    this.#path = join(folder, "content-hashes.json");
  }

  /**
   * The content hash of a file, an index of shards or a folder with one model; progress while it is computed.
   * Throws `io.*` and `shards.*`.
   */
  async *hash(path: string): AsyncGenerator<HashProgress, ContentHash> {
    const files = await filesOf(path);
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    const bytesTotal = sizes.reduce((sum, size) => sum + size, 0);
    const hashes: ContentHash[] = [];
    let before = 0;
    for (const [i, file] of files.entries()) {
      for await (const step of this.#hashFile(file)) {
        if (typeof step === "string") hashes.push(step);
        else yield { path, bytesDone: before + step.done, bytesTotal };
      }
      before += sizes[i]!;
    }
    const whole = files.length === 1 ? hashes[0]! : digest(hashes.join("\n"));
    const { places } = await this.#load();
    const place = resolve(path);
    if (places[whole] !== place) {
      delete places[whole];
      places[whole] = place;
      this.#changed = true;
    }
    await this.#save();
    return whole;
  }

  /** Where content with this hash still lies on this machine, as far as is known. */
  async find(hash: string): Promise<string | undefined> {
    const place = (await this.#load()).places[hash];
    if (place === undefined) return undefined;
    try {
      return (await finished(this.hash(place))) === hash ? place : undefined;
    } catch {
      // Gone or broken since: then it is not there.
      return undefined;
    }
  }

  async *#hashFile(file: string): AsyncGenerator<{ done: number } | ContentHash> {
    const { files } = await this.#load();
    const real = await realpath(file);
    const { size, mtimeNs } = await stat(real, { bigint: true });
    const modified = String(mtimeNs);
    const known = files[real];
    if (known && known.size === Number(size) && known.modified === modified) {
      yield known.hash;
      return;
    }
    const sum = createHash("sha256");
    let done = 0;
    let reported = 0;
    try {
      for await (const chunk of createReadStream(real, { highWaterMark: 4 << 20 })) {
        sum.update(chunk as Uint8Array);
        done += (chunk as Uint8Array).length;
        if (done - reported < REPORT) continue;
        reported = done;
        yield { done };
      }
    } catch (error) {
      throw fileError(error, file);
    }
    const hash = sum.digest("hex") as ContentHash;
    delete files[real];
    files[real] = { size: Number(size), modified, hash };
    this.#changed = true;
    yield hash;
  }

  async #load(): Promise<Remembered> {
    if (this.#remembered) return this.#remembered;
    let found: Partial<Remembered> = {};
    try {
      found = JSON.parse(await readFile(this.#path, "utf8")) as Partial<Remembered>;
    } catch {
      // None yet, or unreadable: everything in it can be computed again.
    }
    const usable = found?.version === 1;
    this.#remembered = {
      version: 1,
      files: usable ? (found.files ?? {}) : {},
      places: usable ? (found.places ?? {}) : {},
    };
    return this.#remembered;
  }

  async #save(): Promise<void> {
    if (!this.#changed || !this.#remembered) return;
    const { files, places } = this.#remembered;
    const newest = <T>(all: Record<string, T>) => Object.fromEntries(Object.entries(all).slice(-KEPT));
    const kept: Remembered = { version: 1, files: newest(files), places: newest(places) };
    try {
      await makeFolder(dirname(this.#path));
      await writeFileAtomic(this.#path, JSON.stringify(kept));
      this.#changed = false;
    } catch {
      // A home that cannot be written to costs time at the next run, nothing else.
    }
  }
}

function digest(text: string): ContentHash {
  return createHash("sha256").update(text).digest("hex") as ContentHash;
}
