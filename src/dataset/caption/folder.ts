// The pictures and clips of a folder, prepared or not, and the caption file of each: which have one, which wait as drafts.
// Only names, captions and the manifest are read here, no media.
import { stat } from "node:fs/promises";
import { basename, join, relative, resolve, sep } from "node:path";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { DiskNames } from "../../io/disk-names.ts";
import { insideFolder } from "../../io/inside.ts";
import type { DatasetManifest } from "../../protocol/dataset-manifest.ts";
import { mediaOf } from "../../protocol/model-media.ts";
import { wanModels } from "../../protocol/models.ts";
import { readCaptionFile } from "../caption-file.ts";
import { defaultModel } from "../dataset-plan.ts";
import { readManifest } from "../manifest.ts";
import { listFolder, mediaKind, withoutExtension } from "../media-files.ts";
import type { Media } from "./media.ts";
import { draftPathOf } from "./store.ts";

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
  /** Media that get no caption of their own, and why; `unreadable`: because of what their text file holds. */
  left: { name: string; reason: string; unreadable: boolean }[];
  /** What whoever wrote the texts should hear. */
  notices: string[];
  /** Tokens of a caption that the model of the set reads; a published one's where it is for none. */
  textLength: number;
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

/** A text file as found. */
interface Held {
  path: string;
  /** Undefined where it is missing, blank or cannot be read. */
  text: string | undefined;
  problem?: string;
}

/** An item before its captions are looked for. `stem` is the path of its caption without the ending. */
interface Found {
  name: string;
  media: Media;
  stem: string;
}

/** Items whose frames are still in the sources: their captions lie where the files themselves would be. */
async function itemsInPlace(folder: string, { sources, items }: DatasetManifest, names: DiskNames): Promise<Found[]> {
  const found: Found[] = [];
  for (const item of items) {
    if (item.verdict !== "keep") continue;
    const clip = item.kind === "video";
    const name = `${clip ? "videos" : "images"}/${item.id}`;
    const path = await names.spelled(resolve(folder, sources[item.source]!.path));
    const range = clip ? { start: item.in, end: item.out } : {};
    const crop = item.crop ? { crop: item.crop } : {};
    const media: Media = { path, medium: clip ? "clip" : "picture", ...range, ...crop };
    // A caption is written there: no link may lead it elsewhere.
    const stem = insideFolder(folder, name, {
      code: "caption.link-out",
      file: "the set",
      hint: "captions of an in-place set are only written inside its own folder: remove the link",
    });
    found.push({ name, media, stem });
  }
  return found;
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
  const names = new DiskNames();
  const found = manifest?.inPlace ? await itemsInPlace(folder, manifest, names) : await itemsOnDisk(folder);
  if (found.length === 0)
    throw new KinoraError("caption.no-media", `there are no clips or pictures in ${JSON.stringify(folder)}`, {
      hint: manifest
        ? "the preparation kept no items: see its report.html"
        : "Kinora looked for .mp4, .webm, .jpg, .png and similar files, including sub-folders",
    });

  const notices: string[] = [];
  const nameOf = (path: string) => relative(folder, path).split(sep).join("/");
  const read = async (path: string): Promise<Held> => {
    const spelled = await names.spelled(path);
    try {
      const { text, notice } = (await readCaptionFile(spelled)) ?? {};
      if (notice !== undefined) notices.push(`${nameOf(spelled)} ${notice}`);
      return { path: spelled, text: text || undefined };
    } catch (error) {
      if (!isKinoraError(error)) throw error;
      return { path: spelled, text: undefined, problem: error.message };
    }
  };
  const beside: Held[] = [];
  for (const { stem } of found) beside.push(await read(stem + extension));
  const hasCopies = await isFolder(join(folder, captionsFolder));
  const onlyCopies = hasCopies && !manifest && beside.every(({ text, problem }) => text === undefined && !problem);

  const items: CaptionItem[] = [];
  const left: CaptionFolder["left"] = [];
  const leave = (name: string, reason: string, unreadable = false) => left.push({ name, reason, unreadable });
  const owners = new Map<string, string>();
  for (const [i, { name, media, stem }] of found.entries()) {
    const copy = hasCopies ? await read(join(folder, captionsFolder, basename(stem)) + extension) : undefined;
    const held = onlyCopies ? [copy!] : copy ? [beside[i]!, copy] : [beside[i]!];
    const owner = held.map(({ path }) => owners.get(path)).find((other) => other !== undefined);
    if (owner !== undefined) {
      leave(name, `its caption file belongs to ${owner}`);
      continue;
    }
    for (const { path } of held) owners.set(path, name);
    const { problem } = held.find((one) => one.problem !== undefined) ?? {};
    if (problem !== undefined) {
      leave(name, `its caption could not be read: ${problem}`, true);
      continue;
    }
    const [{ path: captionPath }, { path: copyPath } = {}] = held as [Held, Held?];
    const caption = held.find(({ text }) => text !== undefined)?.text;
    items.push({ name, media, captionPath, copyPath, draftPath: "", caption, draft: undefined });
  }
  const readable = [];
  for (const item of items) {
    // A clip called `a.draft.mp4` has its caption where the draft of `a.mp4` would be.
    do item.draftPath = draftPathOf(item.draftPath || item.captionPath, extension);
    while (owners.has(item.draftPath));
    const draft = await read(item.draftPath);
    if (draft.problem !== undefined) leave(item.name, `its draft could not be read: ${draft.problem}`, true);
    else readable.push({ ...item, draftPath: draft.path, draft: draft.text });
  }
  const { textLength } = mediaOf(wanModels[manifest?.model ?? defaultModel]);
  return { items: readable, left, notices, textLength };
}
