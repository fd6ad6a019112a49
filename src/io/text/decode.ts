// From the bytes of a file that a person wrote to its text: UTF-8 and UTF-16, and what can be told of other encodings
// (detect.ts). Never a replacement character in silence: what cannot be read is an error.
import { KinoraError } from "../../base/errors.ts";
import { decode, type Guess, guess } from "./detect.ts";

export interface Text {
  /** Without byte order marks; lines end in "\n". */
  text: string;
  /** What its writer should hear once, to stand behind the file's name. */
  notice?: string;
}

const REPLACEMENT = "\ufffd";
const asUtf8 = "save it as UTF-8, which every editor can do";

/** How much of a text is quoted. */
const QUOTED = 40;

function quote(text: string): string {
  // From the first line that is not plain ASCII.
  const line = text.split(/[\r\n]+/).find((candidate) => /[^\0-\x7f]/.test(candidate)) ?? text;
  const at = Math.max(0, line.search(/[^\0-\x7f]/) - QUOTED / 2);
  const part = line.slice(at, at + QUOTED).trim();
  return JSON.stringify(`${at > 0 ? "…" : ""}${part}${at + QUOTED < line.length ? "…" : ""}`);
}

const marks = [
  { bytes: [0xff, 0xfe, 0x00, 0x00], label: "utf-32le" },
  { bytes: [0x00, 0x00, 0xfe, 0xff], label: "utf-32be" },
  { bytes: [0xef, 0xbb, 0xbf], label: "utf-8" },
  { bytes: [0xff, 0xfe], label: "utf-16le" },
  { bytes: [0xfe, 0xff], label: "utf-16be" },
] as const;

/**
 * The text of a whole file.
 * @throws KinoraError `text.damaged` for UTF-8 or UTF-16 with wrong bytes, `text.not-text` for other data,
 *   `text.unknown-encoding` where the encoding cannot be told. Messages stand behind the file's name (`naming`).
 */
export function decodeText(bytes: Uint8Array): Text {
  const mark = marks.find((row) => row.bytes.every((byte, i) => bytes[i] === byte));
  if (mark) return told(markedText(bytes.subarray(mark.bytes.length), mark.label));
  const utf8 = decode(bytes, "utf-8");
  if (utf8 !== undefined && !utf8.includes("\0")) return told(utf8);
  refuseData(bytes);
  refuseDamagedUtf8(bytes);
  const guessed = guess(bytes);
  if ("unclear" in guessed) throw unclear(bytes, guessed.unclear);
  const { encoding, text } = guessed;
  return {
    text: withPlainLines(text),
    notice: `is not UTF-8 and was read as ${encoding.name}: ${quote(text)}; if that is wrong, ${asUtf8}`,
  };
}

function told(text: string): Text {
  const plain = withPlainLines(text);
  if (!plain.includes(REPLACEMENT)) return { text: plain };
  return {
    text: plain,
    notice: `holds ${REPLACEMENT} (U+FFFD) in ${quote(plain.slice(Math.max(0, plain.indexOf(REPLACEMENT) - QUOTED / 2)))}: characters were lost when another program saved it`,
  };
}

/** Marks of the beginning also come in the middle, where files were put together. */
const withPlainLines = (text: string): string => text.replace(/\r\n?/g, "\n").replace(/(^|\n)\ufeff+/g, "$1");

function markedText(bytes: Uint8Array, label: (typeof marks)[number]["label"]): string {
  if (label.startsWith("utf-32")) {
    throw new KinoraError("text.unknown-encoding", "is UTF-32, which is not supported", { hint: asUtf8 });
  }
  const text = decode(bytes, label);
  if (text?.includes("\0")) refuseData(bytes);
  if (text !== undefined && !text.includes("\0")) return text;
  throw new KinoraError("text.damaged", `begins as ${label.toUpperCase()} and has bytes that are invalid in it`, {
    hint: `it was truncated or joined from several files: ${asUtf8}`,
  });
}

/** Files by whose first bytes nobody means text. */
const dataHeads: readonly (readonly [head: string, what: string])[] = [
  ["\x89PNG", "a picture"],
  ["\xff\xd8\xff", "a picture"],
  ["GIF8", "a picture"],
  ["RIFF", "a picture or a sound"],
  ["PK\x03\x04", "a ZIP archive or an office document"],
  ["\xd0\xcf\x11\xe0", "an office document"],
  ["%PDF", "a PDF document"],
  ["{\\rtf", "a rich text document"],
  ["\x1f\x8b", "a gzip archive"],
  ["\x7fELF", "a program"],
];

function refuseData(bytes: Uint8Array): void {
  const head = Buffer.from(bytes.subarray(0, 16)).toString("latin1");
  const known = dataHeads.find(([begin]) => head.startsWith(begin));
  const what = known?.[1] ?? (head.slice(4, 8) === "ftyp" ? "a film or a picture" : undefined);
  if (what) throw new KinoraError("text.not-text", `is ${what}, not text`, { hint: "name a file of plain text" });
  if (bytes.length > 0 && bytes.every((byte) => byte === 0)) {
    throw new KinoraError("text.damaged", "contains only zero bytes", {
      hint: "the machine went down while it was written: restore it from a backup",
    });
  }
}

/** Most of what is not ASCII is valid UTF-8: then the rest was damaged, and no other encoding is meant. */
function refuseDamagedUtf8(bytes: Uint8Array): void {
  if (bytes.includes(0)) return;
  let valid = 0;
  let wrong = 0;
  let first = -1;
  for (let i = 0; i < bytes.length; ) {
    const length = sequenceLength(bytes, i);
    if (length === 0) {
      wrong++;
      if (first < 0) first = i;
    } else if (length > 1) valid += length;
    i += Math.max(1, length);
  }
  if (valid < 6 || valid < 4 * wrong) return;
  const before = Buffer.from(bytes.subarray(0, first)).toString("utf8");
  const line = before.split(/\r\n?|\n/).length;
  throw new KinoraError("text.damaged", `is UTF-8 with ${wrong === 1 ? "an invalid byte" : `${wrong} wrong bytes`}`, {
    actual: `0x${bytes[first]!.toString(16)} in line ${line}, behind ${JSON.stringify(before.slice(-20))}`,
    hint: "fix that place and save it again; parts of it may come from a file in another encoding",
  });
}

/** The bytes of the UTF-8 sequence at `at`; 0 where there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  if (lead < 0x80) return 1;
  const length =
    lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
  for (let i = 1; i < length; i++) if ((bytes[at + i]! & 0xc0) !== 0x80) return 0;
  return at + length <= bytes.length ? length : 0;
}

function unclear(bytes: Uint8Array, readings: readonly Guess[]): KinoraError {
  if (bytes.includes(0) && readings.length === 0) {
    return new KinoraError("text.not-text", "contains zero bytes and is not text", { hint: asUtf8 });
  }
  const few = readings.map(({ encoding, text }) => `${quote(text)} in ${encoding.name}`);
  return new KinoraError("text.unknown-encoding", "is not UTF-8, and its encoding could not be determined", {
    ...(few.length > 0 ? { actual: `what may be ${few.join(", or ")}` } : {}),
    hint: `open it in the editor that wrote it and ${asUtf8}`,
  });
}
