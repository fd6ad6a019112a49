// Reading pictures: any common format to upright RGB, alpha laid over a background, cropped and scaled on the way.
import { constants } from "node:fs";
import { open, readFile, stat } from "node:fs/promises";
import {
  AV_CODEC_ID_BMP,
  AV_CODEC_ID_GIF,
  AV_CODEC_ID_JPEGXL,
  AV_CODEC_ID_MJPEG,
  AV_CODEC_ID_PNG,
  AV_CODEC_ID_TIFF,
  AV_CODEC_ID_WEBP,
  AVERROR_EAGAIN,
} from "node-av/constants";
import { avGetPixFmtName, Codec, CodecContext, Dictionary, Frame, Packet } from "node-av/lib";
import { KinoraError } from "../../base/errors.ts";
import { formatBytes } from "../../base/units.ts";
import { type Conversion, conversionChain, shownSize, withAlpha } from "../video/conversion.ts";
import { isEndOfFile, mediaError, mostPixels, tooLarge } from "../video/ffmpeg.ts";
import { FrameFilter } from "../video/frame-filter.ts";
import { type Orientation, upright } from "../video/orientation.ts";
import { packed } from "../video/read.ts";
import { frameOrientation, VideoReader } from "../video/reader.ts";
import { heifPicture } from "./heif.ts";
import { type ImageKind, imageKind } from "./kind.ts";

export interface RgbImage {
  width: number;
  height: number;
  /** [H, W, 3], full range sRGB. */
  data: Uint8Array;
}

export interface ImageInfo {
  kind: ImageKind;
  /** Size as shown, turned upright. */
  width: number;
  height: number;
  hasAlpha: boolean;
}

/** Chooses crop and size once the picture's own size is known. */
export type ImageGeometry = (info: ImageInfo) => Omit<Conversion, "format" | "matrix">;

export interface ReadImageOptions {
  geometry?: ImageGeometry;
  /** What lies under transparent parts, RGB 0–255; white by default. */
  background?: readonly [number, number, number];
}

const codecs = {
  jpeg: AV_CODEC_ID_MJPEG,
  png: AV_CODEC_ID_PNG,
  webp: AV_CODEC_ID_WEBP,
  gif: AV_CODEC_ID_GIF,
  bmp: AV_CODEC_ID_BMP,
  tiff: AV_CODEC_ID_TIFF,
  jxl: AV_CODEC_ID_JPEGXL,
} as const;

function unreadable(path: string, why: string): KinoraError {
  return new KinoraError("image.unreadable", `${JSON.stringify(path)} ${why}`, {
    hint: "the file may be truncated, or have the wrong extension",
  });
}

/** The first bytes of a file, enough for `imageKind`. @throws KinoraError `media.not-found`, `media.no-permission`, … */
async function headOf(path: string): Promise<Uint8Array> {
  try {
    // A pipe is opened without waiting for its writer, and then refused.
    await using file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    if (!(await file.stat()).isFile())
      throw new KinoraError("media.not-a-file", `${JSON.stringify(path)} is not a regular file`, {
        hint: "give a regular file",
      });
    const head = new Uint8Array(64);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    return head.subarray(0, bytesRead);
  } catch (error) {
    if (error instanceof KinoraError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const name = code === "ENOENT" ? "not-found" : code === "EACCES" ? "no-permission" : "io-error";
    throw new KinoraError(`media.${name}`, `opening ${JSON.stringify(path)}: ${message}`, {
      hint: "check the path and its permissions",
      cause: error,
    });
  }
}

/** What picture a file is by its content; undefined where it is none. @throws as opening it does. */
export async function kindOfPicture(path: string): Promise<ImageKind | undefined> {
  return imageKind(await headOf(path));
}

/** The largest file of a picture that is read. */
const mostBytes = 1_000_000_000;

/** The size that a picture's head gives, before anything is decoded. */
function declaredSize(bytes: Buffer, kind: ImageKind): { width: number; height: number } | undefined {
  if (kind === "png" && bytes.length >= 24) return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
  if (kind === "gif" && bytes.length >= 10) return { width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) };
  if (kind === "bmp" && bytes.length >= 26)
    return { width: Math.abs(bytes.readInt32LE(18)), height: Math.abs(bytes.readInt32LE(22)) };
  if (kind !== "jpeg") return undefined;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; at += 2 + bytes.readUInt16BE(at + 2)) {
    const marker = bytes[at + 1]!;
    // Start of frame, of whatever process; the three in between are tables.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return { width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) };
  }
  return undefined;
}

/** Whole formats that are one packet to their decoder. */
async function decodeWhole(path: string, kind: keyof typeof codecs): Promise<Frame> {
  const codec = Codec.findDecoder(codecs[kind]);
  if (!codec)
    throw new KinoraError("media.no-decoder", `this FFmpeg has no decoder for ${kind} (${JSON.stringify(path)})`, {
      hint: "convert it to PNG or JPEG",
    });
  const { size: fileBytes } = await stat(path);
  if (fileBytes > mostBytes) throw unreadable(path, `has ${formatBytes(fileBytes)}, too large for a picture`);
  const bytes = await readFile(path);
  const size = declaredSize(bytes, kind);
  if (size && size.width * size.height > mostPixels.picture)
    throw tooLarge(path, size.width, size.height, mostPixels.picture);
  using decoder = new CodecContext();
  decoder.allocContext3(codec);
  const limits = Dictionary.fromObject({ max_pixels: String(mostPixels.picture) });
  const opened = await decoder.open2(codec, limits);
  if (opened < 0) throw mediaError(opened, `opening the ${kind} decoder for`, path);
  using packet = new Packet();
  packet.alloc();
  // FFmpeg fills the missing rest of a JPEG with grey and says nothing.
  if (
    kind === "jpeg" &&
    bytes.lastIndexOf("\xff\xd9", undefined, "latin1") < bytes.lastIndexOf("\xff\xda", undefined, "latin1")
  )
    throw unreadable(path, "is truncated: the end of the picture is missing");
  packet.data = bytes;
  const frame = new Frame();
  frame.alloc();
  let status = await decoder.sendPacket(packet);
  if (status >= 0) {
    await decoder.sendPacket(null);
    status = await decoder.receiveFrame(frame);
  }
  if (status >= 0 && frame.width > 0) return frame;
  frame.free();
  if (status === AVERROR_EAGAIN || isEndOfFile(status))
    throw unreadable(path, `does not contain a complete ${kind} picture`);
  const { message } = mediaError(status, "decoding", path);
  throw unreadable(path, `could not be decoded as ${kind} (${message})`);
}

