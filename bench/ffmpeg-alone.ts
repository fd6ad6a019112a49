// FFmpeg by itself: decode, the same scaling, the same encoding, nothing else. What dataset preparation is timed against.
import {
  AV_CODEC_FLAG_GLOBAL_HEADER,
  AV_PIX_FMT_YUV420P,
  AVERROR_EAGAIN,
  AVFMT_FLAG_BITEXACT,
} from "node-av/constants";
import {
  Codec,
  CodecContext,
  Dictionary,
  FilterGraph,
  FormatContext,
  Frame,
  Packet,
  Rational,
  type Stream,
} from "node-av/lib";
import { check, fileUrl } from "../src/io/video/ffmpeg.ts";
import { videoStream } from "../src/io/video/probe.ts";
import { steadyEncoding } from "../src/io/video/write.ts";

export interface Transcode {
  input: string;
  output: string;
  fps: number;
  width: number;
  height: number;
  crf: number;
  preset: string;
  /** Encoder threads, as preparation uses. */
  threads: number;
}

/** One film from file to file. Returns the frames written. */
export async function transcode(job: Transcode): Promise<number> {
  const input = new FormatContext();
  check(await input.openInput(fileUrl(job.input)), "opening", job.input);
  check(await input.findStreamInfo(null), "reading", job.input);
  const stream = videoStream(input.streams)!;
  using decoder = await openDecoder(stream);
  const encoder = await openEncoder(job);
  const output = new FormatContext();
  check(output.allocOutputContext2(null, "mp4", fileUrl(job.output)), "writing", job.output);
  const target = output.newStream(null);
  target.timeBase = encoder.timeBase;
  check(target.codecpar.fromContext(encoder), "writing", job.output);
  output.setFlags(AVFMT_FLAG_BITEXACT);
  check(await output.openOutput(), "writing", job.output);
  check(await output.writeHeader(Dictionary.fromObject({ movflags: "+faststart" })), "writing", job.output);

  using graph = new FilterGraph();
  graph.alloc();
  using packet = new Packet();
  packet.alloc();
  using encoded = new Packet();
  encoded.alloc();
  using frame = new Frame();
  frame.alloc();
  using filtered = new Frame();
  filtered.alloc();
  let frames = 0;
  let ready = false;

  const drainEncoder = async () => {
    while ((await encoder.receivePacket(encoded)) >= 0) {
      encoded.streamIndex = 0;
      encoded.rescaleTs(encoder.timeBase, target.timeBase);
      check(await output.interleavedWriteFrame(encoded), "writing", job.output);
    }
  };
  const drainFilters = async () => {
    const sink = graph.getFilter("buffersink@out")!;
    while ((await sink.buffersinkGetFrame(filtered)) >= 0) {
      filtered.pts = BigInt(frames++);
      filtered.pictType = 0 as never;
      check(await encoder.sendFrame(filtered), "encoding", job.output);
      filtered.unref();
      await drainEncoder();
    }
  };
  const drainDecoder = async () => {
    while ((await decoder.receiveFrame(frame)) >= 0) {
      frame.pts = frame.bestEffortTimestamp;
      if (!ready) {
        const { num, den } = stream.timeBase;
        const source = `buffer@in=video_size=${frame.width}x${frame.height}:pix_fmt=${frame.format}:time_base=${num}/${den}:colorspace=${frame.colorSpace}:range=${frame.colorRange}`;
        const scale = `scale=${job.width}:${job.height}:force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp`;
        check(
          graph.parse2(
            `${source},fps=${job.fps},${scale},crop=${job.width}:${job.height},format=yuv420p,buffersink@out`,
          ),
          "filters",
        );
        check(await graph.config(), "filters");
        ready = true;
      }
      check(await graph.getFilter("buffer@in")!.buffersrcAddFrame(frame), "filtering");
      frame.unref();
      await drainFilters();
    }
  };
  for (;;) {
    const status = await input.readFrame(packet);
    if (status < 0) break;
    if (packet.streamIndex === stream.index) {
      const sent = await decoder.sendPacket(packet);
      if (sent < 0 && sent !== AVERROR_EAGAIN) check(sent, "decoding", job.input);
    }
    packet.unref();
    await drainDecoder();
  }
  await decoder.sendPacket(null);
  await drainDecoder();
  await graph.getFilter("buffer@in")!.buffersrcAddFrame(null);
  await drainFilters();
  await encoder.sendFrame(null);
  await drainEncoder();
  check(await output.writeTrailer(), "writing", job.output);
  encoder.freeContext();
  await output.closeOutput();
  output.freeContext();
  await input.closeInput();
  return frames;
}

async function openDecoder(stream: Stream): Promise<CodecContext> {
  const codec = Codec.findDecoder(stream.codecpar.codecId)!;
  const decoder = new CodecContext();
  decoder.allocContext3(codec);
  check(decoder.parametersToContext(stream.codecpar), "decoder");
  decoder.pktTimebase = stream.timeBase;
  decoder.threadCount = 0;
  check(await decoder.open2(codec), "decoder");
  return decoder;
}

async function openEncoder({ width, height, fps, crf, preset, threads }: Transcode): Promise<CodecContext> {
  const codec = Codec.findEncoderByName("libx264" as never)!;
  const encoder = new CodecContext();
  encoder.allocContext3(codec);
  encoder.width = width;
  encoder.height = height;
  encoder.pixelFormat = AV_PIX_FMT_YUV420P;
  encoder.timeBase = new Rational(1, fps);
  encoder.framerate = new Rational(fps, 1);
  encoder.threadCount = threads;
  encoder.setFlags(AV_CODEC_FLAG_GLOBAL_HEADER);
  check(await encoder.open2(codec, Dictionary.fromObject({ crf: String(crf), preset, ...steadyEncoding })), "encoder");
  return encoder;
}
