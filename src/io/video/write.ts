// Writing a film: H.264 in MP4 that starts playing at once, tagged colours, text kept as metadata; whole or not at all.
import { rm, stat } from "node:fs/promises";
import {
  AV_CODEC_FLAG_GLOBAL_HEADER,
  AV_PIX_FMT_RGB24,
  AV_PIX_FMT_YUV420P,
  AV_PIX_FMT_YUV444P,
  AVCOL_PRI_BT709,
  AVCOL_RANGE_MPEG,
  AVCOL_SPC_BT709,
  AVCOL_SPC_SMPTE170M,
  AVCOL_TRC_BT709,
  AVERROR_EAGAIN,
  AVFMT_FLAG_BITEXACT,
} from "node-av/constants";
import { Codec, CodecContext, Dictionary, FormatContext, Frame, Packet, Rational, type Stream } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { partialPath, replaceFile, writeError } from "../atomic.ts";
import { matrixForSize } from "./color.ts";
import { conversionChain } from "./conversion.ts";
import { check, fileUrl, isEndOfFile, mediaError } from "./ffmpeg.ts";
import { FrameFilter } from "./frame-filter.ts";
import { upright } from "./orientation.ts";

export interface VideoWriterOptions {
  width: number;
  height: number;
  /** Frames a second: a whole number or a fraction such as 24000/1001. */
  fps: number | { num: number; den: number };
  /** x264's constant quality: 0 lossless, 12–16 visually lossless, 18 the default here, 23 x264's own. */
  crf?: number;
  /** x264's speed against size. */
  preset?: "ultrafast" | "superfast" | "veryfast" | "faster" | "fast" | "medium" | "slow" | "slower";
  /** `yuv420p` plays everywhere and needs even sides; `yuv444p` keeps full colour resolution. */
  pixelFormat?: "yuv420p" | "yuv444p";
  /** Colour matrix, also written as a tag. By default what players assume for the size. */
  matrix?: "bt601" | "bt709";
  /** Encoder threads; 0, the default, for x264's own choice. Another number gives other bytes. */
  threads?: number;
  /** Text kept in the file, e.g. `comment` with the prompt and seed. Any key is kept. */
  metadata?: Record<string, string>;
}

/**
 * Macroblock-tree rate control off: it saves on what soon leaves the picture, where here every frame counts alike, and
 * its AVX-512 code gives other bytes in every run.
 */
export const steadyEncoding = { mbtree: "0" } as const;

/** What writing the file itself gave: a disk's errors are `io.*`, as everywhere. */
function written(status: number, path: string): void {
  if (status >= 0) return;
  const { code, message, hint } = mediaError(status, "writing", path);
  throw new KinoraError(code.replace(/^media\./, "io."), message, hint ? { hint } : {});
}

function rational(fps: VideoWriterOptions["fps"]): { num: number; den: number } {
  if (typeof fps !== "number") return fps;
  if (Number.isInteger(fps)) return { num: fps, den: 1 };
  const ntsc = Math.round(fps * 1.001);
  if (Math.abs(ntsc / 1.001 - fps) < 0.005) return { num: ntsc * 1000, den: 1001 };
  return { num: Math.round(fps * 1000), den: 1000 };
}

/**
 * Writes one film. Call `write` or `writeNative` for each frame, then `finish`; leaving without `finish` removes what
 * was written. The file appears under its name only when it is whole.
 *
 * @throws KinoraError `video.bad-size` (odd sides, or under 2 pixels), `video.no-encoder`, `io.disk-full`, `io.no-permission`, `io.not-found`.
 */
