// The entry of the command line: finds the command, parses its options, prints errors with their hints.
import { KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { kinoraVersion } from "../base/version.ts";
import { errorData } from "../jobs/errors.ts";
import type { ErrorData } from "../protocol/jobs/error.ts";
import { inFlags, parse, usage } from "./command.ts";
import { commands, type Listed } from "./commands.ts";
import { BROKEN_PIPE, STOPPED } from "./follow.ts";
import { type Output, Printer, terminalOutput } from "./terminal.ts";

function list(entries: readonly Listed[]): string {
  const width = Math.max(...entries.map(({ name }) => name.length));
  return entries.map(({ name, summary }) => `  kinora ${name.padEnd(width)}  ${summary}`).join("\n");
}

const overview = (): string =>
  `kinora: fine-tune and run the Wan video models, without Python\n\n${list(commands)}\n\nkinora COMMAND --help shows a command's options; kinora --version prints the version.\n`;

/** The commands whose first words these are. */
function beginningWith(words: readonly string[]): Listed[] {
  return commands.filter(({ name }) => {
    const own = name.split(" ");
    return words.length > 0 && words.length < own.length && words.every((word, i) => own[i] === word);
  });
}

function find(argv: readonly string[]): { entry: Listed; rest: readonly string[] } | undefined {
  const entry = commands.find(({ name }) => name.split(" ").every((word, i) => argv[i] === word));
  return entry && { entry, rest: argv.slice(entry.name.split(" ").length) };
}

function unknownCommand(argv: readonly string[]): KinoraError {
  const option = argv.findIndex((word) => word.startsWith("-"));
  const asked = argv.slice(0, option < 0 ? 2 : Math.min(option, 2));
  const near = nearestName(
    asked.join(" "),
    commands.map(({ name }) => name),
  );
  return new KinoraError("cli.unknown-command", `unknown command: ${asked.join(" ") || argv[0]}`, {
    hint: near ? `did you mean kinora ${near}?` : "see kinora --help",
  });
}

const isHelp = (word: string | undefined): boolean => word === "--help" || word === "-h";

async function run(argv: readonly string[], out: Printer): Promise<number> {
  const words = argv.filter((word) => word !== "--json");
  if (words.length === 0 || words[0] === "help" || isHelp(words[0])) {
    out.answer({ commands: commands.map(({ name, summary }) => ({ name, summary })) }, overview);
    return 0;
  }
  if (["version", "--version", "-v"].includes(words[0]!)) {
    out.answer({ version: kinoraVersion() }, kinoraVersion);
    return 0;
  }
  // It may stand before the command too.
  const found = find(argv[0] === "--json" ? words : argv);
  if (!found) {
    const group = beginningWith(words.filter((word) => !isHelp(word)));
    if (group.length === 0) throw unknownCommand(words);
    const text = () => `${list(group)}\n\nkinora COMMAND --help shows a command's options.\n`;
    out.answer({ commands: group.map(({ name, summary }) => ({ name, summary })) }, text);
    return 0;
  }
  const { entry, rest } = found;
  const command = await entry.load();
  out.inFlags = (text) => inFlags(text, command);
  if (rest.some(isHelp)) {
    const text = usage(command, entry.summary);
    out.answer({ help: text }, () => text);
    return 0;
  }
  const { values, positionals } = parse(command, rest);
  return (await command.run(values as never, positionals, out)) ?? 0;
}

/** An error with its options as the command's flags. */
function spelled(data: ErrorData, { inFlags }: Printer): ErrorData {
  const { message, expected, actual, hint } = data;
  const parts = Object.entries({ message, expected, actual, hint }).filter(([, text]) => text !== undefined);
  return { ...data, ...Object.fromEntries(parts.map(([part, text]) => [part, inFlags(text!)])) };
}

/** Runs one command line; returns the exit code. With --json errors go to stdout as `{error: {...}}`. */
export async function main(argv: readonly string[], output: Output = terminalOutput()): Promise<number> {
  const out = new Printer(
    output,
    argv.some((word) => /^--json(=|$)/.test(word)),
  );
  try {
    const code = await run(argv, out);
    return code === STOPPED && out.closed?.aborted ? BROKEN_PIPE : code;
  } catch (error) {
    const data = spelled(errorData(error), out);
    const { code, message, hint, stack } = data;
    if (out.json) out.answer({ error: data }, () => "");
    else
      out.say([`error ${code}: ${message}`, ...(hint ? [`hint: ${hint}`] : []), ...(stack ? [stack] : [])].join("\n"));
    return 1;
  }
}
