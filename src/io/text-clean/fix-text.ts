// Mends text the way ftfy.fix_text does with its default settings: mojibake, HTML references, typographic variants,
// control characters. Follows ftfy 6.3.1 (Apache-2.0), whose outcomes this must share:
// https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/__init__.py#L275 and ftfy/fixes.py
import { fixC1Controls, fixEncoding } from "./fix-encoding.ts";
import { unescapeCompleteHtml } from "./html.ts";

/** Longer lines are mended piece by piece, in characters. */
const MAX_SEGMENT = 1_000_000;

/** Latin ligatures and digraphs that stand for plain letters. */
const ligatures: Readonly<Record<string, string>> = {
  Ĳ: "IJ",
  ĳ: "ij",
  ŉ: "ʼn",
  Ǆ: "DŽ",
  ǅ: "Dž",
  ǆ: "dž",
  Ǉ: "LJ",
  ǈ: "Lj",
  ǉ: "lj",
  Ǌ: "NJ",
  ǋ: "Nj",
  ǌ: "nj",
  Ǳ: "DZ",
  ǲ: "Dz",
  ǳ: "dz",
  "\ufb00": "ff",
  "\ufb01": "fi",
  "\ufb02": "fl",
  "\ufb03": "ffi",
  "\ufb04": "ffl",
  "\ufb05": "ſt",
  "\ufb06": "st",
};
const ligature = new RegExp(`[${Object.keys(ligatures).join("")}]`, "g");

const doubleQuote = /[\u201c-\u201f]/g;
const singleQuote = /[\u02bc\u2018-\u201b]/g;
const lineBreak = /\r\n|[\r\u2028\u2029\u0085]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
const terminalEscape = /\x1b\[[\p{Nd};]*[a-zA-Z]/gu;
/** Controls that show nothing: ASCII's, Arabic shaping, interlinear notes, the object placeholder, byte-order marks. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
const controlChar = /[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g;

/** Half- and full-width forms become ordinary ones, and the wide space a space. */
function fixWidth(text: string): string {
  return text.replace(/\u3000/g, " ").replace(/[\uff01-\uffef]/g, (char) => char.normalize("NFKC"));
}

const fixers: readonly ((text: string) => string)[] = [
  fixEncoding,
  fixC1Controls,
  (text) => text.replace(ligature, (char) => ligatures[char]!),
  fixWidth,
  (text) => text.replace(doubleQuote, '"').replace(singleQuote, "'"),
  (text) => text.replace(lineBreak, "\n"),
  (text) => text.toWellFormed(),
  (text) => text.replace(terminalEscape, ""),
  (text) => text.replace(controlChar, ""),
  (text) => text.normalize("NFC"),
];

/** Mends `text` line by line. */
export function fixText(text: string): string {
  let out = "";
  // From the first `<` on the text counts as real HTML, whose references are left alone.
  let decodeReferences = true;
  for (const segment of segments(text)) {
    if (segment.includes("<")) decodeReferences = false;
    out += fixSegment(segment, decodeReferences);
  }
  return out;
}

function fixSegment(segment: string, decodeReferences: boolean): string {
  for (let current = segment; ; ) {
    const start = decodeReferences ? unescapeCompleteHtml(current) : current;
    const next = fixers.reduce((fixed, fixer) => fixer(fixed), start);
    if (next === current) return next;
    current = next;
  }
}

/** The lines of `text` with their line feeds, cut where they exceed the longest segment. */
function* segments(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    const lineFeed = text.indexOf("\n", start);
    const lineEnd = lineFeed < 0 ? text.length : lineFeed + 1;
    let end = lineEnd;
    if (end - start > MAX_SEGMENT) {
      end = start;
      for (let count = 0; count < MAX_SEGMENT && end < lineEnd; count++) end += text.codePointAt(end)! > 0xffff ? 2 : 1;
    }
    yield text.slice(start, end);
    start = end;
  }
}