export class VideoWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #partial: string;
  readonly #options: VideoWriterOptions;
  readonly #format: FormatContext;
  readonly #encoder: CodecContext;
  readonly #stream: Stream;
  readonly #packet = new Packet();
  readonly #toYuv: FrameFilter<true>;
  #frames = 0n;
  #closed = false;

  private constructor(
    path: string,
    partial: string,
    options: VideoWriterOptions,
    format: FormatContext,
    encoder: CodecContext,
    stream: Stream,
  ) {
    this.#path = path;
    this.#partial = partial;
    this.#options = options;
    this.#format = format;
    this.#encoder = encoder;
    this.#stream = stream;
    this.#packet.alloc();
    const { pixelFormat = "yuv420p", matrix = matrixForSize(options.width, options.height) } = options;
    this.#toYuv = new FrameFilter((frame) =>
      conversionChain(frame, { orientation: upright, pixelAspect: 1 }, { format: pixelFormat, matrix }),
    );
  }

  static async create(path: string, options: VideoWriterOptions): Promise<VideoWriter> {
    const { width, height, pixelFormat = "yuv420p" } = options;
    const even = pixelFormat === "yuv420p";
    if (width < 2 || height < 2 || (even && (width % 2 !== 0 || height % 2 !== 0)))
      throw new KinoraError("video.bad-size", `a ${pixelFormat} video cannot be ${width}×${height}`, {
        expected: even ? "even sides of at least 2 pixels" : "sides of at least 2 pixels",
        hint: even ? "crop or scale to even sides, or choose yuv444p" : "choose a larger size",
      });
    const codec = Codec.findEncoderByName("libx264" as never);
    if (!codec)
      throw new KinoraError("video.no-encoder", "this FFmpeg was built without libx264", {
        hint: "install Kinora again: its own FFmpeg has it",
      });
    const partial = partialPath(path);
    const format = new FormatContext();
    const encoder = new CodecContext();
    try {
      written(format.allocOutputContext2(null, "mp4", fileUrl(partial)), path);
      encoder.allocContext3(codec);
      const { num, den } = rational(options.fps);
      encoder.width = width;
      encoder.height = height;
      encoder.pixelFormat = pixelFormat === "yuv420p" ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_YUV444P;
      encoder.timeBase = new Rational(den, num);
      encoder.framerate = new Rational(num, den);
      encoder.sampleAspectRatio = new Rational(1, 1);
      encoder.colorRange = AVCOL_RANGE_MPEG;
      encoder.colorPrimaries = AVCOL_PRI_BT709;
      encoder.colorTrc = AVCOL_TRC_BT709;
      encoder.colorSpace =
        (options.matrix ?? matrixForSize(width, height)) === "bt601" ? AVCOL_SPC_SMPTE170M : AVCOL_SPC_BT709;
      encoder.threadCount = options.threads ?? 0;
      encoder.setFlags(AV_CODEC_FLAG_GLOBAL_HEADER);
      const settings = Dictionary.fromObject({
        crf: String(options.crf ?? 18),
        preset: options.preset ?? "medium",
        ...steadyEncoding,
      });
      check(await encoder.open2(codec, settings), "opening the H.264 encoder for", path);
      const stream = format.newStream(null);
      stream.timeBase = encoder.timeBase;
      stream.avgFrameRate = encoder.framerate;
      check(stream.codecpar.fromContext(encoder), "writing", path);
      // No writing time and no version in the file: equal input gives equal bytes.
      format.setFlags(AVFMT_FLAG_BITEXACT);
      if (options.metadata) format.metadata = Dictionary.fromObject(options.metadata);
      written(await format.openOutput(), path);
      const muxing = Dictionary.fromObject({ movflags: "+faststart+use_metadata_tags" });
      written(await format.writeHeader(muxing), path);
      return new VideoWriter(path, partial, options, format, encoder, stream);
    } catch (error) {
      encoder.freeContext();
      await format.closeOutput().catch(() => {});
      format.freeContext();
      await rm(partial, { force: true });
      throw error;
    }
  }

  /** Adds a picture: [H, W, 3] bytes, full range RGB. */
  async write(rgb: Uint8Array): Promise<void> {
    const { width, height } = this.#options;
    if (rgb.length !== width * height * 3)
      throw new KinoraError("video.bad-frame", "a frame has the wrong number of bytes", {
        expected: `${height}·${width}·3 = ${width * height * 3}`,
        actual: String(rgb.length),
      });
    using frame = Frame.fromVideoBuffer(Buffer.from(rgb.buffer, rgb.byteOffset, rgb.length), {
      width,
      height,
      format: AV_PIX_FMT_RGB24,
      timeBase: { num: 1, den: 1000 },
    });
    for (const out of await this.#toYuv.push(frame, true)) {
      using yuv = out.frame;
      await this.writeNative(yuv);
    }
  }

  /** Adds a frame that already has this film's size and pixel format. The frame stays the caller's. */
  async writeNative(frame: Frame): Promise<void> {
    frame.pts = this.#frames++;
    // A source's key frames are no concern of this film.
    frame.pictType = 0 as never;
    check(await this.#encoder.sendFrame(frame), "encoding", this.#path);
    await this.#drain();
  }

  /** Ends the film and gives it its name. */
  async finish(): Promise<{ frames: number; bytes: number }> {
    check(await this.#encoder.sendFrame(null), "encoding", this.#path);
    await this.#drain();
    written(await this.#format.writeTrailer(), this.#path);
    const failed = this.#format.pb?.error ?? 0;
    await this.#release();
    try {
      written(failed, this.#path);
      const { size } = await stat(this.#partial);
      await replaceFile(this.#partial, this.#path);
      return { frames: Number(this.#frames), bytes: size };
    } catch (error) {
      await rm(this.#partial, { force: true });
      throw error instanceof KinoraError ? error : writeError(error, this.#path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    await this.#release();
    await rm(this.#partial, { force: true });
  }

  async #drain(): Promise<void> {
    for (;;) {
      const status = await this.#encoder.receivePacket(this.#packet);
      if (status === AVERROR_EAGAIN || isEndOfFile(status)) return;
      check(status, "encoding", this.#path);
      this.#packet.streamIndex = this.#stream.index;
      if (this.#packet.duration === 0n) this.#packet.duration = 1n;
      this.#packet.rescaleTs(this.#encoder.timeBase, this.#stream.timeBase);
      written(await this.#format.interleavedWriteFrame(this.#packet), this.#path);
    }
  }

  async #release(): Promise<void> {
    this.#closed = true;
    this.#toYuv[Symbol.dispose]();
    this.#packet.free();
    this.#encoder.freeContext();
    await this.#format.closeOutput();
    this.#format.freeContext();
  }
}
