// Laying the finished set out: files under their names, captions beside them, what an earlier run left put away.
import { copyFile, link, rm, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { z } from "zod";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { makeFolder, partialPath, replaceFile, sweepPartials, writeError, writeFileAtomic } from "../../io/atomic.ts";
import { DiskNames } from "../../io/disk-names.ts";
import { readPlainFile } from "../../io/files.ts";
import { insideFolder, relativePathFault } from "../../io/inside.ts";
import { readBack } from "../../io/read-back.ts";
import { noticeOf } from "../../io/text/read.ts";
import type { DatasetManifest } from "../../protocol/dataset-manifest.ts";
import { writeNewCaption } from "../caption/store.ts";
import { readCaptionFile } from "../caption-file.ts";
import { itemFile } from "../manifest.ts";
import { withoutExtension } from "../media-files.ts";
import { setFolders } from "./sources.ts";

export const reportName = "report.html";

/** `path` as the manifest in `directory` writes it: relative where that works, with forward slashes. */
export function manifestPath(directory: string, path: string): string {
  const way = relative(directory, path);
  return isAbsolute(way) ? way : way.split(sep).join("/");
}

/**
 * Says before the work what would stop it at its end, or would have it write elsewhere.
 * @throws KinoraError `io.not-a-folder`, `prepare.link-out`.
 */
export async function checkFolders(directory: string): Promise<void> {
  for (const name of setFolders) {
    const path = insideSet(directory, name);
    const info = await stat(path).catch(() => undefined);
    if (info && !info.isDirectory())
      throw new KinoraError("io.not-a-folder", `${JSON.stringify(path)} is a file`, {
        expected: `a folder, for the set's ${name}`,
        hint: "move it away, or choose another `out` folder",
      });
  }
}

/** A place in the set. @throws KinoraError `prepare.link-out` where a link would have it lie elsewhere. */
export function insideSet(directory: string, path: string): string {
  return insideFolder(directory, path, {
    code: "prepare.link-out",
    file: "the set",
    hint: "a set is only written inside its own folder: remove the link, or choose another `out` folder",
  });
}

async function bytesOf(path: string): Promise<number | undefined> {
  return await stat(path).then(
    (info) => info.size,
    () => undefined,
  );
}

/** Gives a file of the work store its name in the set. A hard link where the disk has them, else a copy. */
export async function place(from: string, to: string): Promise<void> {
  const partial = partialPath(to);
  try {
    await link(from, partial).catch(() => copyFile(from, partial));
    await replaceFile(partial, to);
    // Renaming a link over another link of the same file does nothing and leaves the first.
    await rm(partial, { force: true });
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw writeError(error, to);
  }
}

export interface Wanted {
  /** As `itemFile` has it. */
  file: string;
  /** Absent for items in place: they only have a caption. */
  made?: { from: string; bytes: number; sha256: string };
  /** The caption to write where there is none, and the text that came with the source: without a trigger phrase. */
  caption?: string;
  sourceCaption?: string;
}

export interface Laid {
  /** Files written or renewed. */
  placed: number;
  /** What was left alone because a person changed it, and what was left over. */
  notes: string[];
  /** The captions that the wanted files have now; "" for one that cannot be read. */
  captions: Map<string, string>;
  /** Captions that were taken over from the sources in this run. */
  taken: number;
}

/** A file's SHA-256, as remembered while the file does not change, or read anew before something irrevocable. */
export type FileHash = (path: string, how?: "anew") => Promise<string>;

/** Contents (SHA-256) this tool has given each file of the set: what is ours to replace, also after a kill half-way. */
function captionFile(file: string): string {
  return `${withoutExtension(file)}.txt`;
}

/**
 * Sees to the captions of one item: what a person or `dataset caption` wrote stays, the source's goes where there is
 * none, and `captions/` gets what stands beside the item. Captions that lie there alone are left so.
 */
async function layCaptions(
  directory: string,
  { file, caption, sourceCaption }: Wanted,
  captionsFolder: boolean,
  names: DiskNames,
): Promise<{ placed: number; taken: boolean; caption: string | undefined; notices: string[] }> {
  const beside = await names.spelled(join(directory, captionFile(file)));
  const copy = await names.spelled(join(directory, "captions", basename(captionFile(file))));
  const notices: string[] = [];
  const read = async (path: string): Promise<string | undefined> => {
    const found = await readCaptionFile(path);
    if (found) notices.push(...noticeOf(manifestPath(directory, path), found));
    return found?.text || undefined;
  };
  let placed = 0;
  let text: string | undefined;
  let copied: string | undefined;
  try {
    [text, copied] = [await read(beside), await read(copy)];
  } catch (error) {
    // A text that cannot be read is a person's all the same.
    if (!isKinoraError(error)) throw error;
    return { placed, taken: false, caption: "", notices: [`${error.message}; it is left unchanged`] };
  }
  let taken = false;
  if (text === undefined && copied === undefined && caption !== undefined) {
    taken = await writeNewCaption(beside, caption);
    if (taken) placed++;
    text = caption;
  }
  // The source's words as they came: a trigger phrase asked for since goes in front of them.
  for (const path of [beside, copy]) {
    if (caption === undefined || (path === beside ? text : copied) !== sourceCaption || caption === sourceCaption)
      continue;
    await writeFileAtomic(path, `${caption}\n`);
    placed++;
    if (path === beside) text = caption;
    else copied = caption;
  }
  if (captionsFolder && text !== undefined && copied === undefined) {
    if (await writeNewCaption(copy, text)) placed++;
    copied = text;
  }
  return { placed, taken, caption: text ?? copied, notices };
}

const journalSchema = z.record(z.string(), z.array(z.string().regex(/^[0-9a-f]{64}$/)));

async function readJournal(
  path: string,
  earlier: DatasetManifest | undefined,
): Promise<{ journal: Map<string, Set<string>>; damage?: string }> {
  const journal = new Map<string, Set<string>>();
  for (const { file, sha256 } of earlier?.items ?? [])
    if (file && sha256 && isItemFile(file)) journal.set(file, new Set([sha256]));
  const kept = await readBack(path, journalSchema);
  if (kept.state === "damaged") return { journal, damage: kept.why };
  for (const [file, hashes] of kept.state === "read" ? Object.entries(kept.value) : []) {
    // Whoever wrote it, nothing but the set's own items is ours to replace.
    if (!isItemFile(file)) return { journal, damage: `names ${JSON.stringify(file)}, which is not an item of the set` };
    journal.set(file, new Set([...(journal.get(file) ?? []), ...hashes]));
  }
  return { journal };
}

function isItemFile(file: string): boolean {
  return relativePathFault(file) === undefined && /^(videos|images)\/[^/]+$/.test(file);
}

async function saveJournal(path: string, journal: ReadonlyMap<string, ReadonlySet<string>>): Promise<void> {
  const plain = Object.fromEntries([...journal].map(([file, hashes]) => [file, [...hashes]]));
  await writeIfChanged(path, JSON.stringify(plain));
}

/**
 * Brings the set's folder to what is wanted. Only files that this tool wrote there, and that are still as it wrote
 * them, are removed or replaced. `hash` gives a file's SHA-256, remembered while the file does not change.
 */
export async function layOut(
  directory: string,
  wanted: readonly Wanted[],
  options: {
    journal: string;
    earlier: DatasetManifest | undefined;
    captionsFolder: boolean;
    hash: FileHash;
  },
): Promise<Laid> {
  const { captionsFolder, hash } = options;
  const laid: Laid = { placed: 0, notes: [], captions: new Map(), taken: 0 };
  const { journal: ours, damage } = await readJournal(options.journal, options.earlier);
  if (damage !== undefined)
    laid.notes.push(
      `${options.journal} ${damage}; files of earlier runs that are no longer in the set are left in place`,
    );
  const planned = new Map([...ours].map(([file, hashes]) => [file, new Set(hashes)]));
  for (const { file, made } of wanted)
    if (made) planned.set(file, new Set([...(planned.get(file) ?? []), made.sha256]));
  await saveJournal(options.journal, planned);

  const names = new Set(wanted.flatMap(({ file, made }) => (made ? [file] : [])));
  for (const [file, hashes] of ours) {
    const path = join(directory, file);
    if (names.has(file) || (await bytesOf(path)) === undefined) continue;
    if (!hashes.has(await hash(path, "anew"))) {
      laid.notes.push(`${file} is no longer in the set but has been edited since, and is kept`);
      continue;
    }
    await rm(path, { force: true });
    laid.placed++;
  }
  const staying = new Set(wanted.map((entry) => entry.file));
  for (const item of options.earlier?.items ?? []) {
    const file = itemFile(item);
    if (item.verdict !== "keep" || staying.has(file)) continue;
    if ((await bytesOf(join(directory, captionFile(file)))) !== undefined)
      laid.notes.push(`${file} is no longer in the set; its caption ${captionFile(file)} is kept`);
  }
  // "." has the manifest and the report.
  const folders = new Set([".", ...wanted.map((entry) => dirname(entry.file))]);
  if (captionsFolder) folders.add("captions");
  for (const folder of folders) {
    const path = join(directory, folder);
    try {
      await makeFolder(path);
      await sweepPartials(path, "all");
    } catch (error) {
      throw error instanceof KinoraError ? error : writeError(error, path);
    }
  }
  const captionNames = new DiskNames();
  for (const entry of wanted) {
    const { file, made } = entry;
    if (made) {
      const outcome = await putInPlace(made, join(directory, file), ours.get(file), hash);
      if (outcome === "placed") laid.placed++;
      if (outcome === "not ours")
        laid.notes.push(`${file} existed before or has been edited since, and is left unchanged`);
    }
    const { placed, taken, caption, notices } = await layCaptions(directory, entry, captionsFolder, captionNames);
    laid.notes.push(...notices);
    laid.placed += placed;
    if (taken) laid.taken++;
    if (caption !== undefined) laid.captions.set(file, caption);
  }
  const final = wanted.flatMap(({ file, made }) => (made ? [[file, new Set([made.sha256])] as const] : []));
  await saveJournal(options.journal, new Map(final));
  return laid;
}

/** Puts a rendered file under its name unless it is there, or something that is not ours. */
async function putInPlace(
  { from, bytes, sha256 }: NonNullable<Wanted["made"]>,
  path: string,
  ours: ReadonlySet<string> | undefined,
  hash: FileHash,
): Promise<"placed" | "there" | "not ours"> {
  const now = await bytesOf(path);
  if (now !== undefined) {
    if (now === bytes && (await sameFile(from, path))) return "there";
    if ((await hash(path)) === sha256) return "there";
    if (!ours?.has(await hash(path, "anew"))) return "not ours";
  }
  await place(from, path);
  return "placed";
}

/** True for two names of one file. */
async function sameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([stat(a), stat(b)]);
  return first.ino === second.ino && first.dev === second.dev;
}

/** Writes a text file where its content is new; true where it was. */
export async function writeIfChanged(path: string, text: string): Promise<boolean> {
  const now = await readPlainFile(path, Buffer.byteLength(text)).catch(() => undefined);
  if (now?.equals(Buffer.from(text))) return false;
  await writeFileAtomic(path, text);
  return true;
}
