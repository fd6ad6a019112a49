// Caption files on disk: read, written whole or not at all, never over an existing one unless told to, and then with
// the previous text kept beside it. Knows nothing of models.
import { link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { refusesLinks } from "../../base/platform.ts";
import { partialPath, replaceFile, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { fileError } from "../../io/files.ts";

/** The text of a caption file; undefined where there is none or it is blank. */
export async function readCaption(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw fileError(error, path);
  }
  return text.replace(/^\uFEFF/, "").trim() || undefined;
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

/** Keeps the text at `path` under the next backup name, unless the latest backup holds it already. */
async function keep(path: string, text: string): Promise<string> {
  const last = (await backups(path)).at(-1) ?? 0;
  if (last > 0 && (await readCaption(backupPath(path, last))) === text) return backupPath(path, last);
  const kept = backupPath(path, last + 1);
  await writeFileAtomic(kept, withNewline(text));
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
    throw writeError(error, path);
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