/** Items of HEIF and AVIF files that are a picture by themselves. */
const codedItems: ReadonlySet<string> = new Set(["hvc1", "av01", "avc1", "jpeg"]);

interface Decoded {
  frame: Frame;
  orientation: Orientation;
  pixelAspect: number;
}

async function decode(path: string, kind: ImageKind): Promise<Decoded> {
  if (kind !== "avif" && kind !== "heif") {
    const frame = await decodeWhole(path, kind);
    // Pictures are shown with square pixels whatever their headers say.
    return { frame, orientation: frameOrientation(frame) ?? upright, pixelAspect: 1 };
  }
  const picture = await heifPicture(path);
  if (picture && !codedItems.has(picture.type))
    throw new KinoraError("image.in-parts", `${JSON.stringify(path)} is put together of parts (${picture.type})`, {
      hint: "phones store pictures so: convert it to JPEG or PNG first, or have the phone save JPEG",
    });
  await using reader = await VideoReader.open(path, {
    deinterlace: false,
    mostPixels: mostPixels.picture,
    ...(picture ? { streamId: picture.item } : {}),
  });
  for await (const { frame } of reader.frames()) {
    const copy = frame.clone();
    if (copy) return { frame: copy, orientation: frameOrientation(frame) ?? reader.video.orientation, pixelAspect: 1 };
  }
  throw unreadable(path, `does not contain a complete ${kind} picture`);
}

function infoOf({ frame, orientation, pixelAspect }: Decoded, kind: ImageKind): ImageInfo {
  const hasAlpha = withAlpha.test(avGetPixFmtName(frame.format as never) ?? "");
  return { kind, ...shownSize(frame.width, frame.height, { orientation, pixelAspect }), hasAlpha };
}

/** [H, W, 4] laid over a background; straight (not premultiplied) alpha. */
function flatten(rgba: Uint8Array, background: readonly [number, number, number]): Uint8Array {
  const pixels = rgba.length / 4;
  const rgb = new Uint8Array(pixels * 3);
  for (let i = 0, from = 0, to = 0; i < pixels; i++, from += 4, to += 3) {
    const alpha = rgba[from + 3]!;
    for (let c = 0; c < 3; c++) rgb[to + c] = (rgba[from + c]! * alpha + background[c]! * (255 - alpha) + 127) / 255;
  }
  return rgb;
}

/** A picture decoded once, from which parts and sizes can be taken. */
export class ImageReader implements Disposable {
  readonly info: ImageInfo;
  readonly #path: string;
  readonly #decoded: Decoded;

  private constructor(path: string, decoded: Decoded, info: ImageInfo) {
    this.#path = path;
    this.#decoded = decoded;
    this.info = info;
  }

  /** @throws KinoraError `media.*`, `image.unknown-format`, `image.unreadable`, `image.in-parts`, `image.too-large`. */
  static async open(path: string): Promise<ImageReader> {
    const kind = await kindOfPicture(path);
    if (!kind) {
      const { size } = await stat(path);
      throw new KinoraError("image.unknown-format", `${JSON.stringify(path)} is not a picture in a known format`, {
        hint:
          size === 0
            ? "the file is empty"
            : "supported formats: JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF, JPEG XL and GIF",
      });
    }
    const decoded = await decode(path, kind);
    return new ImageReader(path, decoded, infoOf(decoded, kind));
  }

  /** The part and size asked for, as upright RGB; `background` lies under transparent parts (white by default). */
  async picture(
    conversion: Omit<Conversion, "format" | "matrix"> = {},
    background: readonly [number, number, number] = [255, 255, 255],
  ): Promise<RgbImage> {
    const { hasAlpha } = this.info;
    using filter = new FrameFilter<true>((shape) =>
      conversionChain(shape, this.#decoded, { ...conversion, format: hasAlpha ? "rgba" : "rgb24" }),
    );
    const [out] = [...(await filter.push(this.#decoded.frame, true)), ...(await filter.finish())];
    if (!out) throw unreadable(this.#path, "produced no picture");
    using converted = out.frame;
    const pixels = packed(converted);
    return {
      width: converted.width,
      height: converted.height,
      data: hasAlpha ? flatten(pixels, background) : pixels,
    };
  }

  [Symbol.dispose](): void {
    this.#decoded.frame.free();
  }
}

/**
 * Reads a picture (JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF, JPEG XL, the first of a GIF) as upright RGB. Only the scaled
 * result is kept as RGB, so that a very large picture costs no more than its own decoding.
 *
 * @throws KinoraError as `ImageReader.open`.
 */
export async function readImage(path: string, options: ReadImageOptions = {}): Promise<RgbImage & { info: ImageInfo }> {
  using reader = await ImageReader.open(path);
  const { info } = reader;
  return { ...(await reader.picture(options.geometry?.(info), options.background)), info };
}
