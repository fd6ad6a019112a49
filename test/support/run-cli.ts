// One command line, run in this process as its own would run it, with what it printed.
import { main } from "../../src/cli/main.ts";

export interface Printed {
  code: number;
  /** stdout and stderr. */
  data: string;
  notes: string;
  progress: string[];
}

/** `watch` is told each progress line as it comes. */
export async function runCli(argv: readonly string[], watch: (progress: string) => void = () => {}): Promise<Printed> {
  const [data, notes, progress]: [string[], string[], string[]] = [[], [], []];
  const code = await main(argv, {
    data: (text) => data.push(text),
    note: (text) => notes.push(text),
    progress(text) {
      progress.push(text);
      watch(text);
    },
  });
  return { code, data: data.join("\n"), notes: notes.join("\n"), progress };
}
