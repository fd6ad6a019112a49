// Caption files on disk: read, written whole or not at all, never over an existing one unless told to, and then with
// the previous text kept beside it. Knows nothing of models.
import { copyFile, link, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isKinoraError } from "../../base/errors.ts";
import { refusesLinks } from "../../base/platform.ts";
import { partialPath, replaceFile, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { readCaptionFile } from "../caption-file.ts";

/** The text of a caption file; undefined where there is none or it is blank. Throws `io.*`, `text.*`. */
export async function readCaption(path: string): Promise<string | undefined> {
  return (await readCaptionFile(path))?.text || undefined;
}

const withNewline = (text: string): string => `${text.trim()}\n`;

/** `clip.txt` → `clip.txt.1.bak`, `clip.txt.2.bak`, … */
const backupPath = (path: string, number: number): string => `${path}.${number}.bak`;

async function backups(path: string): Promise<number[]> {
  const name = basename(path);
  const numbers: number[] = [];
  for (const entry of await readdir(dirname(path))) {
    if (!entry.startsWith(`${name}.`)) continue;
    const number = /^(\d+)\.bak$/.exec(entry.slice(name.length + 1))?.[1];
    if (number) numbers.push(Number(number));
  }
  return numbers.sort((a, b) => a - b);
}

/** Keeps the file at `path`, byte by byte, under the next backup name, unless the latest backup holds its text already. */
async function keep(path: string, text: string): Promise<string> {
  const last = (await backups(path)).at(-1) ?? 0;
  if (last > 0 && (await readCaption(backupPath(path, last))) === text) return backupPath(path, last);
  const kept = backupPath(path, last + 1);
  const partial = partialPath(kept);
  try {
    await copyFile(path, partial);
    await replaceFile(partial, kept);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw writeError(error, kept);
  }
  return kept;
}

/** Puts `partial` at `path` where nothing is yet; false where something is. */
async function linkNew(partial: string, path: string): Promise<boolean> {
  try {
    await link(partial, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    if (!refusesLinks(error)) throw error;
  }
  // No hard links here (FAT, some network disks): claim the name, then put the whole file over the empty one.
  try {
    await writeFile(path, "", { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
  await replaceFile(partial, path);
  return true;
}

/**
 * Writes a caption where there is none (or a blank one). False where one has come to be in the meantime: it stays.
 * @throws KinoraError `io.*`
 */
export async function writeNewCaption(path: string, text: string): Promise<boolean> {
  const partial = partialPath(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(partial, withNewline(text), { flag: "wx" });
    if (await linkNew(partial, path)) return true;
    if ((await readCaption(path)) !== undefined) return false;
    await replaceFile(partial, path);
    return true;
  } catch (error) {
    throw isKinoraError(error) ? error : writeError(error, path);
  } finally {
    await rm(partial, { force: true }).catch(() => {});
  }
}

/** Writes a caption over the one there is, which is kept first. Returns where it was kept, if there was one. */
export async function replaceCaption(path: string, text: string): Promise<string | undefined> {
  const previous = await readCaption(path);
  if (previous === text.trim()) return undefined;
  const kept = previous === undefined ? undefined : await keep(path, previous);
  await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
    throw writeError(error, path);
  });
  await writeFileAtomic(path, withNewline(text));
  return kept;
}

/** `videos/clip.txt` → `videos/clip.draft.txt`. */
export function draftPathOf(captionPath: string, extension: string): string {
  const name = basename(captionPath);
  return join(dirname(captionPath), `${name.slice(0, name.length - extension.length)}.draft${extension}`);
}
