// Decoding: a film opened once, its frames by time, damage survived and marked. Frames are FFmpeg's, not yet pictures.

import {
  AV_FRAME_DATA_DISPLAYMATRIX,
  AV_FRAME_FLAG_CORRUPT,
  AV_FRAME_FLAG_INTERLACED,
  AV_NOPTS_VALUE,
  AVERROR_EAGAIN,
  AVFMT_NOTIMESTAMPS,
  AVSEEK_FLAG_BACKWARD,
} from "node-av/constants";
import { type CodecContext, type FormatContext, Frame, Packet, type Stream } from "node-av/lib";
import { longestFrame, mayJump, PacketClock } from "./continuity.ts";
import { isEndOfFile, mediaError, reference } from "./ffmpeg.ts";
import { type OpenFilm, openFilm, type ReaderOptions } from "./film-file.ts";
import { FrameFilter } from "./frame-filter.ts";
import { furtherMovies } from "./movie-boxes.ts";
import { orientationOfMatrix } from "./orientation.ts";
import { isFilmStream, type MediaInfo, type VideoInfo } from "./probe.ts";
import { isUncertain, tickOf, timelineOf } from "./timeline.ts";

/** One decoded frame. It is lent until the next one is asked for; `reference` keeps it longer. */
export interface DecodedFrame {
  frame: Frame;
  /** Seconds from the film's first moment. */
  time: number;
  /** Seconds on screen. */
  duration: number;
  /** True from a decoding error to the next clean key frame: the pixels may be wrong. */
  corrupt: boolean;
  interlaced: boolean;
}

export interface DecodeOptions {
  /** Seconds; the frame on screen at this time is the first one given. */
  start?: number;
  /** Seconds; no frame that begins at or after it is given. */
  end?: number;
  signal?: AbortSignal;
}

/** Seconds before the wanted time that are tried one after the other. Each step is a seek, only the last decodes much. */
const seekBacks = [0, 2, 15, 60, 240, 960, 3840, Number.POSITIVE_INFINITY];
/** A first frame later than this many frames' time says that a seek to the start has missed it (MPEG streams without an index). */
const lateStart = 1.5;

/** Containers in which nothing comes behind the last packet, and the share of the file that may all the same. */
const endsWithPackets = /^(flv|ogg)$/;
const mostUnread = 0.05;

/** A film open for reading; `frames` may be called again and again, one run at a time. */
export class VideoReader implements AsyncDisposable {
  readonly media: MediaInfo;
  readonly video: VideoInfo;
  /** Decoding errors met so far. */
  errors = 0;
  /** True where the file ended before its headers said: a read error or missing packets at the end. */
  brokenEnd = false;
  /** Places met in the last run of `frames` where timestamps jump; the parts follow each other. */
  joints = 0;
  /** Frames of other streams met in it where this one had none for long: a part of the film that is not read. */
  strays = 0;
  /** Share of the file that lies behind the last packet that FFmpeg gave, once a run has come to the end. */
  unread = 0;
  #context: FormatContext;
  #stream: Stream;
  #decoder: CodecContext;
  readonly #origin: number | undefined;
  readonly #options: ReaderOptions;
  #atStart = true;
  readonly #films = new Map<number, boolean>();
  #reachable: Promise<boolean> | undefined;

  private constructor({ context, stream, decoder, media, video }: OpenFilm, options: ReaderOptions) {
    this.#context = context;
    this.#stream = stream;
    this.#decoder = decoder;
    this.#options = options;
    this.media = media;
    this.video = video;
    if (stream.startTime !== AV_NOPTS_VALUE) this.#origin = this.#seconds(stream.startTime);
  }

