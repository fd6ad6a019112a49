// What a dataset's place holds, before any picture or clip is opened: the files it names, captions, what it leaves out.
// Types and the few steps all kinds of place share; the kinds are in sources.ts and prepared.ts.
import { stat } from "node:fs/promises";
import { relative, sep } from "node:path";
import { isKinoraError } from "../base/errors.ts";
import type { Rect } from "../io/video/conversion.ts";
import type { ModelName } from "../protocol/model-media.ts";
import { readCaptionFile } from "./caption-file.ts";
import type { MediaKind } from "./media-files.ts";
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
  code: "not-media" | "other-kind" | "no-caption" | "bad-caption" | "folder" | "missing" | "changed";
  reason: string;
  /** The kind of item it was to give; undefined where the dataset asks nothing of such a file. */
  asked: MediaKind | undefined;
}

export interface SourceListing {
  /** The folder or JSONL file, absolute. */
  place: string;
  entries: SourceEntry[];
  ignored: IgnoredFile[];
  /** Caption files that belong to no picture or clip, by their paths within the dataset. */
  orphanCaptions: string[];
  /** What whoever wrote its texts should hear, by the paths of these within the dataset. */
  notices: { name: string; notice: string }[];
  /** What the folder was prepared for. */
  prepared: { model: ModelName; resolution: [number, number] | undefined } | undefined;
}

export const emptyListing = (place: string, prepared?: SourceListing["prepared"]): SourceListing => ({
  place,
  entries: [],
  ignored: [],
  orphanCaptions: [],
  notices: [],
  prepared,
});

/** A file's size in bytes; undefined where there is none. */
export const sizeOf = (path: string): Promise<number | undefined> =>
  stat(path).then(
    (info) => info.size,
    () => undefined,
  );

export const exists = async (path: string): Promise<boolean> => (await sizeOf(path)) !== undefined;

/** A file's path within its dataset, with forward slashes on every system. */
export function nameIn(root: string, file: string): string {
  return relative(root, file).split(sep).join("/");
}

export const noCaption: Caption = { path: undefined, text: undefined };

/**
 * The caption of a file, from `path`. Undefined where it cannot be read: then the file is passed over with the reason,
 * because nobody means it to train without its words.
 */
export async function readCaption(
  listing: SourceListing,
  path: string,
  of: Pick<IgnoredFile, "name" | "file"> & { asked: MediaKind },
): Promise<Caption | undefined> {
  try {
    const { text, notice } = (await readCaptionFile(path)) ?? { text: "" };
    if (notice !== undefined) listing.notices.push({ name: nameIn(listing.place, path), notice });
    return { path, text };
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    const reason = `its caption could not be read: ${error.message}${error.hint ? ` (${error.hint})` : ""}`;
    listing.ignored.push({ ...of, code: "bad-caption", reason });
    return undefined;
  }
}
