// What a command is to the command line: its words, its options with their help, and what it runs.
// Not the work itself: a command reads options, starts a job and prints.
import { parseArgs } from "node:util";
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import type { Printer } from "./terminal.ts";

export interface Option {
  type: "string" | "boolean";
  /** One line of help. */
  help: string;
  /** How the value reads in the help, e.g. `W*H`. */
  value?: string;
  short?: string;
  default?: string | boolean;
  /** May be given more than once; the value is then an array. */
  multiple?: boolean;
  /** Parsed, but left out of the help (aliases kept for other tools' users). */
  hidden?: boolean;
}

type ValueOf<O extends Option> = O extends { multiple: true }
  ? string[]
  : O extends { type: "boolean" }
    ? boolean
    : O extends { default: string }
      ? string
      : string | undefined;

export type Values<O extends Record<string, Option>> = { [K in keyof O]: ValueOf<O[K]> };

export interface Command<O extends Record<string, Option> = Record<string, Option>> {
  /** The words that call it, e.g. `dataset prepare`. */
  name: string;
  /** Positional arguments as they read in the usage line, e.g. `SOURCE… --out DIR`. */
  usage: string;
  /** Longer help below the options: formats, examples. */
  details?: string;
  options: O;
  /** Flags of the library's options, where they are not the same words: `maxTokens` is `--max-tokens` by itself. */
  flags?: Readonly<Record<string, keyof O & string>>;
  /** Returns the exit code; undefined means 0. */
  run(values: Values<O>, positionals: string[], out: Printer): Promise<number | undefined>;
}

/** Keeps the literal type of the options so that `values` is typed in `run`. */
export function command<const O extends Record<string, Option>>(definition: Command<O>): Command {
  return definition as unknown as Command;
}

/**
 * What a library says of its options, which stand in backticks by the library's names, in the flags of a command. What is
 * no option of the command stays as it is.
 */
export function inFlags(text: string, { flags = {}, options }: Pick<Command, "flags" | "options">): string {
  return text.replace(/`([a-zA-Z][\w.]*)`/g, (written, name: string) => {
    const flag = flags[name] ?? name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return Object.hasOwn(options, flag) ? `--${flag}` : written;
  });
}

/** Every command has these. */
const common = {
  help: { type: "boolean", help: "show this help", short: "h" },
  json: {
    type: "boolean",
    help: "machine-readable: the result as JSON on stdout, one JSON event per line on stderr",
  },
} satisfies Record<string, Option>;

export function usage(definition: Command, summary: string): string {
  const options: Record<string, Option> = { ...definition.options, ...common };
  const rows = Object.entries(options)
    .filter(([, option]) => !option.hidden)
    .map(([name, option]) => {
      const flag = `${option.short ? `-${option.short}, ` : ""}--${name}${option.type === "string" ? ` ${option.value ?? "VALUE"}` : ""}`;
      const extras = [
        option.multiple ? "repeatable" : "",
        option.default !== undefined && option.default !== false ? `default ${option.default}` : "",
      ].filter(Boolean);
      return [flag, option.help + (extras.length > 0 ? ` (${extras.join("; ")})` : "")] as const;
    });
  const width = Math.min(34, Math.max(...rows.map(([flag]) => flag.length)));
  const lines = rows.map(([flag, help]) =>
    flag.length <= width ? `  ${flag.padEnd(width)}  ${help}` : `  ${flag}\n  ${" ".repeat(width)}  ${help}`,
  );
  const details = definition.details ? `\n\n${definition.details.trim()}` : "";
  return `kinora ${definition.name} ${definition.usage}\n\n${summary}\n\nOptions:\n${lines.join("\n")}${details}\n`;
}

/** Parses `argv` (after the command's words). Unknown options name the nearest known one. */
export function parse(
  definition: Command,
  argv: readonly string[],
): { values: Record<string, unknown>; positionals: string[] } {
  const options: Record<string, Option> = { ...definition.options, ...common };
  for (const argument of argv) {
    if (argument === "--") break;
    const name = /^--([^=]+)/.exec(argument)?.[1];
    if (name === undefined || name in options) continue;
    const camel = name.replace(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const near = definition.flags?.[camel] ?? nearestName(name, Object.keys(options));
    throw new KinoraError("cli.unknown-option", `unknown option --${name} for kinora ${definition.name}`, {
      hint: near ? `did you mean --${near}?` : `see kinora ${definition.name} --help`,
    });
  }
  try {
    const { values, positionals } = parseArgs({
      args: joinNegativeNumbers(argv, options),
      allowPositionals: true,
      strict: true,
      options: Object.fromEntries(
        Object.entries(options).map(([name, { type, short, multiple, default: fallback }]) => [
          name,
          {
            type,
            ...(short ? { short } : {}),
            ...(multiple ? { multiple } : {}),
            ...(fallback !== undefined ? { default: fallback } : {}),
          },
        ]),
      ),
    });
    const complete: Record<string, unknown> = { ...values };
    for (const [name, option] of Object.entries(options)) {
      if (complete[name] !== undefined) continue;
      if (option.multiple) complete[name] = [];
      else if (option.type === "boolean") complete[name] = false;
    }
    return { values: complete, positionals };
  } catch (error) {
    throw new KinoraError("cli.bad-arguments", error instanceof Error ? error.message : String(error), {
      hint: `see kinora ${definition.name} --help`,
      cause: error,
    });
  }
}

/** `--seed -1` as `--seed=-1`: parseArgs would take the number for an option. */
function joinNegativeNumbers(argv: readonly string[], options: Readonly<Record<string, Option>>): string[] {
  const joined: string[] = [];
  for (const argument of argv) {
    const name = /^--([^=]+)$/.exec(joined.at(-1) ?? "")?.[1];
    if (name !== undefined && options[name]?.type === "string" && /^-\.?\d/.test(argument)) {
      joined[joined.length - 1] += `=${argument}`;
    } else joined.push(argument);
  }
  return joined;
}
