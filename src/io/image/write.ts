// Writing pictures: RGB to PNG, JPEG or WebP, as bytes or as a whole file.
import {
  AV_CODEC_FLAG_QSCALE,
  AV_PIX_FMT_RGB24,
  AV_PIX_FMT_YUV420P,
  AV_PIX_FMT_YUVJ444P,
  AVCOL_RANGE_JPEG,
  AVCOL_SPC_BT470BG,
} from "node-av/constants";
import { Codec, CodecContext, Dictionary, Frame, Packet, Rational } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { writeFileAtomic } from "../atomic.ts";
import { check } from "../video/ffmpeg.ts";
import { FrameFilter } from "../video/frame-filter.ts";
import type { RgbImage } from "./read.ts";

export type WritableImageKind = "png" | "jpeg" | "webp";

const encoders = {
  png: { name: "png", pixelFormat: AV_PIX_FMT_RGB24, filter: "format=rgb24" },
  jpeg: {
    name: "mjpeg",
    pixelFormat: AV_PIX_FMT_YUVJ444P,
    filter: "scale=flags=accurate_rnd+full_chroma_int:out_color_matrix=smpte170m:out_range=full,format=yuvj444p",
  },
  webp: {
    name: "libwebp",
    pixelFormat: AV_PIX_FMT_YUV420P,
    filter:
      "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp:out_color_matrix=smpte170m:out_range=limited,format=yuv420p",
  },
} as const;

/** The bytes of a picture file. `quality` 1–100 counts for JPEG and WebP (90 by default). */
export async function encodeImage(image: RgbImage, kind: WritableImageKind, quality = 90): Promise<Uint8Array> {
  const { width, height, data } = image;
  if (data.length !== width * height * 3)
    throw new KinoraError("image.bad-size", "a picture has the wrong number of bytes", {
      expected: `${height}·${width}·3 = ${width * height * 3}`,
      actual: String(data.length),
    });
  const { name, pixelFormat, filter: chain } = encoders[kind];
  const codec = Codec.findEncoderByName(name as never);
  if (!codec) throw new KinoraError("image.no-encoder", `this FFmpeg was built without ${name}`, { hint: "write PNG" });
  using encoder = new CodecContext();
  encoder.allocContext3(codec);
  encoder.width = width;
  encoder.height = height;
  encoder.pixelFormat = pixelFormat;
  encoder.timeBase = new Rational(1, 25);
  if (kind !== "png") encoder.colorSpace = AVCOL_SPC_BT470BG;
  if (kind === "jpeg") {
    encoder.colorRange = AVCOL_RANGE_JPEG;
    encoder.setFlags(AV_CODEC_FLAG_QSCALE);
    // FFmpeg's scale for JPEG runs from 1 (best) to 31; 118 is FF_QP2LAMBDA.
    encoder.globalQuality = Math.round(1 + ((100 - quality) * 30) / 99) * 118;
    // The encoder forbids its best quality unless told.
    encoder.qMin = 1;
  }
  const settings = kind === "webp" ? Dictionary.fromObject({ quality: String(quality), compression_level: "4" }) : null;
  check(await encoder.open2(codec, settings), `opening the ${kind} encoder`);
  using source = Frame.fromVideoBuffer(Buffer.from(data.buffer, data.byteOffset, data.length), {
    width,
    height,
    format: AV_PIX_FMT_RGB24,
    timeBase: { num: 1, den: 25 },
  });
  using filter = new FrameFilter<true>(() => chain);
  const [out] = [...(await filter.push(source, true)), ...(await filter.finish())];
  using converted = out!.frame;
  if (kind === "jpeg") converted.quality = encoder.globalQuality;
  check(await encoder.sendFrame(converted), `encoding a ${kind} picture`);
  check(await encoder.sendFrame(null), `encoding a ${kind} picture`);
  using packet = new Packet();
  packet.alloc();
  check(await encoder.receivePacket(packet), `encoding a ${kind} picture`);
  return new Uint8Array(packet.data!);
}

async function writeImage(path: string, image: RgbImage, kind: WritableImageKind, quality?: number): Promise<void> {
  await writeFileAtomic(path, await encodeImage(image, kind, quality));
}

/** Writes a PNG file: lossless. */
export async function writePng(path: string, image: RgbImage): Promise<void> {
  await writeImage(path, image, "png");
}

/** Writes a JPEG file with full colour resolution; `quality` 1–100, 90 by default. */
export async function writeJpeg(path: string, image: RgbImage, quality?: number): Promise<void> {
  await writeImage(path, image, "jpeg", quality);
}

/** Writes a WebP file; `quality` 1–100, 90 by default. */
export async function writeWebp(path: string, image: RgbImage, quality?: number): Promise<void> {
  await writeImage(path, image, "webp", quality);
}
