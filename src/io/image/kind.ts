// Which picture format some bytes are, by their first bytes and never by the file's name.

export type ImageKind = "jpeg" | "png" | "webp" | "avif" | "gif" | "bmp" | "tiff" | "jxl";

/** Needs the first 32 bytes. Undefined: none of the formats we know. */
export function imageKind(head: Uint8Array): ImageKind | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 64)).toString("latin1");
  if (text.startsWith("\xff\xd8\xff")) return "jpeg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return "webp";
  if (text.slice(4, 8) === "ftyp" && /avif|avis/.test(text.slice(8))) return "avif";
  if (text.startsWith("GIF87a") || text.startsWith("GIF89a")) return "gif";
  if (text.startsWith("BM")) return "bmp";
  if (text.startsWith("II*\0") || text.startsWith("MM\0*")) return "tiff";
  if (text.startsWith("\xff\x0a") || text.slice(4, 8) === "JXL ") return "jxl";
  return undefined;
}

/** File endings of pictures, lower case with the dot. */
export const imageEndings: ReadonlySet<string> = new Set([
  ".jpg",
  ".jpeg",
  ".png",
  ".webp",
  ".avif",
  ".bmp",
  ".tif",
  ".tiff",
  ".jxl",
]);
