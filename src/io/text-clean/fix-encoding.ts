// Undoes mojibake: text that was UTF-8 but was read in some single-byte encoding, possibly several times over.
// Follows ftfy 6.3.1 (Apache-2.0), whose outcomes this must share:
// https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/__init__.py#L411 and ftfy/fixes.py, ftfy/chardata.py
import { looksBad } from "./badness.ts";
import { codePages, latinLike, sloppyWindows1252 } from "./code-pages.ts";

// Bytes are strings of U+0000 to U+00FF here, so that patterns can be written over them.
const bytes = (pattern: string): RegExp => new RegExp(pattern, "g");

/** UTF-8 sequences that are whole once a space is read as the byte A0, where they form likely characters. */
const spacedUtf8 = bytes(
  [
    "[\\xc2\\xc3\\xc5\\xce\\xd0\\xd9] ",
    "[\\xe2\\xe3] [\\x80-\\x84\\x86-\\x9f\\xa1-\\xbf]",
    "[\\xe0-\\xe3][\\x80-\\x84\\x86-\\x9f\\xa1-\\xbf] ",
    "\\xf0 [\\x80-\\xbf][\\x80-\\xbf]",
    "\\xf0[\\x80-\\xbf] [\\x80-\\xbf]",
    "\\xf0[\\x80-\\xbf][\\x80-\\xbf] ",
  ].join("|"),
);

/** "Ã " as a word of its own is "à " with its A0 gone, except in Portuguese contractions (às, àquele …). */
const lonelyAGrave = bytes("\\xc3 (?! |quele|quela|quilo|s )");

/** UTF-8 and CESU-8 sequences in which bytes were lost (1A), or at most one became a question mark. */
const lossyUtf8 = bytes(
  [
    "[\\xc2-\\xdf]\\x1a",
    "[\\xc2\\xc3]\\?",
    "\\xed[\\xa0-\\xaf][\\x1a?]\\xed[\\xb0-\\xbf][\\x1a?\\x80-\\xbf]",
    "\\xed[\\xa0-\\xaf][\\x1a?\\x80-\\xbf]\\xed[\\xb0-\\xbf][\\x1a?]",
    "[\\xe0-\\xef][\\x1a?][\\x1a\\x80-\\xbf]",
    "[\\xe0-\\xef][\\x1a\\x80-\\xbf][\\x1a?]",
    "[\\xf0-\\xf4][\\x1a?][\\x1a\\x80-\\xbf][\\x1a\\x80-\\xbf]",
    "[\\xf0-\\xf4][\\x1a\\x80-\\xbf][\\x1a?][\\x1a\\x80-\\xbf]",
    "[\\xf0-\\xf4][\\x1a\\x80-\\xbf][\\x1a\\x80-\\xbf][\\x1a?]",
    "\\x1a",
  ].join("|"),
);

/** A character above U+FFFF written as two surrogates of three bytes each (CESU-8). */
const surrogatePair = bytes("\\xed([\\xa0-\\xaf])([\\x80-\\xbf])\\xed([\\xb0-\\xbf])([\\x80-\\xbf])");
const javaNull = bytes("\\xc0\\x80");

const REPLACEMENT_BYTES = "\xef\xbf\xbd";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const c1Control = /[\x80-\x9f]/g;

/** Runs of characters that look like UTF-8 read in a Latin-like encoding, for fixing in place. */
const embeddedUtf8 = buildDetector();

function buildDetector(): RegExp {
  const clues = (first: number, last: number): string[] => latinLike.flatMap((page) => page.range(first, last));
  const set = (chars: readonly string[]): string => `[${[...new Set(chars)].join("")}]`;
  const lead2 = set(clues(0xc2, 0xdf));
  const lead3 = set(clues(0xe0, 0xef));
  const lead4 = set([...clues(0xf0, 0xf0), ...clues(0xf3, 0xf3)]);
  const continuation = clues(0x80, 0xbf);
  // A space may stand for A0. Dashes, quotes, bullets and ellipses follow a word without being part of the damage.
  const trail = set([...continuation, " "]);
  const strict = set(continuation.filter((char) => !"–—―‘’‚“”„•…".includes(char)));
  return new RegExp(`(?<!${strict})(?:${lead2}${trail}|${lead3}${trail}{2}|${lead4}${trail}{3})+`, "gu");
}

/** Repairs as long as something changes. */
export function fixEncoding(text: string): string {
  for (let current = text; ; ) {
    const next = fixOnce(current);
    if (next === current) return current;
    current = next;
  }
}

function fixOnce(text: string): string {
  if (!looksBad(text)) return text;
  for (const page of codePages) {
    const encoded = page.encode(text);
    if (encoded === undefined) continue;
    // In MacRoman the pattern would match an en dash before a space.
    const restored = page.name === "macroman" ? encoded : restoreA0(encoded);
    const decoded = decodeUtf8(page.sloppy ? restored.replace(lossyUtf8, REPLACEMENT_BYTES) : restored);
    if (decoded !== undefined) return decoded;
  }
  // No encoding explains the whole text: mend what looks like mojibake by itself.
  const mended = text.replace(embeddedUtf8, (part) =>
    part.length < text.length && looksBad(part) ? fixEncoding(part) : part,
  );
  if (mended !== text) return mended;
  return fixC1Controls(text);
}

/** Control characters U+0080 to U+009F become what Windows-1252 has in their place. */
export function fixC1Controls(text: string): string {
  return text.replace(c1Control, (char) => sloppyWindows1252.decode(char));
}

function restoreA0(encoded: string): string {
  if (encoded.search(spacedUtf8) < 0) return encoded;
  return encoded.replace(lonelyAGrave, "\xc3\xa0 ").replace(spacedUtf8, (match) => match.replaceAll(" ", "\xa0"));
}

/** Strict UTF-8, and two variants of it: CESU-8, and Java's two bytes for U+0000. Undefined where it is neither. */
function decodeUtf8(encoded: string): string | undefined {
  const plain = encoded.replace(javaNull, "\0").replace(surrogatePair, (...groups: string[]) => {
    const [a, b, c, d] = groups.slice(1, 5).map((byte) => byte.charCodeAt(0)) as [number, number, number, number];
    const rest = ((a & 0x0f) << 16) | ((b & 0x3f) << 10) | ((c & 0x0f) << 6) | (d & 0x3f);
    return Buffer.from(String.fromCodePoint(0x10000 + rest)).toString("latin1");
  });
  try {
    return utf8.decode(Buffer.from(plain, "latin1"));
  } catch {
    return undefined;
  }
}
