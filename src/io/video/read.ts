// Reading a film as pictures: a range of time, at a steady rate, cropped and scaled, as RGB or as FFmpeg frames.
import type { Frame } from "node-av/lib";
import { type Conversion, conversionChain } from "./conversion.ts";
import { reference } from "./ffmpeg.ts";
import type { ReaderOptions } from "./film-file.ts";
import { FrameFilter } from "./frame-filter.ts";
import { type DecodedFrame, type DecodeOptions, VideoReader } from "./reader.ts";
import { resample } from "./resample.ts";

/** One picture of a film. */
export interface RgbFrame {
  width: number;
  height: number;
  /** [H, W, 3], sRGB-like full range 0–255. */
  data: Uint8Array;
  /** Seconds from the film's first moment; with `fps`, the beginning of the picture's slot. */
  time: number;
  /** Counts the pictures given, from 0. */
  index: number;
  /** True where decoding was damaged here. */
  corrupt: boolean;
}

export interface ReadOptions extends DecodeOptions, ReaderOptions, Omit<Conversion, "format" | "matrix"> {
  /** Pictures a second, by timestamps. Absent: every frame as it comes. */
  fps?: number;
  /** Stop after this many pictures. */
  maxFrames?: number;
}

/** A frame converted by FFmpeg. It is lent until the next one is asked for. */
export interface NativeFrame {
  frame: Frame;
  time: number;
  index: number;
  corrupt: boolean;
}

/** The frames of a range, at `fps` where given, unconverted and lent. */
export async function* sampledFrames(
  reader: VideoReader,
  options: DecodeOptions & { fps?: number },
): AsyncGenerator<DecodedFrame> {
  const { fps, start = 0, end } = options;
  const frames = reader.frames(options);
  if (fps === undefined) {
    for await (const item of frames) if (item.time >= start - 1e-9 || item.time + item.duration > start) yield item;
    return;
  }
  const slots = resample(frames, {
    fps,
    start,
    ...(end === undefined ? {} : { end }),
    keep: (item) => ({ ...item, frame: reference(item.frame) }),
    drop: (item) => item.frame.free(),
  });
  for await (const { slot, item } of slots) yield { ...item, time: start + slot / fps, duration: 1 / fps };
}

/** Pictures converted as asked, as FFmpeg frames (for an encoder or a further filter). */
export async function* readNative(
  reader: VideoReader,
  options: ReadOptions & Pick<Conversion, "format" | "matrix">,
): AsyncGenerator<NativeFrame> {
  const geometry = reader.video;
  const { maxFrames = Number.POSITIVE_INFINITY } = options;
  using filter = new FrameFilter<{ time: number; corrupt: boolean }>((frame) =>
    conversionChain(frame, geometry, options),
  );
  let index = 0;
  for await (const { frame, time, corrupt } of sampledFrames(reader, options)) {
    for (const out of await filter.push(frame, { time, corrupt })) {
      using ready = out.frame;
      yield { frame: ready, index: index++, ...out.beside };
      if (index >= maxFrames) return;
    }
  }
}

/**
 * The pictures of a film as RGB, upright, square pixels, colours converted by the film's own matrix and range, high
 * dynamic range tone-mapped, interlacing removed. Only a few frames are in memory, however long the film.
 *
 * @throws KinoraError `media.*` where the file cannot be opened. Damage inside it does not throw: see `corrupt`.
 */
export async function* openVideo(path: string, options: ReadOptions = {}): AsyncGenerator<RgbFrame> {
  await using reader = await VideoReader.open(path, options);
  for await (const { frame, ...beside } of readNative(reader, { ...options, format: "rgb24" }))
    yield { width: frame.width, height: frame.height, data: packed(frame), ...beside };
}

/** A copy of the frame's pixels without padding: one plane after the other. */
export function packed(frame: Frame): Uint8Array {
  const buffer = frame.toBuffer();
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

/** A view of plane `index` of a frame, valid while the frame is: rows of `stride` bytes. */
export function plane(frame: Frame, index: number): { data: Uint8Array; stride: number } {
  return { data: frame.data![index]!, stride: frame.linesize[index]! };
}
