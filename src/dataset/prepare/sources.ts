// Which files a preparation reads: folders walked in a steady order, links in a circle cut, our own output left out.
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { basename, extname, join, relative, resolve, sep } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { nameKey, nameProblem } from "../../base/platform.ts";
import { isMoving } from "../../io/image/moving.ts";
import { kindOfPicture } from "../../io/image/read.ts";
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
  /** Folders not looked into, because the set itself is written there. */
  ownFolders: string[];
}

/** The folders of a set that clips, pictures and captions are written to. */
export const setFolders = ["videos", "images", "captions"] as const;

/** Endings of films beyond those that a reader of sets knows (media-files.ts keeps to musubi's list). */
const furtherFilms = new Set(
  ".ts .mts .m2ts .m2v .3gp .3g2 .ogv .mxf .vob .asf .dv .f4v .divx .rm .rmvb .y4m .gif .apng".split(" "),
);

function kindByName(name: string): MediaKind | undefined {
  return mediaKind(name) ?? (furtherFilms.has(extname(name).toLowerCase()) ? "video" : undefined);
}

/** Why the system would not open a file or folder, in words. */
export async function accessProblem(path: string, error: unknown): Promise<{ code: string; message: string }> {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") {
    const isLink = await lstat(path).then(
      (info) => info.isSymbolicLink(),
      () => false,
    );
    return { code: "media.not-found", message: isLink ? "is a broken link" : "does not exist" };
  }
  if (code === "ELOOP") return { code: "media.io-error", message: "is a circular link" };
  if (code === "EACCES" || code === "EPERM")
    return { code: "media.no-permission", message: "is not readable by this user" };
  return { code: "media.io-error", message };
}

/** Pictures are known by their first bytes, whatever their names; one that moves is a film. All else is as it is named. */
async function kindOfFile(path: string, byName: MediaKind): Promise<MediaKind> {
  try {
    if (!(await kindOfPicture(path))) return byName;
    return (await isMoving(path)) ? "video" : "image";
  } catch {
    return byName; // Opening it says what is wrong.
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
  if (slug === "") return "item";
  // `con`, `aux` and their like are devices on Windows.
  return nameProblem(slug) === undefined ? slug : `_${slug}`;
}

/** @throws KinoraError `prepare.source-in-set` where a source lies in a folder that the set is written to. */
export async function scanSources(sources: readonly string[], outDirectory: string): Promise<Scan> {
  const out = await realpath(outDirectory).catch(() => resolve(outDirectory));
  const isOurs = (real: string) =>
    setFolders.some((name) => real === join(out, name) || real.startsWith(join(out, name) + sep));
  const scan: Scan = { files: [], problems: [], others: 0, ownFolders: [] };
  const seenFolders = new Set<string>();
  const seenFiles = new Set<string>();
  const problem = async (path: string, error: unknown) => {
    scan.problems.push({ path, ...(await accessProblem(path, error)) });
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
      if (isOurs(real)) {
        scan.ownFolders.push(folder);
        return;
      }
      if (seenFolders.has(real)) return;
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
        const kind = kindByName(name);
        if (kind) await addFile(path, await kindOfFile(path, kind), stem(relative(root, path)).split(sep).join("__"));
        else if (!name.toLowerCase().endsWith(".txt")) scan.others++;
      }
    } catch (error) {
      await problem(folder, error);
    }
  };
  for (const source of sources) {
    const path = resolve(source);
    if (isOurs(await realpath(path).catch(() => path)))
      throw new KinoraError(
        "prepare.source-in-set",
        `the source ${JSON.stringify(source)} is inside the output folder`,
        {
          hint: "choose another `out` folder",
        },
      );
    try {
      if ((await stat(path)).isDirectory()) await walk(path, path);
      else await addFile(path, await kindOfFile(path, kindByName(path) ?? "video"), stem(basename(path)));
    } catch (error) {
      await problem(path, error);
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
  for (const { slug } of files) count.set(nameKey(slug), (count.get(nameKey(slug)) ?? 0) + 1);
  const taken = new Set<string>();
  for (const file of files) {
    let slug = file.slug;
    if (count.get(nameKey(slug))! > 1) slug = `${slug}-${extname(file.path).slice(1).toLowerCase() || "file"}`;
    const base = slug;
    for (let i = 2; taken.has(nameKey(slug)); i++) slug = `${base}-${i}`;
    taken.add(nameKey(slug));
    file.slug = slug;
  }
}
