// What a file holds, as a hash; computed once and remembered for as long as the file's size and time stay the same.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { KinoraError } from "../base/errors.ts";
import { finished } from "../base/generators.ts";
import { cacheFolderOf } from "../base/platform.ts";
import { makeFolder, writeFileAtomic } from "./atomic.ts";
import { fileError } from "./files.ts";
import { readBack } from "./read-back.ts";
import { readIndex } from "./sharded.ts";
import { findModels } from "./tensor-source.ts";

/** SHA-256 of a file's bytes, or of its shards' hashes; 64 hexadecimal digits. */
export type ContentHash = string & { readonly brand: "content-hash" };

export interface HashProgress {
  path: string;
  bytesDone: number;
  bytesTotal: number;
}

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/) as unknown as z.ZodType<ContentHash>;

const entrySchema = z.object({
  size: z.int().min(0),
  /** Nanoseconds, decimal. */
  modified: z.string(),
  /** Of the file itself: another file of the same size and time, moved to its place, has another. Decimal. */
  inode: z.string(),
  hash: hashSchema,
});

const rememberedSchema = z.object({
  version: z.literal(2),
  /** By real path, the longest unused first. */
  files: z.record(z.string(), entrySchema),
  /** Where content was last seen: a path as `hash` takes it. */
  places: z.record(z.string(), z.string()),
});
type Remembered = z.infer<typeof rememberedSchema>;

/** Entries beyond this are forgotten, the longest unused first. */
const KEPT = 2000;
/** Hashes of many small files are not written after each of them. */
const SAVE_EVERY = { milliseconds: 2000, bytes: 64 * 2 ** 20 };
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
      hint: "give the file itself",
    });
  }
  if (!path.endsWith(".index.json")) return [path];
  const shards = new Set(readIndex(path).values());
  return [path, ...[...shards].sort().map((shard) => join(dirname(path), shard))];
}

/** Hashes of one user's files, kept in one small file. Two processes may use it at once: the later one wins. */
export class HashCache {
  readonly #path: string;
  readonly #kept: number;
  #remembered: Promise<Remembered> | undefined;
  #changed = false;
  #saved = Number.NEGATIVE_INFINITY;
  #hashedSince = 0;

  /** @param folder where the file lies; made where it is missing */
  constructor(folder: string, { kept = KEPT }: { kept?: number } = {}) {
    this.#path = join(folder, "content-hashes.json");
    this.#kept = kept;
  }

  /**
   * The content hash of a file, an index of shards or a folder with one model; progress while it is computed. `anew`
   * reads the files whatever is remembered. What was learnt of small files in the last seconds is kept by `save`.
   * Throws `io.*` and `shards.*`.
   */
  async *hash(path: string, how?: "anew"): AsyncGenerator<HashProgress, ContentHash> {
    const files = await filesOf(path);
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    const bytesTotal = sizes.reduce((sum, size) => sum + size, 0);
    const hashes: ContentHash[] = [];
    let before = 0;
    for (const [i, file] of files.entries()) {
      for await (const step of this.#hashFile(file, how)) {
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
    const { milliseconds, bytes } = SAVE_EVERY;
    if (performance.now() - this.#saved > milliseconds || this.#hashedSince > bytes) await this.save();
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

  async *#hashFile(file: string, how: "anew" | undefined): AsyncGenerator<{ done: number } | ContentHash> {
    const { files } = await this.#load();
    const real = await realpath(file);
    const found = await stat(real, { bigint: true });
    // Reading a pipe would wait for its writer for ever.
    if (!found.isFile())
      throw new KinoraError("io.not-a-file", `${file} is not a regular file`, { hint: "give a regular file" });
    const [size, modified, inode] = [Number(found.size), String(found.mtimeNs), String(found.ino)];
    const known = how === "anew" ? undefined : files[real];
    if (known && known.size === size && known.modified === modified && known.inode === inode) {
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
    files[real] = { size, modified, inode, hash };
    this.#hashedSince += size;
    this.#changed = true;
    yield hash;
  }

  #load(): Promise<Remembered> {
    this.#remembered ??= readBack(this.#path, rememberedSchema).then(
      // None yet, or damaged: everything in it can be computed again.
      (found) => (found.state === "read" ? found.value : { version: 2, files: {}, places: {} }),
      () => ({ version: 2, files: {}, places: {} }),
    );
    return this.#remembered;
  }

  /** Keeps what was learnt. */
  async save(): Promise<void> {
    if (!this.#changed || !this.#remembered) return;
    this.#changed = false;
    const { files, places } = await this.#remembered;
    const newest = <T>(all: Record<string, T>) => Object.fromEntries(Object.entries(all).slice(-this.#kept));
    const kept: Remembered = { version: 2, files: newest(files), places: newest(places) };
    try {
      await makeFolder(dirname(this.#path));
      await writeFileAtomic(this.#path, JSON.stringify(kept));
    } catch {
      // A home that cannot be written to costs time at the next run, nothing else.
    }
    this.#saved = performance.now();
    this.#hashedSince = 0;
  }
}

function digest(text: string): ContentHash {
  return createHash("sha256").update(text).digest("hex") as ContentHash;
}
