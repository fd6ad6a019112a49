// A long full-HD film at little cost: scenes of moving patterns, drawn small, enlarged, and encoded fast.
import { AV_CODEC_FLAG_GLOBAL_HEADER } from "node-av/constants";
import { Codec, CodecContext, Dictionary, FilterGraph, FormatContext, Frame, Packet } from "node-av/lib";
import { check, fileUrl } from "../src/io/video/ffmpeg.ts";

/** 25 frames a second with a cut every seven seconds. */
export async function makeLongFilm(
  path: string,
  seconds: number,
  { width, height } = { width: 1920, height: 1080 },
): Promise<void> {
  using graph = new FilterGraph();
  graph.alloc();
  // The pattern jumps to another place and another tone with every scene.
  const chain = [
    `mandelbrot=s=480x270:r=25:end_scale=0.02:maxiter=200,trim=end=60,loop=loop=-1:size=1500:start=0,settb=1/25,setpts=N`,
    "hue=h='137*floor(t/7)'",
    "scroll=h=0.002:hpos=0",
    `scale=${width}:${height}:flags=bilinear,format=yuv420p`,
    `trim=end=${seconds}`,
  ].join(",");
  check(graph.parse2(`${chain},buffersink@out`), chain);
  check(await graph.config(), chain);
  const sink = graph.getFilter("buffersink@out")!;
  const codec = Codec.findEncoderByName("libx264" as never)!;
  using encoder = new CodecContext();
  encoder.allocContext3(codec);
  encoder.width = sink.buffersinkGetWidth();
  encoder.height = sink.buffersinkGetHeight();
  encoder.pixelFormat = sink.buffersinkGetFormat() as never;
  encoder.timeBase = sink.buffersinkGetTimeBase();
  encoder.framerate = sink.buffersinkGetFrameRate();
  encoder.setFlags(AV_CODEC_FLAG_GLOBAL_HEADER);
  check(await encoder.open2(codec, Dictionary.fromObject({ crf: "26", preset: "ultrafast", g: "125" })), "encoder");
  const format = new FormatContext();
  check(format.allocOutputContext2(null, "mp4", fileUrl(path)), path);
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
    check(await encoder.sendFrame(more ? frame : null), path);
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
