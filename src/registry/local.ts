// What this machine keeps of registries: files under their hashes, and how references last resolved, so that what was used
// once can be used without the store.
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { isKinoraError } from "../base/errors.ts";
import { portableName } from "../base/platform.ts";
import { makeFolder, writeFileAtomic } from "../io/atomic.ts";
import { readBack } from "../io/read-back.ts";
import { type RegistryVersion, type VersionFile, versionSchema } from "../protocol/registry.ts";
import { type Address, formatAddress, type Reference } from "./address.ts";
import { fetchObject } from "./objects.ts";
import { inShare, type Registry, type Resolved } from "./registry.ts";

const rememberedSchema = z.object({
  current: z.string().optional(),
  trial: z.object({ version: z.string(), share: z.number() }).optional(),
  versions: z.record(z.string(), versionSchema as z.ZodType<RegistryVersion>),
});
type Remembered = z.infer<typeof rememberedSchema>;

/** Copies of files, and memories of references, in the cache folder. */
export class LocalCopies {
  readonly #folder: string;

  /** @param cacheFolder where this user's Kinora keeps what it can make again */
  constructor(cacheFolder: string) {
    this.#folder = join(cacheFolder, "registry");
  }

  /** A file of a version, fetched where it is not here yet. Throws `registry.object-*`, `io.*`, `s3.*`. */
  async file(open: () => Promise<Registry>, file: VersionFile): Promise<string> {
    const path = join(this.#folder, "files", file.sha256, portableName(file.path));
    // It was verified when it came, and appears whole or not at all.
    const there = await stat(path).catch(() => undefined);
    if (there?.size === file.bytes) return path;
    await makeFolder(dirname(path));
    await fetchObject((await open()).storage, file, path);
    return path;
  }

  #memory(place: string, address: Address): string {
    const name = createHash("sha256")
      .update(`${place}\n${formatAddress(address)}`)
      .digest("hex")
      .slice(0, 32);
    return join(this.#folder, "resolved", `${name}.json`);
  }

  async #recall(place: string, address: Address): Promise<Remembered | undefined> {
    const found = await readBack(this.#memory(place, address), rememberedSchema);
    return found.state === "read" ? found.value : undefined;
  }

  /** Keeps how a reference resolved. */
  async remember(registry: Registry, { address, version, manifest }: Resolved): Promise<void> {
    const place = registry.storage.place;
    const { current, trial } = await registry.state(address);
    const before = await this.#recall(place, address);
    const value: Remembered = {
      ...(current === undefined ? {} : { current }),
      ...(trial ? { trial: { version: trial.version, share: trial.share } } : {}),
      versions: { ...before?.versions, [version]: manifest },
    };
    const path = this.#memory(place, address);
    await makeFolder(dirname(path));
    await writeFileAtomic(path, JSON.stringify(value));
  }

  /** What a reference last meant on this machine; undefined where that is not known. */
  async recall(place: string, { address, which }: Reference, request: string): Promise<Resolved | undefined> {
    const known = await this.#recall(place, address);
    if (!known) return undefined;
    const { current, trial, versions } = known;
    const tried = trial && (which === "trial" || (which === "current" && inShare(address, request, trial.share)));
    const by = tried ? "trial" : which === "current" ? "current" : "version";
    const version = tried ? trial.version : which === "current" ? current : which;
    const manifest = version === undefined ? undefined : versions[version];
    return version !== undefined && manifest ? { address, version, by, manifest } : undefined;
  }
}

/** Whether an error says that a store cannot be reached, rather than what it holds. */
export function isUnreachable(error: unknown): boolean {
  if (!isKinoraError(error)) return false;
  return /^(?:io\.|s3\.unreachable$|s3\.failed$|registry\.not-a-store$)/.test(error.code);
}
