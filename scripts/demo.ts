// npm run demo [-- --out DIR] [--checkpoint DIR] [--steps N] [--prompts N] [--rank N] [--learning-rate X]: a style that
// kinora-tiny has never seen, learned from drawn clips and measured. Ctrl-C stops; the same command goes on.
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isKinoraError, KinoraError } from "../src/base/errors.ts";
import { Interrupt } from "../src/cli/interrupt.ts";
import { parseWholeNumber } from "../src/cli/parse.ts";
import { terminalOutput } from "../src/cli/terminal.ts";
import { checkGoals, runDemo } from "./demo/run.ts";
import { type DemoSettings, defaultSettings } from "./demo/settings.ts";

const usage =
  "npm run demo -- [--out DIR] [--checkpoint DIR] [--clips N] [--prompts N] [--steps N] [--rank N] [--learning-rate X]";
const root = fileURLToPath(new URL("..", import.meta.url));

function readSettings(): DemoSettings {
  const text = { type: "string" } as const;
  const options = { out: text, checkpoint: text, clips: text, prompts: text, steps: text, rank: text };
  const { values } = parseArgs({ options: { ...options, "learning-rate": text } });
  const { train } = defaultSettings;
  const whole = (name: keyof typeof options, otherwise: number) =>
    values[name] === undefined ? otherwise : parseWholeNumber(`--${name}`, values[name]);
  const learningRate = Number(values["learning-rate"] ?? train.learningRate);
  if (!(learningRate > 0 && learningRate < Infinity))
    throw new KinoraError("demo.usage", "--learning-rate is wrong", { actual: values["learning-rate"], hint: usage });
  return {
    ...defaultSettings,
    folder: values.out === undefined ? resolve(root, "demo") : resolve(values.out),
    checkpoint: values.checkpoint && resolve(values.checkpoint),
    clips: whole("clips", defaultSettings.clips),
    prompts: whole("prompts", defaultSettings.prompts),
    train: { ...train, steps: whole("steps", train.steps), rank: whole("rank", train.rank), learningRate },
  };
}

async function main(): Promise<number> {
  const out = terminalOutput();
  const controller = new AbortController();
  const { signal } = controller;
  using _interrupt = new Interrupt({
    first() {
      out.note("stopping; press Ctrl-C again to stop now");
      controller.abort();
    },
    again: () => process.exit(130),
  });
  try {
    checkGoals(await runDemo(readSettings(), { out, signal }));
    out.note("all goals are met");
    return 0;
  } catch (error) {
    if (signal.aborted && (error as Error).name === "AbortError") {
      out.note("stopped; npm run demo goes on from here");
      return 130;
    }
    if (error instanceof TypeError && String((error as NodeJS.ErrnoException).code).startsWith("ERR_PARSE_ARGS")) {
      out.note(`${error.message}\nusage: ${usage}`);
      return 2;
    }
    if (!isKinoraError(error)) throw error;
    out.note(`error ${error.code}: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
    return 1;
  }
}

process.exitCode = await main();
