// Lays a store out as people know it: KIND/PROJECT/NAME_vN_YYYYMMDD.safetensors beside training_notes.md, for ComfyUI's
// models/loras or a network share. Hard links where the store is on the same disk (objects are read-only), else verified
// copies. A project's training_notes.md has a chapter for each name.
import { link, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { portableName, refusesLinks } from "../base/platform.ts";
import { makeFolder, writeFileAtomic } from "../io/atomic.ts";
import { readPlainFile } from "../io/files.ts";
import { type LoraKind, loraKinds, type RegistryVersion, type VersionFile } from "../protocol/registry.ts";
import type { Address } from "./address.ts";
import { changelog, trainingNotes } from "./notes.ts";
import { contentOf, fetchObject, objectKey } from "./objects.ts";
import type { Registry } from "./registry.ts";

/** What {@link deployStore} lays out. */
export interface DeployOptions {
  kind?: LoraKind | undefined;
  /** `all` lays out every version that is not deprecated, `current` only what is in production. */
  versions?: "all" | "current";
}

/** A file is in place. */
export interface DeployEvent {
  type: "deployed";
  file: string;
  /** Whether it had to be written. */
  written: boolean;
}

/** `tst_v2_20261128.safetensors`; experts are told before the version: `tst_high_noise_v2_20261128.safetensors`. */
export function deployedName(address: Address, { version, published }: RegistryVersion, file: VersionFile): string {
  const date = published.slice(0, 10).replaceAll("-", "");
  const expert = file.expert === "high" || file.expert === "low" ? `_${file.expert}_noise` : "";
  const ending = /\.[A-Za-z0-9]{1,12}$/.exec(file.path)?.[0] ?? "";
  return `${portableName(address.name)}${expert}_${version}_${date}${ending.toLowerCase()}`;
}

/** Yields each file as it is there. Files of other tools in the folder stay. Throws `io.*`, `registry.*`. */
export async function* deployStore(
  registry: Registry,
  folder: string,
  { kind, versions = "all" }: DeployOptions = {},
): AsyncGenerator<DeployEvent, { files: number }> {
  let files = 0;
  /** Chapters by folder. */
  const notes = new Map<string, string[]>();
  for await (const address of registry.names(kind)) {
    const state = await registry.state(address);
    const place = join(folder, loraKinds[address.kind], portableName(address.project));
    const wanted = [...state.versions.values()].filter(({ version, deprecated }) =>
      versions === "current" ? version === state.current : !deprecated,
    );
    if (wanted.length === 0) continue;
    await makeFolder(place);
    for (const { version } of wanted) {
      const manifest = await registry.version(address, version, state);
      for (const file of manifest.files.filter(({ role }) => role === "lora")) {
        const target = join(place, deployedName(address, manifest, file));
        const written = await layOut(registry, file, target);
        files++;
        yield { type: "deployed", file: target, written };
      }
    }
    notes.set(place, [...(notes.get(place) ?? []), await trainingNotes(registry, address, state)]);
  }
  for (const [place, chapters] of notes) {
    const file = join(place, "training_notes.md");
    files++;
    yield { type: "deployed", file, written: await writeIfOther(file, chapters.join("\n")) };
  }
  const log = join(folder, "CHANGELOG.md");
  await makeFolder(folder);
  yield { type: "deployed", file: log, written: await writeIfOther(log, await changelog(registry)) };
  return { files: files + 1 };
}

async function layOut(registry: Registry, file: VersionFile, target: string): Promise<boolean> {
  const there = await contentOf(target).catch(() => undefined);
  if (there?.sha256 === file.sha256) return false;
  const local = registry.storage.localPath(objectKey(file.sha256));
  await makeFolder(dirname(target));
  if (local !== undefined) {
    await rm(target, { force: true });
    try {
      await link(local, target);
      return true;
    } catch (error) {
      if (!refusesLinks(error) && (error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    }
  }
  await fetchObject(registry.storage, file, target);
  return true;
}

async function writeIfOther(path: string, text: string): Promise<boolean> {
  const there = await readPlainFile(path, text.length * 4).catch(() => undefined);
  if (there?.toString("utf8") === text) return false;
  await writeFileAtomic(path, text);
  return true;
}
