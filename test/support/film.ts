// Films for tests, made on the fly by FFmpeg's own test sources: any codec, container, colour tags, timing, rotation.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AV_CODEC_FLAG_GLOBAL_HEADER, AV_PKT_DATA_DISPLAYMATRIX, AVFMT_FLAG_BITEXACT } from "node-av/constants";
import { Codec, CodecContext, Dictionary, FilterGraph, FormatContext, Frame, Packet, Rational } from "node-av/lib";
import { afterAll } from "vitest";
import { check, isEndOfFile } from "../../src/io/video/ffmpeg.ts";

/** A folder that is gone after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kinora-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface FilmOptions {
  /** A chain of filters that starts with a source, e.g. `testsrc2=s=320x240:r=30:d=2,format=yuv420p`. */
  graph: string;
  encoder?: string;
  /** Muxer; by the file's ending where absent. */
  container?: string;
  encoderOptions?: Record<string, string>;
  muxerOptions?: Record<string, string>;
  /** 3×3 display matrix, 16.16 and 2.30 fixed point as in a MOV header. */
  displayMatrix?: readonly number[];
  color?: { space?: number; range?: number; trc?: number; primaries?: number };
}

export const displayMatrices = {
  clockwise: [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30],
  half: [-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30],
  counterclockwise: [0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30],
} as const;

/** Encodes what the graph gives. */
export async function makeFilm(path: string, options: FilmOptions): Promise<void> {
  using graph = new FilterGraph();
  graph.alloc();
  check(graph.parse2(`${options.graph},buffersink@out`), options.graph);
  check(await graph.config(), options.graph);
  const sink = graph.getFilter("buffersink@out")!;
  const codec = Codec.findEncoderByName((options.encoder ?? "libx264") as never)!;
  using encoder = new CodecContext();
  encoder.allocContext3(codec);
  encoder.width = sink.buffersinkGetWidth();
  encoder.height = sink.buffersinkGetHeight();
  encoder.pixelFormat = sink.buffersinkGetFormat() as never;
  encoder.sampleAspectRatio = sink.buffersinkGetSampleAspectRatio();
  encoder.timeBase = sink.buffersinkGetTimeBase();
  const rate = sink.buffersinkGetFrameRate();
  encoder.framerate = rate.num > 0 ? rate : new Rational(25, 1);
  const { color = {} } = options;
  if (color.space !== undefined) encoder.colorSpace = color.space as never;
  if (color.range !== undefined) encoder.colorRange = color.range as never;
  if (color.trc !== undefined) encoder.colorTrc = color.trc as never;
  if (color.primaries !== undefined) encoder.colorPrimaries = color.primaries as never;
  encoder.setFlags(AV_CODEC_FLAG_GLOBAL_HEADER);
  const settings = {
    ...(codec.name === "libx264" ? { crf: "12", preset: "veryfast" } : {}),
    ...options.encoderOptions,
  };
  check(await encoder.open2(codec, Dictionary.fromObject(settings)), `opening ${options.encoder}`);
  const format = new FormatContext();
  check(format.allocOutputContext2(null, options.container ?? null, `file:${path}`), path);
  format.setFlags(AVFMT_FLAG_BITEXACT);
  const stream = format.newStream(null);
  stream.timeBase = encoder.timeBase;
  stream.avgFrameRate = encoder.framerate;
  check(stream.codecpar.fromContext(encoder), path);
  stream.sampleAspectRatio = encoder.sampleAspectRatio;
  if (options.displayMatrix) {
    const matrix = Buffer.alloc(36);
    options.displayMatrix.forEach((value, i) => void matrix.writeInt32LE(value, i * 4));
    stream.codecpar.addCodedSideData(AV_PKT_DATA_DISPLAYMATRIX, matrix);
  }
  check(await format.openOutput(), path);
  check(await format.writeHeader(Dictionary.fromObject(options.muxerOptions ?? {})), path);
  using packet = new Packet();
  packet.alloc();
  const drain = async () => {
    while ((await encoder.receivePacket(packet)) >= 0) {
      packet.streamIndex = 0;
      packet.rescaleTs(encoder.timeBase, stream.timeBase);
      check(await format.interleavedWriteFrame(packet), path);
    }
  };
  using frame = new Frame();
  frame.alloc();
  for (;;) {
    const status = await sink.buffersinkGetFrame(frame);
    if (isEndOfFile(status)) break;
    check(status, options.graph);
    frame.pictType = 0 as never;
    check(await encoder.sendFrame(frame), path);
    frame.unref();
    await drain();
  }
  await encoder.sendFrame(null);
  await drain();
  check(await format.writeTrailer(), path);
  await format.closeOutput();
  format.freeContext();
}

