// HTML character references, decoded in two ways: as Python's `html.unescape` does, and as ftfy does, more warily.
// The table of names is that of the `entities` package.
import { decodeHTML, decodeHTMLStrict } from "entities";
import { sloppyWindows1252 } from "./code-pages.ts";

const reference = /&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu;
const completeReference = /&#?[0-9A-Za-z]{1,24};/g;

/**
 * Decodes every character reference, with or without its semicolon; of a name without one, the longest prefix that
 * HTML knows. Numbers that name no character vanish or become U+FFFD.
 * https://github.com/python/cpython/blob/v3.11.7/Lib/html/__init__.py#L124
 */
export function unescapeHtml(text: string): string {
  return text.replace(reference, (whole, body: string) => (body.startsWith("#") ? numeric(body) : decodeHTML(whole)));
}

/**
 * Decodes complete references only, so that "this&not that" stays; and names in capitals ("&EACUTE;") too.
 * https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/fixes.py#L88
 */
export function unescapeCompleteHtml(text: string): string {
  return text.replace(completeReference, (whole) => {
    if (whole.startsWith("&#")) {
      const decoded = unescapeHtml(whole);
      return decoded.includes(";") ? whole : decoded;
    }
    const decoded = decodeHTMLStrict(whole);
    if (decoded !== whole || whole !== whole.toUpperCase() || unescapeHtml(whole) !== whole) return decoded;
    const lower = whole.toLowerCase();
    const small = decodeHTMLStrict(lower);
    return small === lower ? whole : small.toUpperCase();
  });
}

function numeric(body: string): string {
  const hex = body[1] === "x" || body[1] === "X";
  const code = hex ? Number.parseInt(body.slice(2), 16) : Number.parseInt(body.slice(1), 10);
  if (code >= 0x80 && code <= 0x9f) return sloppyWindows1252.decode(String.fromCharCode(code));
  if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
  return isNoCharacter(code) ? "" : String.fromCodePoint(code);
}

/** Control characters and noncharacters, which HTML does not let anyone refer to. */
function isNoCharacter(code: number): boolean {
  const control = code < 0x20 && !(code >= 0x09 && code <= 0x0d && code !== 0x0b);
  return control || code === 0x7f || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;
}
