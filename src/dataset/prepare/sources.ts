// Which files a preparation reads: folders walked in a steady order, links in a circle cut, our own output left out.
import { open, readdir, realpath, stat } from "node:fs/promises";
import { basename, extname, join, relative, resolve, sep } from "node:path";
import { imageKind } from "../../io/image/kind.ts";
import { byCodePoint, type MediaKind, mediaKind } from "../media-files.ts";

export interface SourceFile {
  /** Absolute. */
  path: string;
  kind: MediaKind;
  /** Name for items made from it: safe in every file system, unique in the set. */
  slug: string;
}

export interface Scan {
  files: SourceFile[];
  /** Places that could not be listed. */
  problems: { path: string; code: string; message: string }[];
  /** Files that are neither film, picture nor caption by their names. */
  others: number;
}

/** An explicit file may have any name: pictures are known by their first bytes, all else is tried as a film. */
async function kindOfFile(path: string): Promise<MediaKind> {
  const byName = mediaKind(path);
  if (byName) return byName;
  try {
    await using file = await open(path);
    const head = new Uint8Array(64);
    await file.read(head, 0, head.length, 0);
    return imageKind(head) ? "image" : "video";
  } catch {
    return "video";
  }
}

/** Letters of any language stay; what some file system forbids becomes `_`. At most 150 bytes. */
export function slugOf(name: string): string {
  let slug = name
    .normalize("NFC")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must go
    .replace(/[\u0000-\u001f\u007f<>:"'`/\\|?*\s]+/g, "_")
    .replace(/^[._]+|[._]+$/g, "");
  while (Buffer.byteLength(slug) > 150) slug = [...slug].slice(0, -1).join("");
  return slug || "item";
}

export async function scanSources(sources: readonly string[], outDirectory: string): Promise<Scan> {
  const out = await realpath(outDirectory).catch(() => resolve(outDirectory));
  const scan: Scan = { files: [], problems: [], others: 0 };
  const seenFolders = new Set<string>();
  const seenFiles = new Set<string>();
  const problem = (path: string, error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException;
    const known = code === "ENOENT" ? "media.not-found" : code === "EACCES" ? "media.no-permission" : "media.io-error";
    scan.problems.push({ path, code: known, message });
  };
  const addFile = async (path: string, kind: MediaKind, name: string) => {
    // A broken or circular link has no real path; opening it says what is wrong.
    const real = await realpath(path).catch(() => path);
    if (seenFiles.has(real)) return;
    seenFiles.add(real);
    scan.files.push({ path, kind, slug: slugOf(name) });
  };
  const walk = async (root: string, folder: string): Promise<void> => {
    try {
      const real = await realpath(folder);
      if (seenFolders.has(real) || real === out || real.startsWith(out + sep)) return;
      seenFolders.add(real);
      for (const name of (await readdir(folder)).sort(byCodePoint)) {
        if (name.startsWith(".")) continue;
        const path = join(folder, name);
        const isFolder = await stat(path).then(
          (info) => info.isDirectory(),
          () => false,
        );
        if (isFolder) {
          await walk(root, path);
          continue;
        }
        const kind = mediaKind(name);
        if (kind) await addFile(path, kind, stem(relative(root, path)).split(sep).join("__"));
        else if (!name.toLowerCase().endsWith(".txt")) scan.others++;
      }
    } catch (error) {
      problem(folder, error);
    }
  };
  for (const source of sources) {
    const path = resolve(source);
    try {
      if ((await stat(path)).isDirectory()) await walk(path, path);
      else await addFile(path, await kindOfFile(path), stem(basename(path)));
    } catch (error) {
      problem(path, error);
    }
  }
  makeUnique(scan.files);
  return scan;
}

function stem(name: string): string {
  return name.slice(0, name.length - extname(name).length);
}

/** Files of one name (a.mov and a.mp4, or the same name in two sources) get their ending, then a number. */
function makeUnique(files: SourceFile[]): void {
  const count = new Map<string, number>();
  const key = (slug: string) => slug.toLowerCase();
  for (const { slug } of files) count.set(key(slug), (count.get(key(slug)) ?? 0) + 1);
  const taken = new Set<string>();
  for (const file of files) {
    let slug = file.slug;
    if (count.get(key(slug))! > 1) slug = `${slug}-${extname(file.path).slice(1).toLowerCase() || "file"}`;
    const base = slug;
    for (let i = 2; taken.has(key(slug)); i++) slug = `${base}-${i}`;
    taken.add(key(slug));
    file.slug = slug;
  }
}
