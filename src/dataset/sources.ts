// From a settled dataset to the files it names, with their captions and controls, and the files it leaves out.
// Looks at names and caption files; pictures and clips are opened by the probe (probe.ts), not here.
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { imageLine, videoLine } from "../protocol/dataset-config.ts";
import type { DatasetManifest } from "../protocol/dataset-manifest.ts";
import type { DatasetConfig, DatasetSection } from "./config.ts";
import { addControls, requireControls } from "./controls.ts";
import {
  emptyListing,
  exists,
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
    await addControls(listing.entries, await settlePath(section.controlDirectory, base));
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
  const captions = new Set(found.filter((entry) => entry.path.endsWith(captionExtension)).map((entry) => entry.path));
  const known = manifest && knownFacts(place, manifest);
  const used = new Set<string>();
  const ignore = (file: string, code: IgnoredFile["code"], reason: string, asked?: MediaKind) =>
    listing.ignored.push({ name: nameIn(place, file), file, code, reason, asked });
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
      ignore(path, "no-caption", `no caption file ${basename(beside)} beside it`, kind);
    } else {
      const caption = captionPath === undefined ? noCaption : await readCaption(captionPath);
      // The manifest's word holds while the file still has the size it was written with.
      const told = known?.get(path);
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
  const listing = emptyListing(place);
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
