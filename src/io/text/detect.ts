// Which encoding bytes are in that are no UTF-8 and have no byte order mark: every candidate decodes them, and the text
// that a language makes likely wins, if it wins clearly.
import { fixC1Controls } from "../text-clean/fix-encoding.ts";
import { type Language, type LanguageName, languages, WORD_COST, WRONG_COST } from "./languages.ts";

export interface Encoding {
  /** As TextDecoder knows it. */
  label: string;
  /** As people know it. */
  name: string;
  languages: readonly LanguageName[];
  /** How rare it is among what people bring, as a cost. */
  rarity: number;
}

const western = ["en", "fr", "de", "es", "pt", "it", "nordic", "is"] as const;
const central = ["pl", "cs", "hu", "ro", "hr"] as const;
const ideographic = ["zh-Hans", "zh-Hant", "ja", "ko"] as const;
const wide = [...ideographic, ...western, ...central, "tr", "ru", "el", "he", "ar", "th"] as const;

/** Where two give the same text, the first is named. */
const encodings: readonly Encoding[] = [
  { label: "utf-16le", name: "UTF-16 (little-endian)", languages: wide, rarity: 4.5 },
  { label: "utf-16be", name: "UTF-16 (big-endian)", languages: wide, rarity: 5.5 },
  { label: "windows-1252", name: "Windows-1252 (Western Europe)", languages: western, rarity: 0 },
  { label: "gb18030", name: "GBK (simplified Chinese)", languages: ["zh-Hans", "zh-Hant"], rarity: 0 },
  { label: "big5", name: "Big5 (traditional Chinese)", languages: ["zh-Hant"], rarity: 1 },
  { label: "shift_jis", name: "Shift-JIS (Japanese)", languages: ["ja"], rarity: 0.5 },
  { label: "euc-jp", name: "EUC-JP (Japanese)", languages: ["ja"], rarity: 3 },
  { label: "euc-kr", name: "EUC-KR (Korean)", languages: ["ko"], rarity: 0.5 },
  { label: "windows-1251", name: "Windows-1251 (Cyrillic)", languages: ["ru"], rarity: 0.5 },
  { label: "koi8-u", name: "KOI8 (Cyrillic)", languages: ["ru"], rarity: 3 },
  { label: "ibm866", name: "DOS 866 (Cyrillic)", languages: ["ru"], rarity: 4 },
  { label: "windows-1250", name: "Windows-1250 (Central Europe)", languages: central, rarity: 4 },
  { label: "iso-8859-2", name: "ISO 8859-2 (Central Europe)", languages: central, rarity: 5 },
  { label: "windows-1253", name: "Windows-1253 (Greek)", languages: ["el"], rarity: 1.5 },
  { label: "windows-1254", name: "Windows-1254 (Turkish)", languages: ["tr"], rarity: 1.5 },
  { label: "windows-1255", name: "Windows-1255 (Hebrew)", languages: ["he"], rarity: 1 },
  { label: "windows-1256", name: "Windows-1256 (Arabic)", languages: ["ar"], rarity: 2.5 },
  { label: "windows-1257", name: "Windows-1257 (Baltic)", languages: ["lt", "lv"], rarity: 5 },
  { label: "windows-874", name: "Windows-874 (Thai)", languages: ["th"], rarity: 3 },
  { label: "macintosh", name: "Mac Roman (Western Europe)", languages: western, rarity: 5 },
];

/** What is looked at of a file to know its encoding. */
const SAMPLE_BYTES = 8 << 10;
/** So many characters beyond ASCII show whether a reading is worth going on with. */
const TRIAL = 40;

/** By how much the best must lead the next, in Latin letters, where one accent may be all there is to go by; and else. */
const CLEARLY = { latin: 4, other: 6 } as const;
const otherLetter = /[^\p{Script=Latin}\P{L}]/u;

export interface Guess {
  encoding: Encoding;
  text: string;
}

interface Scored extends Guess {
  cost: number;
}

