// Which files are pictures and which are clips, by name, and the listing of a folder of them in a steady order.
// Nothing is opened here: a text file named .mp4 is a clip until it is probed.
import { readdir, realpath, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { imageEndings } from "../io/image/kind.ts";

/** Musubi's list. Here as for pictures (imageEndings) any case counts; musubi takes all lower or all upper. */
const videoExtensions = new Set([".mp4", ".webm", ".avi", ".mkv", ".mov", ".flv", ".wmv", ".m4v", ".mpg", ".mpeg"]);

export type MediaKind = "image" | "video";

export function mediaKind(name: string): MediaKind | undefined {
  const extension = extname(name).toLowerCase();
  if (imageEndings.has(extension)) return "image";
  return videoExtensions.has(extension) ? "video" : undefined;
}

/** The path without its extension, as Python's os.path.splitext cuts it. */
export function withoutExtension(path: string): string {
  return path.slice(0, path.length - extname(path).length);
}

/** Order of Python's sort on strings: by code point, which is the order of UTF-8 bytes. */
export function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

export interface FolderEntry {
  path: string;
  folder: boolean;
}

/**
 * The files of `folder`, sorted; hidden ones (leading dot) are left out, as by Python's glob.
 * With `deep`, those of its sub-folders too (each real folder once, so links in a circle end), else the sub-folders
 * themselves as entries.
 * @throws KinoraError `dataset.no-folder` where it is missing or is not a folder, `dataset.unreadable` where it may not be read.
 */
export async function listFolder(folder: string, { deep = false } = {}): Promise<FolderEntry[]> {
  const seen = new Set<string>();
  const list = async (place: string): Promise<FolderEntry[]> => {
    const real = await realpath(place);
    if (seen.has(real)) return [];
    seen.add(real);
    const found: FolderEntry[] = [];
    for (const name of (await readdir(place)).sort(byCodePoint)) {
      if (name.startsWith(".")) continue;
      const path = join(place, name);
      const isFolder = await stat(path).then(
        (info) => info.isDirectory(),
        () => false, // A broken link is a file that cannot be read; the probe says so.
      );
      if (isFolder && deep) found.push(...(await list(path)));
      else found.push({ path, folder: isFolder });
    }
    return found;
  };
  try {
    return await list(folder);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new KinoraError("dataset.no-folder", `the folder ${JSON.stringify(folder)} does not exist`, {
        hint: code === "ENOTDIR" ? "this is a file; a dataset is a folder" : "check the path in the configuration",
        cause,
      });
    throw new KinoraError("dataset.unreadable", `the folder ${JSON.stringify(folder)} cannot be read: ${message}`, {
      cause,
      hint: "you have no permission to read it, or its disk is not mounted",
    });
  }
}
