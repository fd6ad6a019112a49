// The entry of the command line: finds the command, parses its options, prints errors with their hints.
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { nearestName } from "../base/nearest.ts";
import { kinoraVersion } from "../base/version.ts";
import { type Command, type Output, parse, usage } from "./command.ts";
import { commands } from "./commands.ts";

function overview(): string {
  const width = Math.max(...commands.map((entry) => entry.name.length));
  const rows = commands.map((entry) => `  kinora ${entry.name.padEnd(width)}  ${entry.summary}`);
  return `kinora: fine-tune and run the Wan video models, without Python\n\n${rows.join("\n")}\n\nkinora COMMAND --help shows a command's options; kinora --version says which this is.\n`;
}

function find(argv: readonly string[]): { definition: Command; rest: readonly string[] } | undefined {
  const matches = commands.filter((entry) => {
    const words = entry.name.split(" ");
    return words.every((word, i) => argv[i] === word);
  });
  matches.sort((a, b) => b.name.length - a.name.length);
  const definition = matches[0];
  return definition && { definition, rest: argv.slice(definition.name.split(" ").length) };
}

export function terminalOutput(): Output {
  const terminal = process.stderr.isTTY;
  let open = false;
  let last = 0;
  const close = () => {
    if (open) process.stderr.write("\n");
    open = false;
  };
  return {
    data(text) {
      close();
      process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
    },
    note(text) {
      close();
      process.stderr.write(text.endsWith("\n") ? text : `${text}\n`);
    },
    progress(text) {
      if (terminal) {
        process.stderr.write(`\r\x1b[2K${text.slice(0, (process.stderr.columns ?? 100) - 1)}`);
        open = true;
      } else if (Date.now() - last > 2000) {
        last = Date.now();
        process.stderr.write(`${text}\n`);
      }
    },
  };
}

/** Runs one command line; returns the exit code. `json` errors go to stdout as `{error: {...}}`. */
export async function main(argv: readonly string[], out: Output = terminalOutput()): Promise<number> {
  const json = argv.includes("--json");
  try {
    if (argv.length === 0 || ["help", "--help", "-h"].includes(argv[0]!)) {
      out.data(overview());
      return 0;
    }
    if (["version", "--version", "-v"].includes(argv[0]!)) {
      out.data(json ? JSON.stringify({ version: kinoraVersion() }) : kinoraVersion());
      return 0;
    }
    const found = find(argv);
    if (!found) {
      const asked = argv.filter((word) => !word.startsWith("-")).slice(0, 2);
      const near = nearestName(
        asked.join(" "),
        commands.map((entry) => entry.name),
      );
      throw new KinoraError("cli.unknown-command", `unknown command: ${asked.join(" ") || argv[0]}`, {
        hint: near ? `did you mean kinora ${near}?` : "see kinora --help",
      });
    }
    if (found.rest.includes("--help") || found.rest.includes("-h")) {
      out.data(usage(found.definition));
      return 0;
    }
    const { values, positionals } = parse(found.definition, found.rest);
    return (await found.definition.run(values as never, positionals, out)) ?? 0;
  } catch (error) {
    if (!isKinoraError(error)) throw error;
    if (json) {
      const { code, message, expected, actual, hint } = error;
      out.data(JSON.stringify({ error: { code, message, expected, actual, hint } }));
    } else {
      out.note(`error ${error.code}: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
    }
    return 1;
  }
}
