// Which picture format some bytes are, by their first bytes and never by the file's name.

export type ImageKind = "jpeg" | "png" | "webp" | "avif" | "heif" | "gif" | "bmp" | "tiff" | "jxl";

/** Needs the first 32 bytes. Undefined: none of the formats we know. */
export function imageKind(head: Uint8Array): ImageKind | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 64)).toString("latin1");
  if (text.startsWith("\xff\xd8\xff")) return "jpeg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return "webp";
  if (text.slice(4, 8) === "ftyp") return heifKind(text.slice(8, Buffer.from(head).readUInt32BE(0)));
  if (text.startsWith("GIF87a") || text.startsWith("GIF89a")) return "gif";
  if (text.startsWith("BM")) return "bmp";
  if (text.startsWith("II*\0") || text.startsWith("MM\0*")) return "tiff";
  if (text.startsWith("\xff\x0a") || text.slice(4, 8) === "JXL ") return "jxl";
  return undefined;
}

/** By the brands of a file: its own first, then those it is compatible with. Films have others of their own. */
function heifKind(text: string): "avif" | "heif" | undefined {
  const brands = text.match(/[\s\S]{4}/g) ?? [];
  if (!/^(avi[fs]|hei[cxms]|hev[cxms]|mif[12]|msf1)$/.test(brands[0] ?? "")) return undefined;
  return brands.some((brand) => /^avi[fs]$/.test(brand)) ? "avif" : "heif";
}

/** File endings of pictures, lower case with the dot. */
export const imageEndings: ReadonlySet<string> = new Set([
  ".jpg",
  ".jpeg",
  ".png",
  ".webp",
  ".avif",
  ".heic",
  ".heif",
  ".hif",
  ".bmp",
  ".tif",
  ".tiff",
  ".jxl",
]);
