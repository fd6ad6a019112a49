// Commands as a person or a machine runs them: what they print is judged, and an error comes back as the error it was.
import type { Draws } from "../../scripts/tiny/world/random.ts";
import { KinoraError } from "../../src/base/errors.ts";
import type { ErrorData } from "../../src/protocol/jobs/error.ts";
import { runCli } from "../support/run-cli.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const obeyed = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/u;

/** What a command printed, for people or with --json. Throws the KinoraError that it ended with. */
export async function readCli(draws: Draws, argv: readonly string[]): Promise<string> {
  const json = draws.chance(0.5);
  const { code, data, notes, progress } = await runCli(json ? [...argv, "--json"] : argv);
  const printed = [data, notes, ...progress].join("\n");
  if (obeyed.test(printed)) throw new Error(`printed control characters: ${JSON.stringify(printed).slice(0, 400)}`);
  if (/\n\s+at .*:\d+/.test(printed) || /error internal/.test(printed))
    throw new Error(`printed a stack: ${printed.slice(0, 1500)}`);
  if (![0, 1, 2].includes(code)) throw new Error(`ended with ${code}`);
  if (json) {
    const answer = JSON.parse(data) as { error?: ErrorData };
    if (answer.error?.stack) throw new Error(answer.error.stack);
    if (answer.error) throw KinoraError.from(answer.error);
  } else if (code === 1) {
    const [, errorCode, message] = /^error (\S+): ([\s\S]*?)(?:\nhint: |$)/m.exec(notes) ?? [];
    if (!errorCode) throw new Error(`ended with 1 and no error: ${printed.slice(0, 400)}`);
    const hint = /\nhint: ([\s\S]*)/.exec(notes)?.[1];
    throw new KinoraError(errorCode, message ?? "", hint ? { hint } : {});
  }
  return printed;
}
