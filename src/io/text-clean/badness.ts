// Tells whether text looks like mojibake: character sequences that hardly anyone writes on purpose.
// The classes and rules are those of ftfy 6.3.1 (Apache-2.0), whose verdicts this must share:
// https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/badness.py

/** The few hundred characters that turn up when UTF-8 is read in another encoding, by how telling they are. */
const classes = {
  common: "\u00a0\u00ad·´–—―…’",
  c1: "\u0080-\u009f",
  bad: "¦¤¨¬¯¸ƒ\u02c6\u02c7\u02d8\u02db\u02dc†‡‰⌐◊\ufffdªº",
  law: "¶§",
  currency: "¢£¥₧€",
  opening: "¡«¿©΄΅‘‚“„•‹\uf8ff",
  closing: "®»\u02dd”›™",
  numeric: "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№",
  // Letters of emoticon faces, which keep odd company.
  kaomoji: "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°",
  upper: "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ",
  lower: "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґ\ufb01\ufb02",
  upperCommon: "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я",
  lowerCommon: "α-ωάέήίΰа-џ",
  box: "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓",
} as const;

type ClassName = keyof typeof classes;

/** A character class: the named classes, and `extra` characters. */
function any(names: readonly ClassName[], extra = ""): string {
  return `[${names.map((name) => classes[name]).join("")}${extra}]`;
}

// Python's notions of white space and word characters, which these rules are written in.
const space = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const word = "[\\p{L}\\p{N}_]";

const telling = ["lower", "upper", "box", "opening", "closing", "currency", "numeric", "law"] as const;
const arabic = `[ØÙ]${any(["common", "currency", "bad", "numeric", "opening"], "ŸŠ®°µ»")}`;
const symbols = ["c1", "bad", "opening", "closing", "currency"] as const;

const rules: readonly string[] = [
  any(["c1"]),
  any(["bad", ...telling]) + any(["bad"]),
  `[a-zA-Z]${any(["lowerCommon", "upperCommon"])}${any(["bad"])}`,
  any(["bad"]) + any(telling),
  any(["lower", "lowerCommon", "box", "closing", "currency", "numeric"]) + any(["upper"]),
  any(["box", "closing", "currency", "numeric"]) + any(["lower"]),
  any(["lower", "box", "closing"]) + any(["currency"]),
  space + any(["upper"]) + any(["currency"]),
  any(["upper", "box"]) + any(["numeric", "law"]),
  any(["lower", "upper", "box", "currency", "closing"]) + any(["opening"]) + any(["numeric"]),
  any(["lower", "upper", "currency", "numeric", "box", "law"]) + any(["closing"]) + any(["opening"]),
  any(["currency", "numeric", "box"]) + any(["opening"]),
  `[a-z]${any(["upper"])}${any(["opening", "currency"])}`,
  any(["box"]) + any(["kaomoji"]),
  any(["lower", "upper", "currency", "numeric", "opening", "closing", "law"]) + any(["box"]),
  any(["box"]) + any(["closing"]),
  any(["lower", "upper"]) + any(["opening", "closing"]) + word,
  "[Œœ][^A-Za-z]",
  `${any(["upper"])}°`,
  // Pairs of Windows-1252 that the classes above do not cover.
  `[ÂÃÎÐ]${any(["opening", "closing"], "€œŠš¢£Ÿž\u00a0\u00ad®©°·»–—´")}`,
  "×[²³]",
  // Arabic words also run through the common characters: ask for two pairs.
  arabic + arabic,
  // South Asian alphabets.
  "à[²µ¹¼½¾]",
  // MacRoman.
  "√[±∂†≠®™´≤≥¥µø]",
  "≈[°¢]",
  "‚Ä[ìîïòôúùû†°¢π]",
  "‚[âó][àä°ê]",
  // Windows-1251.
  "вЂ",
  `[ВГРС]${any(symbols, "°µ")}[ВГРС]`,
  "ГўВЂВ[^\\n][A-Za-z ]",
  // "à", "á" and the no-break space itself in Windows-1252.
  "Ã[\\xa0¡]",
  `[a-z]${space}?[ÃÂ] `,
  "^[ÃÂ] ",
  `[a-z.,?!${classes.closing}]Â[ ${classes.opening}${classes.closing}]`,
  // Windows-1253 and Windows-1257.
  "β€[™\\xa0Ά\\xad®°]",
  `[ΒΓΞΟ]${any(symbols, "°")}[ΒΓΞΟ]`,
  "ā€",
];

const badness = new RegExp(rules.join("|"), "u");

/** Whether `text` has at least one sequence that points to mojibake. */
export function looksBad(text: string): boolean {
  return badness.test(text);
}
