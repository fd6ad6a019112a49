// A film's file opened for decoding: its container, the stream to read and that stream's decoder, within bounds.
import { stat } from "node:fs/promises";
import { Codec, CodecContext, Dictionary, type FormatContext, type Stream } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { check, mostPixels } from "./ffmpeg.ts";
import { type MediaInfo, mediaInfo, openInput, type VideoInfo, videoStream } from "./probe.ts";
import { tellQuantizers } from "./quantizer.ts";

export interface ReaderOptions {
  /** Decoder threads; 0, the default, for one a core. */
  threads?: number;
  /** Interlaced frames are turned into progressive ones (bwdif) unless this is false. */
  deinterlace?: boolean;
  /** The stream to read, by the number that the container gives it. Absent: see `videoStream`. */
  streamId?: number;
  /** Pixels of a frame that are decoded; `mostPixels.film` by default. */
  mostPixels?: number;
  /** Frames tell their quantizer (quantizerOf). */
  quantizers?: boolean;
}

/** The caller frees the decoder and closes the context (`closeInput`). */
export interface OpenFilm {
  context: FormatContext;
  stream: Stream;
  decoder: CodecContext;
  media: MediaInfo;
  video: VideoInfo;
}

/** @throws KinoraError as `probe`, and `media.no-video`, `media.no-decoder`. */
export async function openFilm(
  path: string,
  { streamId, threads = 0, mostPixels: most, quantizers = false }: ReaderOptions,
): Promise<OpenFilm> {
  const context = await openInput(path, most);
  let decoder: CodecContext | undefined;
  try {
    const media = mediaInfo(context, path, (await stat(path)).size, streamId);
    const { video } = media;
    const stream = videoStream(context.streams, streamId);
    if (!video || !stream) {
      const why = media.hasAudio ? "contains audio but no video" : "contains no video";
      throw new KinoraError("media.no-video", `${JSON.stringify(path)} ${why}`, { hint: "name a film" });
    }
    const codec = Codec.findDecoder(stream.codecpar.codecId);
    if (!codec)
      throw new KinoraError("media.no-decoder", `no decoder for ${video.codec} in ${JSON.stringify(path)}`, {
        hint: "convert the file, for example with ffmpeg -i FILE out.mp4",
      });
    decoder = new CodecContext();
    decoder.allocContext3(codec);
    check(decoder.parametersToContext(stream.codecpar), "setting up the decoder of", path);
    decoder.pktTimebase = stream.timeBase;
    decoder.threadCount = threads;
    const settings = Dictionary.fromObject({
      max_pixels: String(most ?? mostPixels.film),
      ...(quantizers ? tellQuantizers : {}),
    });
    check(await decoder.open2(codec, settings), "opening the decoder of", path);
    return { context, stream, decoder, media, video };
  } catch (error) {
    decoder?.freeContext();
    await context.closeInput();
    throw error;
  }
}
