// Single-byte encodings that text is mistaken for, as tables of the 128 characters above ASCII.
// The "sloppy" ones let unassigned bytes stand for the C1 control characters, as browsers do.
// Data: https://unicode.org/Public/MAPPINGS and, for the order and the sloppiness, ftfy 6.3.1 (Apache-2.0):
// https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/bad_codecs/sloppy.py

const windows1252 =
  "€\u0081‚ƒ„…†‡\u02c6‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—\u02dc™š›œ\u009džŸ\u00a0¡¢£¤¥¦§¨©ª«¬\u00ad®¯°±²³´µ¶·¸¹º»¼½¾¿" +
  "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const windows1251 =
  "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u0098™љ›њќћџ\u00a0ЎўЈ¤Ґ¦§Ё©Є«¬\u00ad®Ї°±Ііґµ¶·ё№є»јЅѕї" +
  "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
const windows1250 =
  "€\u0081‚\u0083„…†‡\u0088‰Š‹ŚŤŽŹ\u0090‘’“”•–—\u0098™š›śťžź\u00a0\u02c7\u02d8Ł¤Ą¦§¨©Ş«¬\u00ad®Ż°±\u02dbł´µ¶·¸ąş»Ľ\u02ddľż" +
  "ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ\u02d9";
const windows1253 =
  "€\u0081‚ƒ„…†‡\u0088‰\u008a‹\u008c\u008d\u008e\u008f\u0090‘’“”•–—\u0098™\u009a›\u009c\u009d\u009e\u009f\u00a0΅Ά£¤¥¦§¨©ª«¬\u00ad®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ" +
  "ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ";
const windows1254 =
  "€\u0081‚ƒ„…†‡\u02c6‰Š‹Œ\u008d\u008e\u008f\u0090‘’“”•–—\u02dc™š›œ\u009d\u009eŸ\u00a0¡¢£¤¥¦§¨©ª«¬\u00ad®¯°±²³´µ¶·¸¹º»¼½¾¿" +
  "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const windows1257 =
  "€\u0081‚\u0083„…†‡\u0088‰\u008a‹\u008c¨\u02c7¸\u0090‘’“”•–—\u0098™\u009a›\u009c¯\u02db\u009f\u00a0¡¢£¤¥¦§Ø©Ŗ«¬\u00ad®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ" +
  "ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž\u02d9";
const iso88592 =
  "\u0080\u0081\u0082\u0083\u0084\u0085\u0086\u0087\u0088\u0089\u008a\u008b\u008c\u008d\u008e\u008f\u0090\u0091\u0092\u0093\u0094\u0095\u0096\u0097\u0098\u0099\u009a\u009b\u009c\u009d\u009e\u009f\u00a0Ą\u02d8Ł¤ĽŚ§¨ŠŞŤŹ\u00adŽŻ°ą\u02dbł´ľś\u02c7¸šşťź\u02ddžż" +
  "ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ\u02d9";
const macRoman =
  "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø" +
  "¿¡¬√ƒ≈∆«»…\u00a0ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›\ufb01\ufb02‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\uf8ffÒÚÛÙı\u02c6\u02dc¯\u02d8\u02d9\u02da¸\u02dd\u02db\u02c7";
const cp437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐" +
  "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** In a sloppy encoding this byte (SUBSTITUTE) carries U+FFFD: a character whose byte is lost. */
const SUBSTITUTE = 0x1a;
const REPLACEMENT = "\ufffd";

/** An encoding of one byte per character. Bytes are passed around as strings of the characters U+0000 to U+00FF. */
export class CodePage {
  readonly name: string;
  readonly sloppy: boolean;
  readonly #charOf: readonly string[];
  readonly #byteOf = new Map<string, string>();

  constructor(name: string, high: string, sloppy: boolean) {
    this.name = name;
    this.sloppy = sloppy;
    this.#charOf = Array.from({ length: 256 }, (_, byte) => {
      if (sloppy && byte === SUBSTITUTE) return REPLACEMENT;
      return byte < 0x80 ? String.fromCharCode(byte) : high[byte - 0x80]!;
    });
    this.#charOf.forEach((char, byte) => {
      this.#byteOf.set(char, String.fromCharCode(byte));
    });
  }

  /** The bytes of `text`, or undefined where it has a character outside this encoding. */
  encode(text: string): string | undefined {
    let bytes = "";
    for (let i = 0; i < text.length; i++) {
      const byte = this.#byteOf.get(text[i]!);
      if (byte === undefined) return undefined;
      bytes += byte;
    }
    return bytes;
  }

  decode(bytes: string): string {
    return Array.from(bytes, (byte) => this.#charOf[byte.charCodeAt(0)]!).join("");
  }

  /** The characters of the bytes `first` to `last`. */
  range(first: number, last: number): string[] {
    return this.#charOf.slice(first, last + 1);
  }
}

const latin1High = Array.from({ length: 128 }, (_, i) => String.fromCharCode(0x80 + i)).join("");

export const latin1 = new CodePage("latin-1", latin1High, false);
export const sloppyWindows1252 = new CodePage("windows-1252", windows1252, true);

/** Encodings whose letters sit where Latin-1's do, so that UTF-8 read through them looks alike. */
export const latinLike: readonly CodePage[] = [
  latin1,
  sloppyWindows1252,
  new CodePage("windows-1251", windows1251, true),
  new CodePage("windows-1250", windows1250, true),
  new CodePage("windows-1253", windows1253, true),
  new CodePage("windows-1254", windows1254, true),
  new CodePage("windows-1257", windows1257, true),
];

/** Every encoding that is tried, in order. */
export const codePages: readonly CodePage[] = [
  ...latinLike,
  new CodePage("iso-8859-2", iso88592, false),
  new CodePage("macroman", macRoman, false),
  new CodePage("cp437", cp437, false),
];
