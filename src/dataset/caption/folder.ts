// The pictures and clips of a folder and the caption file of each: which have one, which wait as drafts.
// Only names and caption files are read here, no media.
import { stat } from "node:fs/promises";
import { basename, extname, join, relative, sep } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import { listFolder, mediaKind, withoutExtension } from "../media-files.ts";
import type { Media } from "./media.ts";
import { draftPathOf, readCaption } from "./store.ts";

export interface CaptionItem {
  /** Path in the folder, with forward slashes. */
  name: string;
  media: Media;
  captionPath: string;
  draftPath: string;
  caption: string | undefined;
  draft: string | undefined;
}

export interface CaptionFolder {
  folder: string;
  items: CaptionItem[];
  /** Media that get no caption of their own, and why. */
  left: { name: string; reason: string }[];
}

export interface FolderOptions {
  /** Ending of caption files, with the dot. */
  extension: string;
}

/** Sub-folder for captions, where a set keeps them apart from the media. */
const captionsFolder = "captions";

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

/**
 * Lists a folder of clips and pictures (sub-folders included).
 * @throws KinoraError `dataset.no-folder`, `dataset.unreadable`, `caption.no-media`.
 */
export async function readCaptionFolder(folder: string, { extension }: FolderOptions): Promise<CaptionFolder> {
  const apart = await isFolder(join(folder, captionsFolder));
  const items: CaptionItem[] = [];
  const left: CaptionFolder["left"] = [];
  const owners = new Map<string, string>();
  for (const { path } of await listFolder(folder, { deep: true })) {
    const kind = mediaKind(path);
    if (!kind) continue;
    const name = relative(folder, path).split(sep).join("/");
    const stem = withoutExtension(apart ? join(folder, captionsFolder, basename(path)) : path);
    const captionPath = stem + extension;
    const owner = owners.get(captionPath);
    if (owner !== undefined) {
      left.push({ name, reason: `its caption file is the one of ${owner}` });
      continue;
    }
    owners.set(captionPath, name);
    items.push({
      name,
      media: { path, medium: kind === "video" ? "clip" : "picture" },
      captionPath,
      draftPath: "",
      caption: await readCaption(captionPath),
      draft: undefined,
    });
  }
  for (const item of items) {
    // A clip called `a.draft.mp4` has its caption where the draft of `a.mp4` would be.
    do item.draftPath = draftPathOf(item.draftPath || item.captionPath, extension);
    while (owners.has(item.draftPath));
    item.draft = await readCaption(item.draftPath);
  }
  if (items.length === 0)
    throw new KinoraError("caption.no-media", `there are no clips or pictures in ${JSON.stringify(folder)}`, {
      hint: `looked for endings such as .mp4, .webm, .jpg, .png in it and its sub-folders${extname(folder) ? "" : "; prepare a set with kinora dataset prepare"}`,
    });
  return { folder, items, left };
}
