// The content of a registry: files under their SHA-256, stored once whoever publishes them, never changed.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rm, stat } from "node:fs/promises";
import { KinoraError } from "../base/errors.ts";
import { partialPath, replaceFile, writeError } from "../io/atomic.ts";
import { fileError } from "../io/files.ts";
import { sha256 } from "./log.ts";
import type { Storage } from "./storage/storage.ts";

export interface Content {
  bytes: number;
  sha256: string;
}

export const objectKey = (hash: string): string => `objects/${hash.slice(0, 2)}/${hash}`;

/** Size and hash of a file. Throws `io.*`, `io.not-a-file`. */
export async function contentOf(path: string): Promise<Content> {
  const sum = createHash("sha256");
  let bytes = 0;
  try {
    if (!(await stat(path)).isFile())
      throw new KinoraError("io.not-a-file", `${path} is not a regular file`, { hint: "give a regular file" });
    for await (const chunk of createReadStream(path, { highWaterMark: 4 << 20 })) {
      sum.update(chunk as Uint8Array);
      bytes += (chunk as Uint8Array).length;
    }
  } catch (error) {
    throw fileError(error, path);
  }
  return { bytes, sha256: sum.digest("hex") };
}

/** Stores a small value; returns its hash. */
export async function putValue(storage: Storage, data: Uint8Array): Promise<string> {
  const hash = sha256(data);
  await storage.create(objectKey(hash), data);
  return hash;
}

/** A small value by its hash. Throws `registry.object-missing`, `registry.object-damaged`. */
export async function getValue(storage: Storage, hash: string): Promise<Uint8Array> {
  const data = await storage.read(objectKey(hash));
  if (data === undefined) {
    throw new KinoraError("registry.object-missing", `${storage.place} lacks the object ${hash}`, {
      hint: "kinora registry verify lists everything that is missing",
    });
  }
  if (sha256(data) !== hash) throw damaged(storage.place, hash);
  return data;
}

/** Puts an object at `target`, whole and verified, or not at all. A file of that content that is there already stays. */
export async function fetchObject(storage: Storage, { sha256: hash, bytes }: Content, target: string): Promise<void> {
  const there = await stat(target).catch(() => undefined);
  if (there?.size === bytes && (await contentOf(target)).sha256 === hash) return;
  const partial = partialPath(target);
  try {
    await storage.fetchFile(objectKey(hash), partial);
    if ((await contentOf(partial)).sha256 !== hash) throw damaged(storage.place, hash);
    const file = await open(partial, "r+");
    await file.sync().finally(() => file.close());
    await replaceFile(partial, target);
  } catch (error) {
    throw error instanceof KinoraError ? error : writeError(error, target);
  } finally {
    await rm(partial, { force: true }).catch(() => {});
  }
}

/** Whether an object is there and is what its name says; reads all of it. */
export async function checkObject(
  storage: Storage,
  hash: string,
  scratch: string,
): Promise<"whole" | "missing" | "damaged"> {
  const local = storage.localPath(objectKey(hash));
  try {
    if (local !== undefined) return (await contentOf(local)).sha256 === hash ? "whole" : "damaged";
    await storage.fetchFile(objectKey(hash), scratch);
    return (await contentOf(scratch)).sha256 === hash ? "whole" : "damaged";
  } catch (error) {
    if (error instanceof KinoraError && /missing|not-found/.test(error.code)) return "missing";
    throw error;
  } finally {
    await rm(scratch, { force: true });
  }
}

function damaged(place: string, hash: string): KinoraError {
  return new KinoraError("registry.object-damaged", `${place} has different bytes under ${hash} than were published`, {
    hint: "kinora registry verify lists everything that was changed; restore the file from a backup",
  });
}
