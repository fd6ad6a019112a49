// What a film or picture file holds, read from its headers without decoding.
import { stat } from "node:fs/promises";
import {
  AV_DISPOSITION_ATTACHED_PIC,
  AV_DISPOSITION_DEPENDENT,
  AV_DISPOSITION_TIMED_THUMBNAILS,
  AV_PKT_DATA_DISPLAYMATRIX,
  AVFMT_TS_DISCONT,
  AVMEDIA_TYPE_AUDIO,
  AVMEDIA_TYPE_VIDEO,
} from "node-av/constants";
import { avGetCodecName, avGetPixFmtName, Dictionary, FormatContext, type Stream } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { type ColorInfo, colorOf } from "./color.ts";
import { withAlpha } from "./conversion.ts";
import { check, fileUrl, isEndOfFile, mediaError, mostPixels, seconds, tooLarge } from "./ffmpeg.ts";
import { type Orientation, orientationOfMatrix, upright } from "./orientation.ts";

export interface VideoInfo {
  codec: string;
  /** Size as shown: turned upright, with square pixels. */
  width: number;
  height: number;
  /** Size as stored in the stream. */
  codedWidth: number;
  codedHeight: number;
  /** Width of a stored pixel over its height; 1 where the file names none. */
  pixelAspect: number;
  orientation: Orientation;
  pixelFormat: string;
  hasAlpha: boolean;
  color: ColorInfo;
  interlaced: boolean;
  /** Frames a second, averaged over the stream; 0 where the file does not tell. Reading goes by timestamps. */
  fps: number;
  /** Number of frames the header claims; 0 where it does not. */
  frameCount: number;
}

export interface MediaInfo {
  path: string;
  bytes: number;
  container: string;
  /** Seconds of the film as the header tells; 0 where it does not. */
  duration: number;
  hasAudio: boolean;
  /** Text tags of the container, e.g. `comment`. */
  metadata: Record<string, string>;
  /** The film or picture; undefined for sound alone (cover pictures do not count). */
  video?: VideoInfo;
}

/** Cover pictures, previews for a player's slider and the tiles of a larger picture are no films. */
const noFilm = AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS | AV_DISPOSITION_DEPENDENT;

export function isFilmStream({ codecpar, disposition }: Stream): boolean {
  return codecpar.codecType === AVMEDIA_TYPE_VIDEO && (disposition & noFilm) === 0;
}

/**
 * The stream to read: the one of that `id`, else of those with more than one frame, where there are any, the one with most
 * pixels.
 */
export function videoStream(streams: readonly Stream[], id?: number): Stream | undefined {
  const films = streams.filter(isFilmStream);
  if (id !== undefined) return films.find((stream) => stream.id === id);
  // A cover picture that is not marked as one may be larger than the film.
  const moving = films.filter((stream) => stream.nbFrames !== 1n);
  const pixels = (stream: Stream) => stream.codecpar.width * stream.codecpar.height;
  return (moving.length > 0 ? moving : films).reduce<Stream | undefined>(
    (best, stream) => (best === undefined || pixels(stream) > pixels(best) ? stream : best),
    undefined,
  );
}

function ratio(value: { num: number; den: number }): number {
  return value.num > 0 && value.den > 0 ? value.num / value.den : 0;
}

export function videoInfo(stream: Stream): VideoInfo {
  const parameters = stream.codecpar;
  const pixelFormat = avGetPixFmtName(parameters.format as never) ?? "unknown";
  const matrix = parameters.getCodedSideData(AV_PKT_DATA_DISPLAYMATRIX);
  const orientation = matrix && matrix.length >= 36 ? orientationOfMatrix(matrix) : upright;
  const aspect = ratio(stream.sampleAspectRatio) || ratio(parameters.sampleAspectRatio) || 1;
  // Nothing real has pixels so wide or tall; taken seriously, they would make any picture enormous.
  const pixelAspect = aspect > 16 || aspect < 1 / 16 ? 1 : aspect;
  const { width: codedWidth, height: codedHeight } = parameters;
  const squareWidth = Math.max(1, Math.round(codedWidth * pixelAspect));
  const averageRate = ratio(stream.avgFrameRate);
  const { fieldOrder } = parameters.toJSON() as { fieldOrder: number };
  return {
    codec: avGetCodecName(parameters.codecId) ?? "unknown",
    width: orientation.swapsSides ? codedHeight : squareWidth,
    height: orientation.swapsSides ? squareWidth : codedHeight,
    codedWidth,
    codedHeight,
    pixelAspect,
    orientation,
    pixelFormat,
    hasAlpha: withAlpha.test(pixelFormat),
    color: colorOf(parameters, codedWidth, codedHeight, pixelFormat),
    // AVFieldOrder: 0 unknown, 1 progressive, 2 to 5 the ways of interlacing.
    interlaced: fieldOrder >= 2,
    fps: averageRate || ratio(stream.rFrameRate),
    frameCount: Number(stream.nbFrames),
  };
}

