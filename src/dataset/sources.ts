// From a settled dataset to the files it names, with their captions and controls, and the files it leaves out.
// Looks at names and caption files; pictures and clips are opened by the probe (probe.ts), not here.
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { KinoraError } from "../base/errors.ts";
import type { Rect } from "../io/video/conversion.ts";
import { imageLine, videoLine } from "../protocol/dataset-config.ts";
import type { DatasetManifest } from "../protocol/dataset-manifest.ts";
import type { ModelName } from "../protocol/model-media.ts";
import type { Size } from "./buckets.ts";
import type { DatasetConfig, DatasetSection } from "./config.ts";
import { readManifest } from "./manifest.ts";
import {
  byCodePoint,
  type FolderEntry,
  listFolder,
  type MediaKind,
  mediaKind,
  withoutExtension,
} from "./media-files.ts";
import type { MediaFacts } from "./probe.ts";

export interface Caption {
  /** The file it stands in: a text file of its own, or the JSONL. Undefined where there is none. */
  path: string | undefined;
  /** Trimmed; "" where the file is empty, undefined where there is no caption. */
  text: string | undefined;
}

/** The part of a film or picture that is the item, where a set was prepared in place. */
export interface Cut {
  /** Seconds in the file; 0 and 0 for pictures. */
  in: number;
  out: number;
  /** Frames a second at which that time is read; the item's frames count from `in`. */
  fps: number;
  /** The part of the picture, in its pixels as shown. Undefined: all of it. */
  crop: Rect | undefined;
}

/** A picture or clip that a dataset names. */
export interface SourceEntry {
  /** Its path within the dataset, with forward slashes on every system. */
  name: string;
  /** Absolute. */
  file: string;
  kind: MediaKind;
  /** A clip given as a folder of pictures, one a frame. */
  frameFolder: boolean;
  /** Undefined: the whole file. */
  cut: Cut | undefined;
  /** What the manifest of a prepared set tells of it; else the probe must look. */
  known: MediaFacts | undefined;
  caption: Caption;
  control: string | undefined;
}

/** A file that lies where the dataset looks and is not read. */
export interface IgnoredFile {
  name: string;
  file: string;
  code: "not-media" | "other-kind" | "no-caption" | "folder";
  reason: string;
}

export interface SourceListing {
  /** The folder or JSONL file, absolute. */
  place: string;
  entries: SourceEntry[];
  ignored: IgnoredFile[];
  /** Caption files that belong to no picture or clip, by their paths within the dataset. */
  orphanCaptions: string[];
  /** What the folder was prepared for. */
  prepared: { model: ModelName; resolution: [number, number] | undefined } | undefined;
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
  const manifest = section.type === "folder" ? await readManifest(place) : undefined;
  const listing = manifest?.inPlace
    ? await listInPlace(section, place, manifest)
    : await listMedia(section, place, manifest);
  if (section.controlDirectory !== undefined)
    await addControls(listing, await settlePath(section.controlDirectory, base));
  return listing;
}

const empty = (place: string, manifest?: DatasetManifest): SourceListing => ({
  place,
  entries: [],
  ignored: [],
  orphanCaptions: [],
  prepared: manifest && { model: manifest.model, resolution: resolutionOf(manifest) },
});

function resolutionOf({ settings }: DatasetManifest): [number, number] | undefined {
  const { resolution } = settings;
  if (!Array.isArray(resolution)) return undefined;
  const [width, height]: unknown[] = resolution;
  return typeof width === "number" && typeof height === "number" ? [width, height] : undefined;
}

/** A file's path within its dataset, with forward slashes on every system. */
function nameIn(root: string, file: string): string {
  return relative(root, file).split(sep).join("/");
}

/** Files of Kinora's own beside media, which are no business of a reader: reports, drafts, backups. */
const bookkeeping = /^(manifest\.json|report\.html)$|\.\d+\.bak$/;

