// The pictures and clips of a folder, prepared or not, and the caption file of each: which have one, which wait as drafts.
// Only names, captions and the manifest are read here, no media.
import { stat } from "node:fs/promises";
import { basename, join, relative, resolve, sep } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { insideFolder } from "../../io/inside.ts";
import type { DatasetManifest } from "../../protocol/dataset-manifest.ts";
import { readManifest } from "../manifest.ts";
import { listFolder, mediaKind, withoutExtension } from "../media-files.ts";
import type { Media } from "./media.ts";
import { draftPathOf, readCaption } from "./store.ts";

export interface CaptionItem {
  /** Path in the folder, with forward slashes. */
  name: string;
  media: Media;
  captionPath: string;
  /** A second place for the same text, where the set keeps a `captions/` folder beside its media. */
  copyPath: string | undefined;
  draftPath: string;
  caption: string | undefined;
  draft: string | undefined;
}

export interface CaptionFolder {
  items: CaptionItem[];
  /** Media that get no caption of their own, and why. */
  left: { name: string; reason: string }[];
}

export interface FolderOptions {
  /** Ending of caption files, with the dot. */
  extension: string;
}

const captionsFolder = "captions";

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

/** An item before its captions are looked for. `stem` is the path of its caption without the ending. */
interface Found {
  name: string;
  media: Media;
  stem: string;
}

/** Items whose frames are still in the sources: their captions lie where the files themselves would be. */
function itemsInPlace(folder: string, { sources, items }: DatasetManifest): Found[] {
  return items
    .filter((item) => item.verdict === "keep")
    .map((item) => {
      const clip = item.kind === "video";
      const name = `${clip ? "videos" : "images"}/${item.id}`;
      const path = resolve(folder, sources[item.source]!.path);
      // A caption is written there: no link may lead it elsewhere.
      const stem = insideFolder(folder, name, {
        code: "caption.link-out",
        file: "the set",
        hint: "captions of a set in place are written into its own folder only: remove the link",
      });
      const range = clip ? { start: item.in, end: item.out } : {};
      const crop = item.crop ? { crop: item.crop } : {};
      return { name, media: { path, medium: clip ? "clip" : "picture", ...range, ...crop }, stem };
    });
}

async function itemsOnDisk(folder: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const { path } of await listFolder(folder, { deep: true })) {
    const kind = mediaKind(path);
    if (!kind) continue;
    const name = relative(folder, path).split(sep).join("/");
    found.push({ name, media: { path, medium: kind === "video" ? "clip" : "picture" }, stem: withoutExtension(path) });
  }
  return found;
}

/**
 * Lists a prepared set or any folder of clips and pictures (sub-folders included). Captions lie beside the media; where
 * the folder has `captions/`, also there, or only there if none lies beside.
 * @throws KinoraError `dataset.no-folder`, `dataset.unreadable`, `dataset.bad-manifest`, `caption.no-media`.
 */
export async function readCaptionFolder(folder: string, { extension }: FolderOptions): Promise<CaptionFolder> {
  const manifest = await readManifest(folder);
  const found = manifest?.inPlace ? itemsInPlace(folder, manifest) : await itemsOnDisk(folder);
  if (found.length === 0)
    throw new KinoraError("caption.no-media", `there are no clips or pictures in ${JSON.stringify(folder)}`, {
      hint: manifest
        ? "the preparation kept nothing: see its report.html"
        : "looked for .mp4, .webm, .jpg, .png and the like, sub-folders included",
    });

  const beside = await Promise.all(found.map(({ stem }) => readCaption(stem + extension)));
  const hasCopies = await isFolder(join(folder, captionsFolder));
  const onlyCopies = hasCopies && !manifest && beside.every((caption) => caption === undefined);
  const copyOf = (stem: string) => join(folder, captionsFolder, basename(stem)) + extension;

  const items: CaptionItem[] = [];
  const left: CaptionFolder["left"] = [];
  const owners = new Map<string, string>();
  for (const [i, { name, media, stem }] of found.entries()) {
    const captionPath = onlyCopies ? copyOf(stem) : stem + extension;
    const copyPath = hasCopies && !onlyCopies ? copyOf(stem) : undefined;
    const owner = owners.get(captionPath) ?? (copyPath && owners.get(copyPath));
    if (owner !== undefined) {
      left.push({ name, reason: `its caption file is the one of ${owner}` });
      continue;
    }
    owners.set(captionPath, name);
    if (copyPath) owners.set(copyPath, name);
    const caption = onlyCopies
      ? await readCaption(captionPath)
      : (beside[i] ?? (copyPath && (await readCaption(copyPath))));
    items.push({ name, media, captionPath, copyPath, draftPath: "", caption, draft: undefined });
  }
  for (const item of items) {
    // A clip called `a.draft.mp4` has its caption where the draft of `a.mp4` would be.
    do item.draftPath = draftPathOf(item.draftPath || item.captionPath, extension);
    while (owners.has(item.draftPath));
    item.draft = await readCaption(item.draftPath);
  }
  return { items, left };
}
