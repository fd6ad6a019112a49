// The one reader of configuration files, for training, datasets and preparation: text in any encoding, TOML or JSON to
// plain tables, mistakes with their place. What the tables mean is for whoever reads them; what is wrong in them is
// worded by keys.ts and values.ts.
import { extname } from "node:path";
import { parse, TomlError } from "smol-toml";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import { isRow, type Row } from "../../base/rows.ts";
import { noticeOf, readText } from "../text/read.ts";
import { tomlHint, tomlWords } from "./toml-mistakes.ts";

/** How one kind of configuration is called. */
export interface ConfigKind {
  /** Codes begin with it: `train-config`. */
  code: string;
  /** In errors about the file: `the training configuration`. */
  name: string;
  /** Where there is nothing better to say. */
  hint: string;
}

export interface ConfigFile {
  root: Row;
  /** What whoever wrote it should hear, with the file's name. */
  notices: string[];
}

/**
 * Reads a file, JSON by its ending and else TOML. Whole numbers that a double cannot hold come as bigints.
 * @throws KinoraError `CODE.unreadable`, `CODE.syntax`, `CODE.invalid` where there is no table.
 */
export async function readConfigFile(kind: ConfigKind, file: string): Promise<ConfigFile> {
  try {
    const read = await readText(file);
    const format = extname(file).toLowerCase() === ".json" ? "json" : "toml";
    return { root: parseConfig(kind, read.text, { where: file, format }), notices: noticeOf(file, read) };
  } catch (cause) {
    if (!isKinoraError(cause) || !/^(io|text)\./.test(cause.code)) throw cause;
    const { code, message, hint } = cause;
    throw new KinoraError(`${kind.code}.unreadable`, `${kind.name} ${JSON.stringify(file)} cannot be read`, {
      actual: code === "io.not-found" ? "no such file" : message.replace(`${file}: `, ""),
      hint: code === "io.not-found" ? kind.hint : (hint ?? kind.hint),
      cause,
    });
  }
}

/** Parses a configuration's text; `where` names it in errors. */
export function parseConfig(
  kind: ConfigKind,
  content: string,
  { where, format }: { where: string; format: "toml" | "json" },
): Row {
  return format === "json" ? fromJson(kind, content, where) : fromToml(kind, content, where);
}

function fromToml(kind: ConfigKind, content: string, where: string): Row {
  try {
    return parse(content, { integersAsBigInt: "asNeeded" }) as Row;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const line = content.split("\n")[cause.line - 1] ?? "";
    const what = tomlWords(cause, line);
    throw new KinoraError(
      `${kind.code}.syntax`,
      `${where}, line ${cause.line}, column ${cause.column}: ${what}\n${cause.codeblock.trimEnd()}`,
      { hint: tomlHint(cause, line), cause },
    );
  }
}

/** The value of `KEY=VALUE` on a command line: as TOML where it reads as such, else the text. */
export function parseValue(value: string): unknown {
  try {
    return (parse(`value = ${value}`, { integersAsBigInt: "asNeeded" }) as Row).value;
  } catch {
    return value;
  }
}

function fromJson(kind: ConfigKind, content: string, where: string): Row {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    const message = (cause as Error).message;
    const at = /position (\d+)/.exec(message)?.[1];
    const line = at === undefined ? undefined : content.slice(0, Number(at)).split("\n").length;
    const bare = line === undefined ? message : message.replace(/ \(line \d+ column \d+\)$/, "");
    const slashes = /escaped character|\\/.test(message) || /"[^"\n]*\\[^"\\/bfnrtu]/.test(content);
    throw new KinoraError(`${kind.code}.syntax`, `${where}${line ? `, line ${line}` : ""}: ${bare}`, {
      hint: slashes
        ? 'a backslash begins an escape in JSON: write paths with / or with two backslashes, "C:/films" or "C:\\\\films"'
        : "names and text need double quotes, and there must be no comma before a closing bracket",
      cause,
    });
  }
  if (isRow(value)) return value;
  throw new KinoraError(`${kind.code}.invalid`, `${where} is not a table`, {
    expected: "an object with settings, { … }",
    hint: kind.hint,
  });
}
