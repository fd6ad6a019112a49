// Content-addressed files: a name is the hash of everything that decides what is inside. Nothing is ever stale, files
// appear whole or not at all, and no sound entry is removed: several data sets and runs share one folder.
import { createHash } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { fromFloat32, toFloat32 } from "../base/float-formats.ts";
import type { Device } from "../device/device.ts";
import { makeFolder, sweepPartials } from "../io/atomic.ts";
import { hasChecksum, verifyChecksum, withChecksum } from "../io/checksum.ts";
import { SafetensorsFile } from "../io/safetensors.ts";
import { writeSafetensors } from "../io/safetensors-writer.ts";
import type { HostTensor } from "../tensor/host-tensor.ts";
import { cast } from "../tensor/ops/index.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";

const cacheKinds = ["latents", "texts"] as const;
export type CacheKind = (typeof cacheKinds)[number];

/** The hash of a cache key; 64 hexadecimal digits. */
export type CacheKey = string & { readonly brand: "cache-key" };

/** What decides the content: plain JSON values. The order of keys does not matter. */
export type KeyFacts = Readonly<Record<string, unknown>>;

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, ordered(inner)]));
}

export function cacheKey(facts: KeyFacts): CacheKey {
  return createHash("sha256")
    .update(JSON.stringify(ordered(facts)))
    .digest("hex") as CacheKey;
}

export class CacheStore {
  readonly folder: string;
  /** Entries that were held to their checksum. */
  readonly #checked = new Set<string>();

  constructor(folder: string) {
    this.folder = folder;
  }

  path(kind: CacheKind, key: CacheKey): string {
    return join(this.folder, kind, key.slice(0, 2), `${key}.safetensors`);
  }

  /** Removes what killed runs half wrote; what others may be writing stays. */
  async sweep(): Promise<void> {
    for (const kind of cacheKinds) {
      const folder = join(this.folder, kind);
      for (const part of await readdir(folder).catch(() => [])) await sweepPartials(join(folder, part), "abandoned");
    }
  }

  /**
   * Whether an entry is there and as it was written; reads all of it, once. `damaged`: it was not, and is removed, so that
   * it can be made again. Throws `io.not-a-file` where something else stands there.
   */
  look(kind: CacheKind, key: CacheKey): "sound" | "missing" | "damaged" {
    const path = this.path(kind, key);
    if (!existsSync(path)) return "missing";
    try {
      using file = SafetensorsFile.open(path);
      if (this.#isSound(path, file)) return "sound";
      // One of an older version is no damaged one.
      if (!hasChecksum(file)) return "missing";
    } catch (error) {
      // A folder or a pipe in its place is somebody else's, and not removed.
      if (!isKinoraError(error) || error.code === "io.not-a-file") throw error;
    }
    rmSync(path, { force: true });
    return "damaged";
  }

  #isSound(path: string, file: SafetensorsFile): boolean {
    if (!this.#checked.has(path) && verifyChecksum(file) === "right") this.#checked.add(path);
    return this.#checked.has(path);
  }

  /** Tensors of an entry on a device, float32, in the current scope: straight from the file, without a copy on the host. */
  load(device: Device, kind: CacheKind, key: CacheKey, names: readonly string[]): Tensor[] {
    using file = this.#open(kind, key);
    return names.map((name) => {
      const { dtype, shape } = file.info(name);
      const stored = empty(device, shape, dtype);
      stored.writeBytes(file.bytes(name));
      return cast(stored, "f32");
    });
  }

  /** The same on the host, by name. Throws `cache.damaged`, `io.*`, `safetensors.*`, `tensors.unknown-name`. */
  read(kind: CacheKind, key: CacheKey, names: readonly string[]): HostTensor[] {
    using file = this.#open(kind, key);
    return names.map((name) => {
      const { dtype, shape } = file.info(name);
      return { values: toFloat32(file.bytes(name), dtype), shape };
    });
  }

  /** An entry that is as it was written; one that is not is removed: it can be made again. */
  #open(kind: CacheKind, key: CacheKey): SafetensorsFile {
    const path = this.path(kind, key);
    const file = SafetensorsFile.open(path);
    if (this.#isSound(path, file)) return file;
    file[Symbol.dispose]();
    rmSync(path, { force: true });
    throw new KinoraError("cache.damaged", `${path} has changed since it was written`, {
      hint: "it was removed; run the same command again to rebuild it, and check the disk for errors",
    });
  }

  /** `facts` are kept in the file for a person who wonders what it is. */
  async write(
    kind: CacheKind,
    key: CacheKey,
    tensors: Readonly<Record<string, HostTensor>>,
    dtype: "f32" | "bf16",
    facts: KeyFacts,
  ): Promise<void> {
    const path = this.path(kind, key);
    await makeFolder(dirname(path));
    const entries = Object.entries(tensors).map(([name, { values, shape }]) => ({
      name,
      dtype,
      shape,
      bytes: fromFloat32(values, dtype),
    }));
    const metadata = { kind: `kinora.${kind}`, facts: JSON.stringify(ordered(facts)) };
    await writeSafetensors(path, entries, withChecksum(entries, metadata));
    this.#checked.delete(path);
  }
}
