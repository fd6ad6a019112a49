// From a settled dataset to the files it names, with their captions and controls, and the files it leaves out.
// Looks at names and caption files; pictures and clips are opened by the probe (probe.ts), not here.
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { imageLine, videoLine } from "../protocol/dataset-config.ts";
import type { DatasetConfig, DatasetSection } from "./config.ts";
import {
  byCodePoint,
  type FolderEntry,
  listFolder,
  type MediaKind,
  mediaKind,
  withoutExtension,
} from "./media-files.ts";

export interface Caption {
  /** The file it stands in: a text file of its own, or the JSONL. Undefined where there is none. */
  path: string | undefined;
  /** Trimmed; "" where the file is empty, undefined where there is no caption. */
  text: string | undefined;
}

/** A picture or clip that a dataset names. */
export interface SourceEntry {
  /** Absolute. */
  file: string;
  kind: MediaKind;
  /** A clip given as a folder of pictures, one a frame. */
  frameFolder: boolean;
  caption: Caption;
  control: string | undefined;
}

/** A file that lies where the dataset looks and is not read. */
export interface IgnoredFile {
  file: string;
  code: "not-media" | "other-kind" | "no-caption" | "folder";
  reason: string;
}

export interface SourceListing {
  /** The folder or JSONL file, absolute. */
  place: string;
  /** The folder that the files' names are told from. */
  root: string;
  entries: SourceEntry[];
  ignored: IgnoredFile[];
  /** Caption files that belong to no picture or clip. */
  orphanCaptions: string[];
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** A path as musubi takes it, from the working folder; where nothing is there, from the configuration's own folder. */
async function settlePath(path: string, base: string | undefined): Promise<string> {
  const here = resolve(path);
  if (isAbsolute(path) || base === undefined || (await exists(here))) return here;
  const beside = resolve(base, path);
  return (await exists(beside)) ? beside : here;
}

/**
 * The files of one dataset, in musubi's order.
 * @throws KinoraError `dataset.no-folder`, `dataset.jsonl` (naming the line), `dataset.no-control`.
 */
export async function listSource(section: DatasetSection, config: DatasetConfig): Promise<SourceListing> {
  const base = config.file === undefined ? undefined : dirname(config.file);
  const place = await settlePath(section.path, base);
  if (section.type === "image-jsonl" || section.type === "video-jsonl") return listJsonl(section, place);
  const listing = await listMedia(section, place);
  if (section.controlDirectory !== undefined)
    await addControls(listing, await settlePath(section.controlDirectory, base));
  return listing;
}

async function listMedia(section: DatasetSection, place: string): Promise<SourceListing> {
  const found = await listFolder(place, { deep: section.type === "folder" });
  const listing: SourceListing = { place, root: place, entries: [], ignored: [], orphanCaptions: [] };
  const { captionExtension, captionRequired, media } = section;
  const captions = new Set(found.filter((entry) => entry.path.endsWith(captionExtension)).map((entry) => entry.path));
  const used = new Set<string>();
  const ignore = (file: string, code: IgnoredFile["code"], reason: string) =>
    listing.ignored.push({ file, code, reason });
  for (const { path, folder } of found) {
    if (captions.has(path)) continue;
    const kind = mediaKind(path);
    if (folder) {
      ignore(path, "folder", "a folder; only the files directly in the dataset's folder are read");
      continue;
    }
    if (kind === undefined) {
      ignore(path, "not-media", "neither a picture nor a clip by its name");
      continue;
    }
    const captionPath = withoutExtension(path) + captionExtension;
    const captioned = captions.has(captionPath);
    if (captioned) used.add(captionPath);
    if (!media[kind === "image" ? "images" : "videos"]) {
      const asked = media.images ? "pictures" : "clips";
      ignore(path, "other-kind", `a ${kind === "image" ? "picture" : "clip"}; this dataset reads ${asked} only`);
    } else if (!captioned && captionRequired) {
      ignore(path, "no-caption", `no caption file ${basename(captionPath)} beside it`);
    } else {
      const caption = captioned ? await readCaption(captionPath) : { path: undefined, text: undefined };
      listing.entries.push({ file: path, kind, frameFolder: false, caption, control: undefined });
    }
  }
  listing.orphanCaptions = [...captions].filter((path) => !used.has(path)).sort(byCodePoint);
  return listing;
}

/** A caption file, trimmed; a byte order mark and bytes that are not UTF-8 do no harm (the latter show as U+FFFD). */
async function readCaption(path: string): Promise<Caption> {
  return { path, text: new TextDecoder().decode(await readFile(path)).trim() };
}

/** Reads a JSONL file; all broken lines are named at once. Empty lines are passed over. */
async function listJsonl(section: DatasetSection, place: string): Promise<SourceListing> {
  const kind: MediaKind = section.type === "image-jsonl" ? "image" : "video";
  const schema = kind === "image" ? imageLine : videoLine;
  let content: string;
  try {
    content = new TextDecoder().decode(await readFile(place));
  } catch (cause) {
    throw new KinoraError("dataset.no-file", `the JSONL file ${JSON.stringify(place)} cannot be read`, {
      actual: (cause as Error).message,
      hint: "check the path in the configuration",
      cause,
    });
  }
  const listing: SourceListing = { place, root: dirname(place), entries: [], ignored: [], orphanCaptions: [] };
  const broken: string[] = [];
  for (const [i, line] of content.split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      broken.push(`line ${i + 1}: ${(error as Error).message}`);
      continue;
    }
    const parsed = schema.safeParse(value);
    if (!parsed.success) {
      broken.push(
        `line ${i + 1}: ${parsed.error.issues.map((issue) => describe(issue.path, issue.message)).join(", ")}`,
      );
      continue;
    }
    const file = await settlePath(parsed.data.path, dirname(place));
    const control =
      parsed.data.control === undefined ? undefined : await settlePath(parsed.data.control, dirname(place));
    const isFolder = kind === "video" && (await isDirectory(file));
    const caption = { path: place, text: parsed.data.caption?.trim() };
    listing.entries.push({ file, kind, frameFolder: isFolder, caption, control });
  }
  if (broken.length > 0) {
    const more = broken.length > 5 ? ` and ${broken.length - 5} more` : "";
    throw new KinoraError("dataset.jsonl", `${place}, ${broken.slice(0, 5).join("; ")}${more}`, {
      hint: `each line is one object, such as {"${kind}_path": "a.${kind === "image" ? "jpg" : "mp4"}", "caption": "…"}`,
    });
  }
  requireControls(
    listing.entries,
    listing.entries.some((entry) => entry.control !== undefined),
    place,
  );
  return listing;
}

