// What a model is shown of an item: evenly sampled frames of a clip, the clip itself, or a picture; small enough to send.
import { randomUUID } from "node:crypto";
import { readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { KinoraError } from "../../base/errors.ts";
import type { ChatPart } from "../../io/chat/wire.ts";
import { readImage } from "../../io/image/read.ts";
import { encodeImage } from "../../io/image/write.ts";
import type { Rect } from "../../io/video/conversion.ts";
import { probe } from "../../io/video/probe.ts";
import { openVideo, type RgbFrame } from "../../io/video/read.ts";
import { VideoWriter } from "../../io/video/write.ts";

/** A picture, or the whole or a part of a film. */
export interface Media {
  path: string;
  medium: "clip" | "picture";
  /** Seconds; the whole film where absent. */
  start?: number;
  end?: number;
  /** Pixels of the picture as shown; all of it where absent. */
  crop?: Rect;
}

export interface ShowOptions {
  /** `video` sends clips as films; pictures are pictures either way. */
  send: "frames" | "video";
  /** Frames of a clip. */
  frames: number;
  /** Longest side of what is sent, in pixels; smaller things are not enlarged. */
  side: number;
  signal?: AbortSignal;
}

export interface Shown {
  part: ChatPart;
  /** Frames of a clip that are sent; absent for films and pictures. */
  frames?: number;
  /** Length of the clip; absent for pictures. */
  seconds?: number;
}

const jpegQuality = 90;

/** Frames a second at which a service should look at a film: Qwen-VL's own default. */
const lookFps = 2;

/** DashScope takes films of up to 10 MB once in base64; others have limits of their own, mostly larger. */
const mostVideoBytes = 7_000_000;

interface Size {
  width: number;
  height: number;
}

function scaledSize({ width, height }: Size, side: number, step = 1): Size {
  const scale = Math.min(1, side / Math.max(width, height));
  const rounded = (value: number) => Math.max(step, Math.round((value * scale) / step) * step);
  return { width: rounded(width), height: rounded(height) };
}

/** Seconds of a film whose header does not tell, by reading it through. */
async function measuredDuration(path: string, signal: AbortSignal | undefined): Promise<number> {
  let end = 0;
  for await (const frame of openVideo(path, { width: 16, height: 16, scaler: "area", ...(signal ? { signal } : {}) }))
    end = frame.time + 0.04;
  return end;
}

interface Range extends Size {
  start: number;
  seconds: number;
  /** Frames the range should hold; infinite where the header does not tell the rate. */
  count: number;
  fps: number;
  codec: string;
}

async function rangeOf(media: Media, signal: AbortSignal | undefined): Promise<Range> {
  const { duration, video } = await probe(media.path);
  if (!video)
    throw new KinoraError("media.no-video", `${JSON.stringify(media.path)} contains no video`, {
      hint: "leave it out of the set, or prepare the set again",
    });
  const start = media.start ?? 0;
  const end = media.end ?? (duration || (await measuredDuration(media.path, signal)));
  const seconds = Math.max(end - start, 0);
  const { width, height } = media.crop ?? video;
  return {
    width,
    height,
    start,
    seconds,
    fps: video.fps,
    codec: video.codec,
    count: video.fps > 0 ? Math.round(seconds * video.fps) : Infinity,
  };
}

function nothingToSee(media: Media): KinoraError {
  return new KinoraError("media.no-frames", `${JSON.stringify(media.path)} has no frame that can be decoded`, {
    hint: "leave it out of the set, or prepare the set again",
  });
}

/** From this length on, seeking to each frame is cheaper than decoding everything between them. */
const seekFromSeconds = 20;

/** Up to `count` frames, those in the middles of as many equal stretches of the range. */
async function* evenly(
  media: Media,
  range: Range,
  count: number,
  { side, signal }: ShowOptions,
): AsyncGenerator<RgbFrame> {
  const seconds = range.seconds || 1;
  const common = {
    ...scaledSize(range, side),
    ...(media.crop ? { crop: media.crop } : {}),
    ...(signal ? { signal } : {}),
    end: range.start + seconds,
  };
  if (seconds < seekFromSeconds)
    yield* openVideo(media.path, { ...common, start: range.start, fps: count / seconds, maxFrames: count });
  else
    for (let i = 0; i < count; i++)
      yield* openVideo(media.path, { ...common, start: range.start + ((i + 0.5) * seconds) / count, maxFrames: 1 });
}

/** Evenly sampled frames of the clip, as JPEG. */
async function frameParts(media: Media, options: ShowOptions): Promise<Shown> {
  const range = await rangeOf(media, options.signal);
  const count = Math.max(1, Math.min(options.frames, range.count));
  const frames: Uint8Array[] = [];
  for await (const frame of evenly(media, range, count, options))
    frames.push(await encodeImage(frame, "jpeg", jpegQuality));
  if (frames.length === 0) throw nothingToSee(media);
  const fps = count / (range.seconds || 1);
  return {
    // Services take 0.1 to 10 frames a second.
    part: { type: "frames", frames, mime: "image/jpeg", fps: Math.min(10, Math.max(0.1, Number(fps.toFixed(3)))) },
    frames: frames.length,
    seconds: range.seconds,
  };
}

/** The clip as an MP4: the file itself where it is a small whole H.264 one, else encoded anew at `side`. */
async function videoPart(media: Media, { side, signal }: ShowOptions): Promise<Shown> {
  const range = await rangeOf(media, signal);
  const whole = media.start === undefined && media.end === undefined && media.crop === undefined;
  const plain = range.codec === "h264" && [".mp4", ".m4v"].includes(extname(media.path).toLowerCase());
  const asVideo = (bytes: Uint8Array): Shown => ({
    part: { type: "video", bytes, mime: "video/mp4", fps: lookFps },
    seconds: range.seconds,
  });
  const { size } = await stat(media.path);
  if (whole && plain && size <= mostVideoBytes) return asVideo(await readFile(media.path));

  const path = join(tmpdir(), `kinora-caption-${randomUUID()}.mp4`);
  const scaled = scaledSize(range, side, 2);
  const fps = range.fps > 0 ? Math.min(range.fps, 24) : 16;
  try {
    await using writer = await VideoWriter.create(path, { ...scaled, fps, crf: 23, preset: "veryfast" });
    let written = 0;
    for await (const frame of openVideo(media.path, {
      ...scaled,
      ...(media.crop ? { crop: media.crop } : {}),
      ...(signal ? { signal } : {}),
      start: range.start,
      ...(range.seconds > 0 ? { end: range.start + range.seconds } : {}),
      fps,
    })) {
      await writer.write(frame.data);
      written++;
    }
    if (written === 0) throw nothingToSee(media);
    const { bytes } = await writer.finish();
    if (bytes > mostVideoBytes)
      throw new KinoraError(
        "caption.video-too-large",
        `${JSON.stringify(media.path)} is too large to send as a video`,
        {
          expected: `at most ${mostVideoBytes / 1e6} MB`,
          actual: `${(bytes / 1e6).toFixed(1)} MB at ${scaled.width}×${scaled.height}`,
          hint: "send frames (`send`), or make them smaller with `frameSize`",
        },
      );
    return asVideo(await readFile(path));
  } finally {
    await rm(path, { force: true });
  }
}

async function picturePart(media: Media, { side }: ShowOptions): Promise<Shown> {
  const picture = await readImage(media.path, {
    geometry: (info) => ({
      ...(media.crop ? { crop: media.crop } : {}),
      ...scaledSize(media.crop ?? info, side),
    }),
  });
  return { part: { type: "picture", bytes: await encodeImage(picture, "jpeg", jpegQuality), mime: "image/jpeg" } };
}

/**
 * What the model is shown of `media`.
 * @throws KinoraError `media.*`, `image.*`, `caption.video-too-large`.
 */
export async function show(media: Media, options: ShowOptions): Promise<Shown> {
  if (media.medium === "picture") return picturePart(media, options);
  return options.send === "video" ? videoPart(media, options) : frameParts(media, options);
}