/** Strict decoding; undefined where the bytes are not in this encoding. `cut`: the last character need not be whole. */
export function decode(bytes: Uint8Array, label: string, cut = false): string | undefined {
  try {
    const text = new TextDecoder(label, { fatal: true, ignoreBOM: true }).decode(bytes, { stream: cut });
    // Some versions of Node read Windows-1252 as Latin-1, whose 0x80 to 0x9F are control characters.
    return label === "windows-1252" ? fixC1Controls(text) : text;
  } catch {
    // Not in this encoding, or one that this build of Node lacks.
    return undefined;
  }
}

/** What the text costs in a language; undefined where nobody writes so. */
function costIn(text: string, language: Language): number | undefined {
  let before = "";
  let cost = 0;
  let beyond = 0;
  let characters = 0;
  for (const char of text) {
    const price = language.cost(char, before);
    cost += price;
    before = char;
    if (char < "\x80") continue;
    beyond += price;
    if (++characters === TRIAL && beyond > 1.3 * language.most * TRIAL) return undefined;
  }
  const wrong = WRONG_COST * finds(text, language.wrong);
  if (beyond + wrong > language.most * characters) return undefined;
  return cost + wrong + WORD_COST * finds(text, language.words);
}

const finds = (text: string, pattern: RegExp | undefined): number => (pattern ? (text.match(pattern)?.length ?? 0) : 0);

/** The part of a file to go by: all of a short one; of a long one the lines that are not plain ASCII. */
function sampleOf(bytes: Uint8Array): Uint8Array {
  const begin = bytes.subarray(0, SAMPLE_BYTES);
  // Only UTF-16 has zero bytes; its lines cannot be found by bytes.
  if (bytes.length <= SAMPLE_BYTES || begin.includes(0)) return begin;
  const sample = new Uint8Array(SAMPLE_BYTES);
  let size = 0;
  for (let at = 0; at < bytes.length && size < SAMPLE_BYTES; ) {
    const newline = bytes.indexOf(0x0a, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    const line = bytes.subarray(at, end);
    const first = line.findIndex((byte) => byte >= 0x80);
    // The first byte beyond ASCII begins a character, so that a long line may be entered just before it.
    const part =
      first < 0 ? line.subarray(0, 0) : line.subarray(Math.max(0, first - 80)).subarray(0, SAMPLE_BYTES - size);
    sample.set(part, size);
    size += part.length;
    at = end;
  }
  return sample.subarray(0, size);
}

/** Every reading of the sample that a person may have written, the likeliest first, each text once. */
function readings(sample: Uint8Array, cut: boolean): Scored[] {
  const found: Scored[] = [];
  for (const encoding of encodings) {
    const text = decode(sample, encoding.label, cut);
    // Such characters come of reading bytes as what they are not.
    if (text === undefined || /[\0\ufffd\x80-\x9f\ue000-\uf8ff]/.test(text)) continue;
    const costs = encoding.languages.flatMap((language) => costIn(text, languages[language]) ?? []);
    if (costs.length === 0) continue;
    const reading: Scored = { encoding, text, cost: Math.min(...costs) + encoding.rarity };
    const same = found.find((other) => other.text === text);
    if (!same) found.push(reading);
    else if (reading.cost < same.cost) Object.assign(same, reading);
  }
  return found.sort((a, b) => a.cost - b.cost);
}

/** The encoding of a whole file, or the likeliest ones where none is clear. */
export function guess(bytes: Uint8Array): Guess | { unclear: readonly Guess[] } {
  const sample = sampleOf(bytes);
  const found = readings(sample, sample.length < bytes.length);
  const [best, next] = found;
  const lead = next && best ? next.cost - best.cost : Number.POSITIVE_INFINITY;
  if (best && lead >= CLEARLY[otherLetter.test(best.text) ? "other" : "latin"]) {
    const text = decode(bytes, best.encoding.label);
    if (text !== undefined && !text.includes("\0")) return { encoding: best.encoding, text };
  }
  return { unclear: found.slice(0, 3) };
}
