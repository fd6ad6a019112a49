// What a HEIF file (HEIC, AVIF) shows: which of its items is the picture, and whether it is whole or put together of tiles.
// Only the boxes that say so; decoding is FFmpeg's.
import { open } from "node:fs/promises";

export interface HeifPicture {
  /** The number of the item, which FFmpeg gives its stream as an id. */
  item: number;
  /** `hvc1`, `av01`, …; `grid` for one made of tiles. */
  type: string;
}

/** The largest description of items that is read. */
const mostBytes = 16 * 2 ** 20;

interface Box {
  type: string;
  /** Content without the head. */
  body: Buffer;
}

function* boxes(bytes: Buffer): Generator<Box> {
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = bytes.readUInt32BE(at);
    const end = size === 0 ? bytes.length : at + size;
    if (end < at + 8 || end > bytes.length) return;
    yield { type: bytes.toString("latin1", at + 4, at + 8), body: bytes.subarray(at + 8, end) };
    at = end;
  }
}

/** The `meta` box at the file's top level, without its version and flags. */
async function metaOf(path: string): Promise<Buffer | undefined> {
  await using file = await open(path);
  const { size } = await file.stat();
  const head = Buffer.alloc(8);
  for (let at = 0, seen = 0; at + 8 <= size && seen < 64; seen++) {
    await file.read(head, 0, 8, at);
    const length = head.readUInt32BE(0);
    if (head.toString("latin1", 4, 8) === "meta" && length >= 12) {
      if (length > mostBytes || at + length > size) return undefined;
      const body = Buffer.alloc(length - 12);
      await file.read(body, 0, body.length, at + 12);
      return body;
    }
    if (length < 8) return undefined;
    at += length;
  }
  return undefined;
}

/** The item that a file shows first; undefined where it names none (a film, or a damaged file). */
export async function heifPicture(path: string): Promise<HeifPicture | undefined> {
  const meta = await metaOf(path);
  if (!meta) return undefined;
  const parts = new Map([...boxes(meta)].map(({ type, body }) => [type, body]));
  const primary = parts.get("pitm");
  const items = parts.get("iinf");
  if (!primary || primary.length < 6 || !items || items.length < 8) return undefined;
  const item = primary[0] === 0 ? primary.readUInt16BE(4) : primary.length < 8 ? -1 : primary.readUInt32BE(4);
  // Version 0 counts its entries in two bytes, later ones in four.
  for (const { type, body } of boxes(items.subarray(items[0] === 0 ? 6 : 8))) {
    // Version 2 has short numbers, 3 long ones; then come protection and type.
    const long = body[0] === 3;
    const start = long ? 10 : 8;
    if (type !== "infe" || body[0]! < 2 || body.length < start + 4) continue;
    if ((long ? body.readUInt32BE(4) : body.readUInt16BE(4)) !== item) continue;
    return { item, type: body.toString("latin1", start, start + 4) };
  }
  return undefined;
}
