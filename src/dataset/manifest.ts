// The manifest of a folder that `kinora dataset prepare` wrote: found, checked, or absent. Sets are passed on from hand to
// hand, so nothing in it is trusted: its items lie inside the folder. Only sources may be elsewhere, and are only read.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { nameKey } from "../base/platform.ts";
import { readPlainFile } from "../io/files.ts";
import { relativePathFault } from "../io/inside.ts";
import { readBackText } from "../io/read-back.ts";
import { type DatasetManifest, datasetManifestSchema, type ManifestItem } from "../protocol/dataset-manifest.ts";

export const manifestName = "manifest.json";

/** Where a set keeps what later runs take up again. */
export const workFolderName = ".kinora";

/** A manifest of a million items. */
const mostBytes = 2 ** 30;

/** The file of an item in its set; that of an item in place is not there, but its caption goes by it. */
export function itemFile({ kind, id }: Pick<ManifestItem, "kind" | "id">): string {
  return kind === "video" ? `videos/${id}.mp4` : `images/${id}.png`;
}

export type FoundManifest =
  /** None, or one of another tool. */
  { state: "missing" } | { state: "damaged"; why: string } | { state: "read"; value: DatasetManifest };

/** The manifest of a folder, checked, or why there is none to use. @throws KinoraError `io.no-permission`. */
export async function findManifest(folder: string): Promise<FoundManifest> {
  const path = join(folder, manifestName);
  let text: string;
  try {
    text = (await readPlainFile(path, mostBytes)).toString("utf8");
  } catch (error) {
    if (isKinoraError(error, "io.no-permission")) throw error;
    if (!isKinoraError(error) || error.code === "io.not-found") return { state: "missing" };
    return (await isPrepared(folder)) ? { state: "damaged", why: error.message } : { state: "missing" };
  }
  let kind: unknown;
  try {
    kind = (JSON.parse(text) as { kind?: unknown } | null)?.kind;
  } catch {
    // One that was cut off still says what it was.
    if (!text.includes('"kinora.dataset"') && !(await isPrepared(folder))) return { state: "missing" };
    kind = "kinora.dataset";
  }
  if (kind !== "kinora.dataset") return { state: "missing" };
  const found = readBackText(text, datasetManifestSchema);
  const fault = found.state === "read" ? faultOf(found.value) : undefined;
  return fault === undefined ? found : { state: "damaged", why: fault };
}

async function isPrepared(folder: string): Promise<boolean> {
  return await stat(join(folder, workFolderName)).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

/** What a manifest that fits its schema still gets wrong; undefined where nothing. */
function faultOf({ items, sources }: DatasetManifest): string | undefined {
  const ids = new Set<string>();
  for (const { kind, id, file, source } of items) {
    const name = JSON.stringify(id);
    const idFault = relativePathFault(id) ?? (id.includes("/") ? "is not a plain name" : undefined);
    if (idFault !== undefined) return `the item ${name} ${idFault}`;
    const fileFault = file === undefined ? undefined : relativePathFault(file);
    if (fileFault !== undefined) return `the file ${JSON.stringify(file)} of the item ${name} ${fileFault}`;
    // Some disks take two such names for one.
    const key = nameKey(itemFile({ kind, id }));
    if (ids.has(key)) return `two items are named ${name}`;
    ids.add(key);
    if (source >= sources.length) return `the item ${name} has a source that is not listed`;
  }
  return undefined;
}

/**
 * The manifest of a prepared set; undefined where the folder is none.
 * @throws KinoraError `dataset.bad-manifest` where it is one of ours and is damaged or names paths outside the set.
 */
export async function readManifest(folder: string): Promise<DatasetManifest | undefined> {
  const found = await findManifest(folder);
  if (found.state === "missing") return undefined;
  if (found.state === "read") return found.value;
  throw new KinoraError("dataset.bad-manifest", `${JSON.stringify(join(folder, manifestName))}: ${found.why}`, {
    hint: "run the same kinora dataset prepare command again (finished work is kept), or restore the file from a backup",
  });
}