/** Copies the streams of files into one, unchanged: `offset` seconds later, under an `id` (a PID in MPEG-TS). */
export async function remux(
  path: string,
  inputs: readonly { from: string; offset?: number; id?: number }[],
  muxerOptions: Record<string, string> = {},
): Promise<void> {
  const format = new FormatContext();
  check(format.allocOutputContext2(null, null, `file:${path}`), path);
  format.setFlags(AVFMT_FLAG_BITEXACT);
  const sources: FormatContext[] = [];
  for (const { from, id } of inputs) {
    const source = new FormatContext();
    check(await source.openInput(`file:${from}`), from);
    check(await source.findStreamInfo(null), from);
    const [stream] = source.streams;
    const copy = format.newStream(null);
    check(stream!.codecpar.copy(copy.codecpar), path);
    copy.codecpar.codecTag = 0;
    copy.timeBase = stream!.timeBase;
    if (id !== undefined) copy.id = id;
    sources.push(source);
  }
  check(await format.openOutput(), path);
  check(await format.writeHeader(Dictionary.fromObject(muxerOptions)), path);
  using packet = new Packet();
  packet.alloc();
  for (const [i, source] of sources.entries()) {
    const { timeBase } = source.streams[0]!;
    const later = BigInt(Math.round(((inputs[i]!.offset ?? 0) * timeBase.den) / timeBase.num));
    while ((await source.readFrame(packet)) >= 0) {
      packet.streamIndex = i;
      packet.pts += later;
      packet.dts += later;
      packet.rescaleTs(timeBase, format.streams[i]!.timeBase);
      check(await format.interleavedWriteFrame(packet), path);
    }
    await source.closeInput();
  }
  check(await format.writeTrailer(), path);
  await format.closeOutput();
  format.freeContext();
}

/** A sound file with no picture. */
export async function makeSound(path: string): Promise<void> {
  using graph = new FilterGraph();
  graph.alloc();
  check(
    graph.parse2("sine=d=1:r=44100,aformat=sample_fmts=fltp:channel_layouts=mono,asetnsamples=1024,abuffersink@out"),
    "sine",
  );
  check(await graph.config(), "sine");
  const sink = graph.getFilter("abuffersink@out")!;
  const codec = Codec.findEncoderByName("aac" as never)!;
  using encoder = new CodecContext();
  encoder.allocContext3(codec);
  encoder.sampleRate = 44100;
  encoder.sampleFormat = sink.buffersinkGetFormat() as never;
  encoder.channelLayout = sink.buffersinkGetChannelLayout();
  encoder.timeBase = new Rational(1, 44100);
  encoder.setFlags(AV_CODEC_FLAG_GLOBAL_HEADER);
  check(await encoder.open2(codec, null), "aac");
  const format = new FormatContext();
  check(format.allocOutputContext2(null, "mp4", `file:${path}`), path);
  const stream = format.newStream(null);
  stream.timeBase = encoder.timeBase;
  check(stream.codecpar.fromContext(encoder), path);
  check(await format.openOutput(), path);
  check(await format.writeHeader(null), path);
  using packet = new Packet();
  packet.alloc();
  using frame = new Frame();
  frame.alloc();
  for (let more = true; more; ) {
    more = (await sink.buffersinkGetFrame(frame)) >= 0;
    await encoder.sendFrame(more ? frame : null);
    frame.unref();
    while ((await encoder.receivePacket(packet)) >= 0) {
      packet.streamIndex = 0;
      packet.rescaleTs(encoder.timeBase, stream.timeBase);
      check(await format.interleavedWriteFrame(packet), path);
    }
  }
  check(await format.writeTrailer(), path);
  await format.closeOutput();
  format.freeContext();
}
