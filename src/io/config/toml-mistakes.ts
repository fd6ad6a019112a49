// What is wrong with a line of TOML, and what its writer most likely meant.
import type { TomlError } from "smol-toml";

export const backslashHint =
  "a backslash starts an escape in double quotes (\\t is a tab, \\n a line break): write paths in single quotes, 'C:\\films', or with /, \"C:/films\"";

/** The parser's first line says what; the rest of it draws the place, which is told in its own way. */
export function tomlWords({ message, column }: TomlError, line: string): string {
  const what = message.split("\n")[0]!.replace(/^Invalid TOML document: /, "");
  if (what.startsWith("trying to redefine")) {
    const name = /^\s*(\[*[^=\]]*\]*)/.exec(line)?.[1]?.trim();
    return name ? `${name} is duplicated` : what;
  }
  if (line.slice(0, column).includes('"') && /escape/.test(what)) return `${what} in text in double quotes`;
  return what;
}

const hints: readonly (readonly [applies: (line: string, rest: string, what: string) => boolean, hint: string])[] = [
  [
    (line, _rest, what) => line.includes("\\") && (what.includes("escape") || what.includes("unfinished")),
    backslashHint,
  ],
  [(line, rest) => /["'][^"']*\\/.test(line) && /^\S*["']/.test(rest), backslashHint],
  [(line) => /[“”„«»‘’]/.test(line), "TOML only accepts straight quotes: \" or '"],
  [(line) => /^\s*[{}]/.test(line), "this looks like JSON: name the file .json"],
  [(line) => /^\s*["']?[\w-]+["']?\s*:/.test(line), 'TOML writes name = value, e.g. name = "style"'],
  [
    (_line, rest) => /^(True|False|TRUE|FALSE|yes|no|on|off|None|none|null)\b/.test(rest),
    "write true or false in lower case, or remove the setting",
  ],
  [(line) => /=\s*[+-]?\.\d/.test(line), "a number needs a digit before its point: 0.5"],
  [(line) => /=\s*[\d,]+,\d{3}\b/.test(line), "write numbers without commas: 1000 or 1_000"],
  [
    (line, rest) => /=\s*[A-Za-z]:?[\\/]/.test(line) || /^[\\/~.]/.test(rest),
    "a path is text and needs quotes: 'C:\\films' or \"/data/films\"",
  ],
  [(_line, rest) => /^[A-Za-z_]/.test(rest), 'text needs quotes: name = "style"'],
  [(_line, _rest, what) => what.includes("redefine"), "keep one of them"],
];

export function tomlHint({ message, column }: TomlError, line: string): string {
  const rest = line.slice(column - 1);
  const found = hints.find(([applies]) => applies(line, rest, message));
  return found?.[1] ?? "text needs quotes, lists need [ ], and tables begin with their name in brackets, e.g. [model]";
}
