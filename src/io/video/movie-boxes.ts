// The outermost boxes of an MP4 or QuickTime file: whether it holds a second movie, which no reader shows.
import { open } from "node:fs/promises";

/** Boxes looked at; a film in fragments may have very many. */
const mostBoxes = 5000;

/** Movies in the file beyond the first: recordings joined end to end have one each. 0 for other kinds of file. */
export async function furtherMovies(path: string): Promise<number> {
  await using file = await open(path);
  const { size } = await file.stat();
  const head = Buffer.alloc(16);
  let movies = 0;
  for (let at = 0, boxes = 0; at + 8 <= size && boxes < mostBoxes; boxes++) {
    const { bytesRead } = await file.read(head, 0, 16, at);
    if (bytesRead < 8) break;
    const kind = head.toString("latin1", 4, 8);
    if (!/^[\x20-\x7e]{4}$/.test(kind) || (boxes === 0 && kind !== "ftyp" && kind !== "moov")) break;
    if (kind === "moov") movies++;
    const short = head.readUInt32BE(0);
    const length = short === 1 && bytesRead === 16 ? Number(head.readBigUInt64BE(8)) : short === 0 ? size - at : short;
    if (length < 8) break;
    at += length;
  }
  return Math.max(0, movies - 1);
}