async function listMedia(
  section: DatasetSection,
  place: string,
  manifest: DatasetManifest | undefined,
): Promise<SourceListing> {
  const found = await listFolder(place, { deep: section.type === "folder" });
  const listing = empty(place, manifest);
  const { captionExtension, captionRequired, media } = section;
  const captions = new Set(found.filter((entry) => entry.path.endsWith(captionExtension)).map((entry) => entry.path));
  const known = manifest ? knownFacts(place, manifest) : new Map<string, Known>();
  const used = new Set<string>();
  const ignore = (file: string, code: IgnoredFile["code"], reason: string) =>
    listing.ignored.push({ name: nameIn(place, file), file, code, reason });
  for (const { path, folder } of found) {
    if (captions.has(path)) continue;
    const kind = mediaKind(path);
    if (folder) {
      ignore(path, "folder", "a folder; only the files directly in the dataset's folder are read");
      continue;
    }
    if (kind === undefined) {
      if (!bookkeeping.test(basename(path))) ignore(path, "not-media", "neither a picture nor a clip by its name");
      continue;
    }
    const beside = withoutExtension(path) + captionExtension;
    const captionPath = [beside, join(place, "captions", basename(beside))].find((candidate) =>
      captions.has(candidate),
    );
    for (const candidate of [beside, join(place, "captions", basename(beside))]) used.add(candidate);
    if (!media[kind === "image" ? "images" : "videos"]) {
      const asked = media.images ? "pictures" : "clips";
      ignore(path, "other-kind", `a ${kind === "image" ? "picture" : "clip"}; this dataset reads ${asked} only`);
    } else if (captionPath === undefined && captionRequired) {
      ignore(path, "no-caption", `no caption file ${basename(beside)} beside it`);
    } else {
      const caption = captionPath === undefined ? noCaption : await readCaption(captionPath);
      const told = known.get(path);
      listing.entries.push({
        name: nameIn(place, path),
        file: path,
        kind,
        frameFolder: false,
        cut: undefined,
        known: told && (await sizeOf(path)) === told.bytes ? told.facts : undefined,
        caption,
        control: undefined,
      });
    }
  }
  const isDraft = (path: string) => path.endsWith(`.draft${captionExtension}`);
  const orphans = [...captions].filter((path) => !used.has(path) && !isDraft(path));
  listing.orphanCaptions = orphans.map((path) => nameIn(place, path)).sort(byCodePoint);
  return listing;
}

const noCaption: Caption = { path: undefined, text: undefined };

/** A caption file, trimmed; a byte order mark and bytes that are not UTF-8 do no harm (the latter show as U+FFFD). */
async function readCaption(path: string): Promise<Caption> {
  return { path, text: new TextDecoder().decode(await readFile(path)).trim() };
}

interface Known {
  bytes: number;
  facts: MediaFacts;
}

const factsOf = (size: Size, frames: number, fps: number | undefined): MediaFacts => ({
  width: size.width,
  height: size.height,
  frames,
  fps,
  variableRate: false,
  damaged: false,
});

/** What the manifest tells of the files it wrote; each holds while the file still has its size. */
function knownFacts(place: string, { items, fps }: DatasetManifest): Map<string, Known> {
  const known = new Map<string, Known>();
  for (const { kind, file, size, bytes, frames } of items) {
    if (file === undefined || size === undefined || bytes === undefined) continue;
    known.set(resolve(place, file), { bytes, facts: factsOf(size, frames, kind === "video" ? fps : undefined) });
  }
  return known;
}

const sizeOf = (path: string): Promise<number | undefined> =>
  stat(path).then(
    (info) => info.size,
    () => undefined,
  );

/** The items of a set prepared in place: parts of the original files, with captions where the files would be. */
async function listInPlace(
  { media, captionExtension }: DatasetSection,
  place: string,
  manifest: DatasetManifest,
): Promise<SourceListing> {
  const listing = empty(place, manifest);
  for (const item of manifest.items) {
    if (item.verdict !== "keep" || !media[item.kind === "image" ? "images" : "videos"]) continue;
    const source = manifest.sources[item.source];
    const shown = item.crop ?? source;
    if (source === undefined || shown?.width === undefined || shown.height === undefined) continue;
    const name = `${item.kind === "video" ? "videos" : "images"}/${item.id}`;
    const paths = [`${name}${captionExtension}`, `captions/${item.id}${captionExtension}`].map((path) =>
      join(place, path),
    );
    const captionPath = (await exists(paths[0]!)) ? paths[0] : (await exists(paths[1]!)) ? paths[1] : undefined;
    const size = { width: Math.round(shown.width), height: Math.round(shown.height) };
    listing.entries.push({
      name,
      file: resolve(place, source.path),
      kind: item.kind,
      frameFolder: false,
      cut: { in: item.in, out: item.out, fps: manifest.fps, crop: item.crop },
      known: factsOf(size, item.frames, item.kind === "video" ? manifest.fps : undefined),
      caption: captionPath === undefined ? noCaption : await readCaption(captionPath),
      control: undefined,
    });
  }
  return listing;
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
  const listing = empty(place);
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
    listing.entries.push({
      name: nameIn(dirname(place), file),
      file,
      kind,
      frameFolder: isFolder,
      cut: undefined,
      known: undefined,
      caption,
      control,
    });
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
