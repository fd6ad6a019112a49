// Whether a file of a picture format holds a film: animated GIF, PNG and WebP, sequences of AVIF and HEIF.
import { open } from "node:fs/promises";
import { imageKind } from "./kind.ts";

/** Chunks looked at before a PNG's pixels, blocks of a GIF before its second picture. */
const mostParts = 10_000;

type Read = (at: number, length: number) => Promise<Buffer>;

/** Frames that a PNG announces: 1 where it is a plain one. */
async function pngFrames(read: Read): Promise<number> {
  for (let at = 8, seen = 0; seen < mostParts; seen++) {
    const head = await read(at, 12);
    if (head.length < 12) return 1;
    const type = head.toString("latin1", 4, 8);
    if (type === "acTL") return head.readUInt32BE(8);
    if (type === "IDAT" || type === "IEND") return 1;
    at += 12 + head.readUInt32BE(0);
  }
  return 1;
}

/** True for a GIF with a second picture. */
async function gifMoves(read: Read): Promise<boolean> {
  const screen = await read(0, 13);
  if (screen.length < 13) return false;
  const palette = (flags: number) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let at = 13 + palette(screen[10]!);
  let pictures = 0;
  for (let seen = 0; seen < mostParts; seen++) {
    const head = await read(at, 10);
    if (head[0] === 0x2c && head.length === 10) {
      if (++pictures > 1) return true;
      // The picture's head and colours, and the byte that begins its codes.
      at += 10 + palette(head[9]!) + 1;
    } else if (head[0] === 0x21) at += 2;
    else return false;
    // Blocks of up to 255 bytes; one of none ends them.
    for (; seen < mostParts; seen++) {
      const [length] = await read(at, 1);
      if (length === undefined) return false;
      at += length + 1;
      if (length === 0) break;
    }
  }
  // So many blocks: a large picture, or a film of one; either way it is decoded as a film.
  return true;
}

/** True for the extended form of WebP with its flag for animation. */
async function webpMoves(read: Read): Promise<boolean> {
  const head = await read(12, 9);
  return head.toString("latin1", 0, 4) === "VP8X" && (head[8]! & 2) !== 0;
}

/** Whether the file is of a picture format and holds more than one frame. Throws as opening it does. */
export async function isMoving(path: string): Promise<boolean> {
  await using file = await open(path);
  const read: Read = async (at, length) => {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await file.read(buffer, 0, length, at);
    return buffer.subarray(0, bytesRead);
  };
  const head = await read(0, 64);
  switch (imageKind(head)) {
    case "gif":
      return await gifMoves(read);
    case "png":
      return (await pngFrames(read)) > 1;
    case "webp":
      return await webpMoves(read);
    case "avif":
    case "heif":
      // The brand of the file itself, not those it is compatible with.
      return ["avis", "msf1", "hevc", "hevx"].includes(head.toString("latin1", 8, 12));
    default:
      return false;
  }
}
