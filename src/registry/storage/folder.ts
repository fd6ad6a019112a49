// A registry in a folder: on a disk of this machine, or on one that a team shares.
import { constants } from "node:fs";
import { chmod, copyFile, link, open, readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { refusesLinks } from "../../base/platform.ts";
import {
  isPartial,
  makeFolder,
  partialPath,
  syncFolder,
  writeError,
  writeFileAtomic,
  writeNewFile,
} from "../../io/atomic.ts";
import { fileError, readPlainFile } from "../../io/files.ts";
import type { Storage, StoredKey } from "./storage.ts";

/** The largest document (an event, a manifest of a version) that is read whole; weights are copied. */
const mostBytes = 64 * 2 ** 20;

const code = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

export class FolderStorage implements Storage {
  readonly place: string;

  constructor(folder: string) {
    this.place = folder;
  }

  localPath(key: string): string {
    return join(this.place, ...key.split("/"));
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    const path = this.localPath(key);
    try {
      return await readPlainFile(path, mostBytes);
    } catch (error) {
      if (isKinoraError(error, "io.not-found")) return undefined;
      throw error;
    }
  }

  async create(key: string, data: Uint8Array): Promise<boolean> {
    const path = this.localPath(key);
    await makeFolder(dirname(path));
    const partial = partialPath(path);
    try {
      await writeNewFile(partial, data);
      return await this.#claim(partial, path);
    } catch (error) {
      throw error instanceof KinoraError ? error : writeError(error, path);
    } finally {
      await rm(partial, { force: true }).catch(() => {});
    }
  }

  /** A link appears whole and never over another; where the disk has none, an exclusive copy. */
  async #claim(partial: string, path: string): Promise<boolean> {
    try {
      await link(partial, path);
    } catch (error) {
      if (code(error) === "EEXIST") return false;
      if (!refusesLinks(error)) throw error;
      try {
        await copyFile(partial, path, constants.COPYFILE_EXCL);
      } catch (copyError) {
        if (code(copyError) === "EEXIST") return false;
        throw copyError;
      }
    }
    await syncFolder(dirname(path));
    return true;
  }

  async replace(key: string, data: Uint8Array): Promise<void> {
    const path = this.localPath(key);
    await makeFolder(dirname(path));
    await writeFileAtomic(path, data);
  }

  async storeFile(key: string, source: string, { bytes }: { bytes: number; sha256: string }): Promise<void> {
    const path = this.localPath(key);
    const there = await stat(path).catch(() => undefined);
    if (there?.size === bytes) return;
    await makeFolder(dirname(path));
    const partial = partialPath(path);
    try {
      // A link would let the source's owner change the object.
      await copyFile(source, partial, constants.COPYFILE_FICLONE);
      const file = await open(partial, "r+");
      try {
        await file.sync();
      } finally {
        await file.close();
      }
      // Deployed files may be links to this one: whoever would write into one is refused.
      await chmod(partial, 0o444);
      await this.#claim(partial, path);
    } catch (error) {
      throw error instanceof KinoraError ? error : writeError(error, path);
    } finally {
      await rm(partial, { force: true }).catch(() => {});
    }
  }

  async fetchFile(key: string, target: string): Promise<void> {
    const path = this.localPath(key);
    const found = await stat(path).catch(() => undefined);
    // Copying a pipe would wait for its writer for ever.
    if (!found?.isFile()) throw missing(key, this.place);
    await copyFile(path, target).catch((error: unknown) => {
      throw code(error) === "ENOENT" ? missing(key, this.place) : writeError(error, target);
    });
  }

  async *list(prefix: string): AsyncGenerator<StoredKey> {
    const slash = prefix.lastIndexOf("/");
    const folder = slash < 0 ? "" : prefix.slice(0, slash);
    for await (const entry of this.#below(folder)) if (entry.key.startsWith(prefix)) yield entry;
  }

  async *#below(folder: string): AsyncGenerator<StoredKey> {
    const path = this.localPath(folder);
    let entries: string[];
    try {
      entries = (await readdir(path)).sort();
    } catch (error) {
      if (code(error) === "ENOENT" || code(error) === "ENOTDIR") return;
      throw fileError(error, path);
    }
    for (const name of entries) {
      if (isPartial(name)) continue;
      const key = folder === "" ? name : `${folder}/${name}`;
      const info = await stat(this.localPath(key)).catch(() => undefined);
      if (info?.isDirectory()) yield* this.#below(key);
      else if (info?.isFile()) yield { key, bytes: info.size, modified: info.mtimeMs };
    }
  }

  async remove(key: string): Promise<void> {
    await rm(this.localPath(key), { force: true });
  }
}

/** An object that a version names and the store lacks. */
export function missing(key: string, place: string): KinoraError {
  return new KinoraError("registry.object-missing", `${place} lacks ${key}`, {
    hint: "kinora registry verify lists everything that is missing; publish the same files again to bring it back",
  });
}
