// What planning must know of a file: size, exact number of frames, true rate. Clips are decoded to count them,
// because a container's own count may lie and only decoded frames can train.
import { stat } from "node:fs/promises";
import { KinoraError } from "../base/errors.ts";
import { ImageReader } from "../io/image/read.ts";
import { VideoReader } from "../io/video/reader.ts";
import { listFolder, mediaKind } from "./media-files.ts";

/** What a file holds, as it is shown. */
export interface MediaFacts {
  /** Size as shown, pixels: turned upright, with square pixels. */
  width: number;
  height: number;
  /** Frames that decode; 1 for a picture. */
  frames: number;
  /** Frames a second by the frames' own times; undefined for pictures, folders of frames and single-frame clips. */
  fps: number | undefined;
  /** Some frame stands half as long again as another, or more. */
  variableRate: boolean;
  /** Decoding met errors: some pixels may be wrong, some frames may be missing. */
  damaged: boolean;
  /** What of the file its frames do not hold, in words. */
  missing?: string;
}

/**
 * Looks into one picture, clip, or folder of frames (a clip with one picture a frame).
 * @throws KinoraError `media.*`, `image.*` where nothing in it can train.
 */
export type Probe = (path: string) => Promise<MediaFacts>;

/** Size, length and frame rate of a film, a picture or a folder of frames. @throws KinoraError `media.*`. */
export const probeMedia: Probe = async (path) => {
  if (mediaKind(path) === "image") return imageFacts(path);
  const isFolder = await stat(path).then(
    (info) => info.isDirectory(),
    () => false, // Opening it says what is wrong.
  );
  return isFolder ? folderFacts(path) : videoFacts(path);
};

async function imageFacts(path: string): Promise<MediaFacts> {
  // Decoded to the end, so that a picture cut off is found now and not in the middle of a run.
  using reader = await ImageReader.open(path);
  const { width, height } = reader.info;
  return { width, height, frames: 1, fps: undefined, variableRate: false, damaged: false };
}

async function folderFacts(path: string): Promise<MediaFacts> {
  const pictures = (await listFolder(path)).filter((entry) => mediaKind(entry.path) === "image");
  const first = pictures[0];
  if (!first)
    throw new KinoraError("media.no-frames", `the folder ${JSON.stringify(path)} contains no pictures`, {
      hint: "remove it from the set, or put another in its place",
    });
  return { ...(await imageFacts(first.path)), frames: pictures.length };
}

async function videoFacts(path: string): Promise<MediaFacts> {
  await using reader = await VideoReader.open(path, { deinterlace: false });
  let frames = 0;
  let first = 0;
  let last = 0;
  let shortest = Number.POSITIVE_INFINITY;
  let longest = 0;
  for await (const { time } of reader.frames()) {
    if (frames === 0) first = time;
    else {
      shortest = Math.min(shortest, time - last);
      longest = Math.max(longest, time - last);
    }
    last = time;
    frames++;
  }
  if (frames === 0)
    throw new KinoraError("media.no-frames", `${JSON.stringify(path)} contains no frame that can be decoded`, {
      hint: "remove it from the set, or put another in its place",
    });
  const missing = await reader.missing();
  return {
    width: reader.video.width,
    height: reader.video.height,
    frames,
    fps: last > first ? (frames - 1) / (last - first) : undefined,
    variableRate: longest > 1.5 * shortest,
    damaged: reader.errors > 0,
    ...(missing === undefined ? {} : { missing }),
  };
}