  /** @throws KinoraError as `probe`, and `media.no-video`, `media.no-decoder`. */
  static async open(path: string, options: ReaderOptions = {}): Promise<VideoReader> {
    return new VideoReader(await openFilm(path, options), options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#decoder.freeContext();
    await this.#context.closeInput();
  }

  /**
   * Decoded frames in order of time, progressive ones also from interlaced films.
   * Damaged packets are skipped and counted; the frames they spoil come marked `corrupt`.
   */
  async *frames(options: DecodeOptions = {}): AsyncGenerator<DecodedFrame> {
    const decoded = this.#inRange(options);
    if (this.#options.deinterlace === false) {
      yield* decoded;
      return;
    }
    // bwdif needs both neighbours; only films that have interlaced frames pay for it.
    using filter = new FrameFilter<Omit<DecodedFrame, "frame">>(
      () => "bwdif=mode=send_frame:parity=auto:deint=interlaced",
    );
    let active = this.video.interlaced;
    for await (const item of decoded) {
      active ||= item.interlaced;
      if (!active) {
        yield item;
        continue;
      }
      const { frame, ...beside } = item;
      for (const out of await filter.push(frame, beside)) {
        using ready = out.frame;
        yield { frame: ready, ...out.beside };
      }
    }
    for (const out of await filter.finish()) {
      using ready = out.frame;
      yield { frame: ready, ...out.beside };
    }
  }

  /**
   * The key frame at or before `time`, quickly: for a look at what the film is like. The caller frees the frame.
   * Undefined where there is none to be had.
   */
  async glimpse(time: number): Promise<Frame | undefined> {
    if (this.#startsOver) await this.#openAnew();
    else if (!(await this.#rewindTo(Math.max(0, time)))) return undefined;
    this.#atStart = false;
    using packet = new Packet();
    packet.alloc();
    const frame = new Frame();
    frame.alloc();
    // A handful of packets is enough: the key frame comes first, or damage does.
    for (let sent = 0; sent < 8; ) {
      const read = await this.#context.readFrame(packet);
      if (read < 0) break;
      const ours = packet.streamIndex === this.#stream.index;
      if (ours) await this.#decoder.sendPacket(packet);
      packet.unref();
      if (!ours) continue;
      sent++;
      // Nothing follows, so that the decoder gives the frame at once; it is flushed before its next use.
      await this.#decoder.sendPacket(null);
      const status = await this.#decoder.receiveFrame(frame);
      this.#decoder.flushBuffers();
      if (status >= 0 && frame.width > 0) return frame;
    }
    frame.free();
    return undefined;
  }

  /** What of the film no run gives, in words; undefined where nothing is missing. Known after a run to the end. */
  async missing(): Promise<string | undefined> {
    const { path, container } = this.media;
    if (container.startsWith("mov,") && (await furtherMovies(path)) > 0)
      return "contains more videos after the first, which are ignored";
    if (this.strays > 0)
      return `about ${(this.strays / (this.video.fps || 25)).toFixed(1)} s are in another stream, which is ignored`;
    if (this.unread > mostUnread) return `${Math.round(this.unread * 100)} % of the file could not be read`;
    return undefined;
  }

  #seconds(timestamp: bigint): number {
    return Number(timestamp) * tickOf(this.#stream);
  }

  /** Whether every reading must begin at the beginning. */
  get #startsOver(): boolean {
    const { container } = this.media;
    // A palette may come with the first packet alone, or change on the way. Moving pictures store differences.
    if (this.video.pixelFormat === "pal8" || /^(gif|apng|webp_anim)$/.test(container)) return true;
    // A raw stream has no times to go by.
    return ((this.#context.iformat?.flags ?? 0) & AVFMT_NOTIMESTAMPS) !== 0;
  }

  /** Whether a time can be reached by seeking. Where timestamps jump, several moments have the same one. */
  #canSeek(signal: AbortSignal | undefined): Promise<boolean> {
    this.#reachable ??= (async () => {
      if (this.#startsOver) return false;
      return !isUncertain(this.media) || (await timelineOf(this.media.path, signal)).joints === 0;
    })();
    return this.#reachable;
  }

  /** Starts at the frame on screen at `start`: all frames before it are decoded and dropped. */
  async *#inRange({ start = 0, end = Number.POSITIVE_INFINITY, signal }: DecodeOptions): AsyncGenerator<DecodedFrame> {
    // Where an index is coarse or wrong a seek lands late: try again from further back, at last from the beginning.
    const earliest = Math.max(start, lateStart / (this.video.fps || 25));
    const seeks = start > 0 ? seekBacks : [Number.POSITIVE_INFINITY];
    const seekable =
      start > 0 ? await this.#canSeek(signal) : this.#atStart || !(this.#startsOver || isUncertain(this.media));
    for (const back of [...(seekable ? seeks : []), "anew" as const]) {
      const target = back === "anew" ? 0 : start - back;
      const fromBeginning = target <= 0;
      const certain = back === "anew" || (fromBeginning && this.#atStart);
      if (back === "anew") await this.#openAnew();
      else if (!(await this.#rewindTo(fromBeginning ? 0 : target))) continue;
      let late = false;
      let first = true;
      let before: DecodedFrame | undefined;
      let passed = false;
      try {
        for await (const item of this.#decode(signal)) {
          if (first && !certain && item.time > (fromBeginning ? earliest : start)) {
            late = true;
            break;
          }
          first = false;
          if (item.time >= end) break;
          if (!passed && item.time <= start) {
            before?.frame.free();
            before = { ...item, frame: reference(item.frame) };
            continue;
          }
          if (before) {
            yield before;
            before.frame.free();
            before = undefined;
          }
          passed = true;
          yield item;
        }
        // A seek behind the last indexed frame gives nothing at all.
        late ||= !passed && !before && !certain;
        if (before && !late) yield before;
      } finally {
        before?.frame.free();
      }
      if (!late) return;
    }
  }

  /** The one way back to the start that never fails. */
  async #openAnew(): Promise<void> {
    // A new decoder too: some keep what they learnt of other places when they are flushed.
    const { context, stream, decoder } = await openFilm(this.media.path, this.#options);
    this.#decoder.freeContext();
    await this.#context.closeInput();
    [this.#context, this.#stream, this.#decoder] = [context, stream, decoder];
  }

  async #rewindTo(time: number): Promise<boolean> {
    if (time <= 0 && this.#atStart) return true;
    const { num, den } = this.#stream.timeBase;
    const timestamp = BigInt(Math.floor(((time + (this.#origin ?? 0)) * den) / num));
    const status = await this.#context.seekFrame(this.#stream.index, timestamp, AVSEEK_FLAG_BACKWARD);
    this.#decoder.flushBuffers();
    return status >= 0;
  }

  /** Streams that appear on the way are asked about once. */
  #isFilm(index: number): boolean {
    let known = this.#films.get(index);
    if (known === undefined) {
      const stream = this.#context.streams[index];
      known = stream !== undefined && isFilmStream(stream);
      this.#films.set(index, known);
    }
    return known;
  }

  /** Where streams run side by side, few frames of others lie between two of this one. */
  #addStrays(count: number): void {
    if (count > 2 * (this.video.fps || 25)) this.strays += count;
  }

  async *#decode(signal: AbortSignal | undefined): AsyncGenerator<DecodedFrame> {
    this.#atStart = false;
    using packet = new Packet();
    packet.alloc();
    using frame = new Frame();
    frame.alloc();
    const nominal = 1 / (this.video.fps || 25);
    let origin = this.#origin;
    let lastTime = Number.NEGATIVE_INFINITY;
    let lastDuration = nominal;
    let damaged = false;
    let drained = false;
    let failures = 0;
    const { index } = this.#stream;
    const clock = new PacketClock(tickOf(this.#stream), nominal);
    const longest = longestFrame(this.#context);
    let closed = 0;
    let step = Math.min(nominal, 1);
    // Elsewhere streams run side by side, however they lie in the file.
    const streamsFollow = mayJump(this.#context);
    let strays = 0;
    const endsInPackets = endsWithPackets.test(this.media.container);
    let end = 0;
    this.joints = 0;
    this.strays = 0;

    const next = (): DecodedFrame => {
      let stamp = frame.bestEffortTimestamp;
      if (stamp === AV_NOPTS_VALUE) stamp = frame.pts;
      const known = stamp === AV_NOPTS_VALUE ? undefined : this.#seconds(stamp);
      if (known !== undefined) origin ??= known;
      // No timestamp, or one that runs backwards: the frame follows the one before it.
      let time = known === undefined ? lastTime + lastDuration : known - origin! - closed;
      if (!Number.isFinite(time)) time = 0;
      if (time - lastTime > longest && Number.isFinite(lastTime)) {
        closed += time - (lastTime + step);
        time = lastTime + step;
        this.joints++;
      }
      if (time <= lastTime) time = lastTime + 1e-6;
      else if (Number.isFinite(lastTime)) step = time - lastTime;
      const stays = frame.duration > 0n ? this.#seconds(frame.duration) : nominal;
      // A frame that claims to stay for hours is shown as long as the one before it.
      const duration = stays > longest ? step : stays;
      [lastTime, lastDuration] = [time, duration];
      const flags = frame.flags;
      const flagged = (flags & AV_FRAME_FLAG_CORRUPT) !== 0 || frame.decodeErrorFlags !== 0;
      if (flagged) this.errors++;
      damaged = flagged || (damaged && frame.keyFrame === 0);
      return { frame, time, duration, corrupt: damaged, interlaced: (flags & AV_FRAME_FLAG_INTERLACED) !== 0 };
    };

    while (!drained) {
      signal?.throwIfAborted();
      const read = await this.#context.readFrame(packet);
      let sent: number;
      if (read < 0) {
        if (!isEndOfFile(read)) {
          this.errors++;
          this.brokenEnd = true;
        }
        drained = true;
        this.#addStrays(strays);
        if (endsInPackets) this.unread = Math.max(0, 1 - end / this.media.bytes);
        sent = await this.#decoder.sendPacket(null);
      } else {
        if (endsInPackets) end = Math.max(end, Number(packet.pos) + packet.size);
        if (packet.streamIndex !== index) {
          if (streamsFollow && this.#isFilm(packet.streamIndex)) strays++;
          packet.unref();
          continue;
        }
        this.#addStrays(strays);
        strays = 0;
        const jumps = clock.joints;
        clock.mend(packet);
        this.joints += clock.joints - jumps;
        sent = await this.#decoder.sendPacket(packet);
        packet.unref();
      }
      // The decoder is emptied after every packet, so that it never refuses one for being full.
      if (sent < 0 && !isEndOfFile(sent)) {
        this.errors++;
        damaged = true;
        if (sent !== AVERROR_EAGAIN && ++failures > 10_000) throw mediaError(sent, "decoding", this.media.path);
      }
      for (;;) {
        const status = await this.#decoder.receiveFrame(frame);
        if (status === AVERROR_EAGAIN || isEndOfFile(status)) break;
        if (status < 0) {
          this.errors++;
          damaged = true;
          if (++failures > 10_000) throw mediaError(status, "decoding", this.media.path);
          continue;
        }
        if (frame.width > 0) yield next();
        frame.unref();
      }
    }
  }
}

/** The display matrix a decoder attached to this very frame (EXIF orientation of pictures), if any. */
export function frameOrientation(frame: Frame) {
  const matrix = frame.getSideData(AV_FRAME_DATA_DISPLAYMATRIX);
  return matrix && matrix.length >= 36 ? orientationOfMatrix(matrix) : undefined;
}
