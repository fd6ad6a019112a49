// The manifest of a folder that `kinora dataset prepare` wrote: found, checked, or absent.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { type DatasetManifest, datasetManifestSchema } from "../protocol/dataset-manifest.ts";

/**
 * The manifest of a prepared set; undefined where the folder is none.
 * @throws KinoraError `dataset.bad-manifest` where it is one of ours and cannot be understood.
 */
export async function readManifest(folder: string): Promise<DatasetManifest | undefined> {
  const path = join(folder, "manifest.json");
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, "utf8"));
  } catch {
    return undefined;
  }
  if ((json as { kind?: unknown } | null)?.kind !== "kinora.dataset") return undefined;
  const parsed = datasetManifestSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new KinoraError(
    "dataset.bad-manifest",
    `${JSON.stringify(path)} cannot be read: ${issue?.path.join(".")}: ${issue?.message}`,
    { hint: "prepare the set again with this version of Kinora" },
  );
}