const describe = (path: readonly PropertyKey[], message: string) =>
  path.length > 0 ? `"${path.join(".")}": ${message}` : message;

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );

/**
 * Finds each entry's control in `folder`: for a clip the same name, a folder of that stem, or the stem with another
 * extension; for a picture the stem, or the stem with the lowest number (`name_0.png`). Longer names choose first, so
 * `a_1` is not taken for the second control of `a`.
 */
async function addControls(listing: SourceListing, folder: string): Promise<void> {
  const free = new Map<string, FolderEntry>((await listFolder(folder)).map((entry) => [basename(entry.path), entry]));
  const longestFirst = [...listing.entries].sort((a, b) => basename(b.file).length - basename(a.file).length);
  for (const entry of longestFirst) {
    const stem = withoutExtension(basename(entry.file));
    if (entry.kind === "video") {
      const names = [...free.keys()].filter((name) => mediaKind(name) === "video" && withoutExtension(name) === stem);
      const name = [basename(entry.file), stem, ...names.sort(byCodePoint)].find((candidate) => {
        const found = free.get(candidate);
        return found !== undefined && (candidate !== stem || found.folder);
      });
      if (name !== undefined) entry.control = join(folder, name);
      continue;
    }
    const numbered = [...free.keys()].flatMap((name) => {
      if (mediaKind(name) !== "image" || !name.startsWith(stem)) return [];
      const rest = withoutExtension(name).slice(stem.length);
      const number = rest === "" ? -1 : Number(/^_(\d+)$/.exec(rest)?.[1] ?? Number.NaN);
      return Number.isNaN(number) ? [] : [{ name, number }];
    });
    numbered.sort((a, b) => a.number - b.number || byCodePoint(a.name, b.name));
    for (const { name } of numbered) free.delete(name);
    if (numbered[0]) entry.control = join(folder, numbered[0].name);
  }
  requireControls(listing.entries, true, folder);
}

function requireControls(entries: readonly SourceEntry[], wanted: boolean, place: string): void {
  const missing = wanted ? entries.filter((entry) => entry.control === undefined) : [];
  if (missing.length === 0) return;
  const names = missing.slice(0, 5).map((entry) => basename(entry.file));
  throw new KinoraError(
    "dataset.no-control",
    `${missing.length} of ${entries.length} files have no control in ${JSON.stringify(place)}: ${names.join(", ")}${missing.length > 5 ? " …" : ""}`,
    { hint: "a control has the same name as its picture or clip (any extension), or a control_path in the JSONL" },
  );
}