/** Opens a file and reads its headers. The caller closes the context (`closeInput`). `most`: pixels of a frame. */
export async function openInput(path: string, most = mostPixels.film): Promise<FormatContext> {
  let bytes: number;
  try {
    const found = await stat(path);
    if (found.isDirectory())
      throw new KinoraError("media.is-folder", `${JSON.stringify(path)} is a folder`, { hint: "name a file" });
    // Opening a pipe would wait for its writer, a device may never end.
    if (!found.isFile())
      throw new KinoraError("media.not-a-file", `${JSON.stringify(path)} is a pipe, a socket or a device`, {
        hint: "give a regular file",
      });
    bytes = found.size;
  } catch (error) {
    if (error instanceof KinoraError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    throw new KinoraError(
      code === "ENOENT" ? "media.not-found" : code === "EACCES" ? "media.no-permission" : "media.io-error",
      `opening ${JSON.stringify(path)}: ${(error as Error).message}`,
      {
        hint: code === "ENOENT" ? "check the path" : "check that you may read it and that its disk is mounted",
        cause: error,
      },
    );
  }
  if (bytes === 0)
    throw new KinoraError("media.empty", `${JSON.stringify(path)} is an empty file (0 bytes)`, {
      hint: "copy or download it again",
    });
  const context = await openContext(path, most, null);
  const isStream = ((context.iformat?.flags ?? 0) & AVFMT_TS_DISCONT) !== 0;
  const stream = videoStream(context.streams);
  if (!isStream || bytes <= firstLook || (stream && stream.codecpar.width > 0)) return context;
  // A broadcast may begin with sound alone: the picture comes later than FFmpeg looks by itself.
  await context.closeInput();
  return await openContext(path, most, { probesize: String(longLook), analyzeduration: "300000000" });
}

/** Bytes FFmpeg reads to know a file's streams, and those that are read where it found no picture in them. */
const firstLook = 5_000_000;
const longLook = 200_000_000;

async function openContext(path: string, most: number, options: Record<string, string> | null): Promise<FormatContext> {
  const context = new FormatContext();
  // A failed open frees the context itself.
  const opened = await context.openInput(fileUrl(path), null, options && Dictionary.fromObject(options));
  if (opened < 0) {
    const error = mediaError(opened, "opening", path);
    // A file that ends before its first frame is as unreadable as one of another kind.
    if (error.code !== "media.invalid-data" && !isEndOfFile(opened)) throw error;
    throw new KinoraError(
      "media.unreadable",
      `${JSON.stringify(path)} is not a video or picture that FFmpeg can read`,
      {
        hint: "it may be truncated (its index is missing), or have the wrong extension",
      },
    );
  }
  try {
    // Before frames are decoded to know more of them, and after it.
    checkSizes(context, path, most);
    check(await context.findStreamInfo(null), "reading the streams of", path);
    checkSizes(context, path, most);
    return context;
  } catch (error) {
    await context.closeInput();
    throw error;
  }
}

function checkSizes(context: FormatContext, path: string, most: number): void {
  for (const { codecpar } of context.streams)
    if (codecpar.width * codecpar.height > most) throw tooLarge(path, codecpar.width, codecpar.height, most);
}

export function mediaInfo(context: FormatContext, path: string, bytes: number, id?: number): MediaInfo {
  const stream = videoStream(context.streams, id);
  const video = stream && stream.codecpar.width > 0 && stream.codecpar.height > 0 ? videoInfo(stream) : undefined;
  const streamSeconds = stream ? seconds(stream.duration, stream.timeBase) : undefined;
  return {
    path,
    bytes,
    container: context.iformat?.name ?? "unknown",
    duration: Math.max(0, streamSeconds ?? seconds(context.duration, { num: 1, den: 1_000_000 }) ?? 0),
    hasAudio: context.streams.some((entry) => entry.codecpar.codecType === AVMEDIA_TYPE_AUDIO),
    metadata: context.metadata?.getAll() ?? {},
    ...(video ? { video } : {}),
  };
}

/**
 * Reads the headers of a media file.
 * @throws KinoraError `media.not-found`, `media.no-permission`, `media.is-folder`, `media.not-a-file`, `media.empty`, `media.unreadable`.
 */
export async function probe(path: string): Promise<MediaInfo> {
  const context = await openInput(path);
  try {
    return mediaInfo(context, path, (await stat(path)).size);
  } finally {
    await context.closeInput();
  }
}
