// From a settled dataset to the files it names, with their captions and controls, and the files it leaves out.
// Looks at names and caption files; pictures and clips are opened by the probe (probe.ts), not here.
import { stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { DiskNames, spellingKey } from "../io/disk-names.ts";
import { readText, type Text } from "../io/text/read.ts";
import { imageLine, videoLine } from "../protocol/dataset-config.ts";
import type { DatasetManifest } from "../protocol/dataset-manifest.ts";
import type { DatasetConfig, DatasetSection } from "./config.ts";
import { addControls, requireControls } from "./controls.ts";
import {
  emptyListing,
  type IgnoredFile,
  nameIn,
  noCaption,
  readCaption,
  type SourceListing,
  sizeOf,
} from "./listing.ts";
import { readManifest } from "./manifest.ts";
import { byCodePoint, listFolder, type MediaKind, mediaKind, withoutExtension } from "./media-files.ts";
import { knownFacts, listInPlace, preparedFor } from "./prepared.ts";

/** A path as musubi takes it, from the working folder; where nothing is there, from the configuration's own folder. */
async function settlePath(path: string, base: string | undefined, names: DiskNames): Promise<string> {
  const here = resolve(path);
  const found = await names.find(here);
  if (found !== undefined || isAbsolute(path) || base === undefined) return found ?? here;
  return (await names.find(resolve(base, path))) ?? here;
}

/**
 * The files of one dataset, in musubi's order.
 * @throws KinoraError `dataset.no-folder`, `dataset.jsonl` (naming the line), `dataset.no-control`.
 */
export async function listSource(section: DatasetSection, config: DatasetConfig): Promise<SourceListing> {
  const base = config.file === undefined ? undefined : dirname(config.file);
  const names = new DiskNames();
  const place = await settlePath(section.path, base, names);
  if (section.type === "image-jsonl" || section.type === "video-jsonl") return listJsonl(section, place, names);
  const manifest = section.type === "folder" ? await readManifest(place) : undefined;
  const listing = manifest?.inPlace
    ? await listInPlace(section, place, manifest)
    : await listMedia(section, place, manifest);
  if (section.controlDirectory !== undefined)
    await addControls(listing.entries, await settlePath(section.controlDirectory, base, names));
  return listing;
}

/** Files of Kinora's own beside media, which are no business of a reader: reports, drafts, backups. */
const bookkeeping = /^(manifest\.json|report\.html)$|\.\d+\.bak$/;

async function listMedia(
  section: DatasetSection,
  place: string,
  manifest: DatasetManifest | undefined,
): Promise<SourceListing> {
  const found = await listFolder(place, { deep: section.type === "folder" });
  const listing = emptyListing(place, manifest && preparedFor(manifest));
  const { captionExtension, captionRequired, media } = section;
  const captions = new Map(
    found.filter(({ path }) => path.endsWith(captionExtension)).map(({ path }) => [spellingKey(path), path]),
  );
  const known = manifest && knownFacts(place, manifest);
  const used = new Set<string>();
  const ignore = (file: string, code: IgnoredFile["code"], reason: string, asked?: MediaKind) =>
    listing.ignored.push({ name: nameIn(place, file), file, code, reason, asked });
  for (const { path, folder } of found) {
    if (path.endsWith(captionExtension)) continue;
    const kind = mediaKind(path);
    if (folder) {
      ignore(path, "folder", "a folder; only the files directly in the dataset's folder are read");
      continue;
    }
    if (kind === undefined) {
      if (!bookkeeping.test(basename(path))) ignore(path, "not-media", "not a picture or clip, by its extension");
      continue;
    }
    const beside = withoutExtension(path) + captionExtension;
    const candidates = [beside, join(place, "captions", basename(beside))].map(spellingKey);
    const captionPath = candidates
      .map((candidate) => captions.get(candidate))
      .find((candidate) => candidate !== undefined);
    for (const candidate of candidates) used.add(candidate);
    if (!media[kind === "image" ? "images" : "videos"]) {
      const asked = media.images ? "pictures" : "clips";
      ignore(path, "other-kind", `a ${kind === "image" ? "picture" : "clip"}; this dataset reads ${asked} only`);
    } else if (captionPath === undefined && captionRequired) {
      ignore(path, "no-caption", `no caption file ${basename(beside)} next to it`, kind);
    } else {
      const name = nameIn(place, path);
      const caption =
        captionPath === undefined
          ? noCaption
          : await readCaption(listing, captionPath, { name, file: path, asked: kind });
      if (caption === undefined) continue;
      // The manifest's word holds while the file still has the size it was written with.
      const told = known?.get(spellingKey(path));
      listing.entries.push({
        name,
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
  const orphans = [...captions].filter(([key, path]) => !used.has(key) && !isDraft(path));
  listing.orphanCaptions = orphans.map(([, path]) => nameIn(place, path)).sort(byCodePoint);
  return listing;
}

/** Some millions of lines; more than twice this is no string in Node. */
const MOST_JSONL_BYTES = 256 << 20;

/** Reads a JSONL file; all broken lines are named at once. Empty lines are passed over. */
async function listJsonl(section: DatasetSection, place: string, names: DiskNames): Promise<SourceListing> {
  const kind: MediaKind = section.type === "image-jsonl" ? "image" : "video";
  const schema = kind === "image" ? imageLine : videoLine;
  let content: Text;
  try {
    content = await readText(place, MOST_JSONL_BYTES);
  } catch (cause) {
    const { message, hint } = cause as KinoraError;
    throw new KinoraError("dataset.no-file", `the JSONL file ${JSON.stringify(place)} cannot be read`, {
      actual: message,
      hint: hint ?? "check the path in the configuration",
      cause,
    });
  }
  const listing = emptyListing(place);
  if (content.notice !== undefined) listing.notices.push({ name: basename(place), notice: content.notice });
  const broken: string[] = [];
  for (const [i, line] of content.text.split("\n").entries()) {
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
    const file = await settlePath(parsed.data.path, dirname(place), names);
    const control =
      parsed.data.control === undefined ? undefined : await settlePath(parsed.data.control, dirname(place), names);
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
  if (listing.entries.some((entry) => entry.control !== undefined)) requireControls(listing.entries, place);
  return listing;
}

const describe = (path: readonly PropertyKey[], message: string) =>
  path.length > 0 ? `"${path.join(".")}": ${message}` : message;

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
