// Runs inputs of one kind for scripts/fuzz.ts, told by messages: prepares once, then an outcome for each number. What ends
// this process is counted by its parent.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kinds } from "../../test/fuzz/kinds.ts";
import { type Outcome, Runner } from "../../test/fuzz/run.ts";

/** What the parent asks for: inputs `from` to before `to`. */
export interface Order {
  kind: string;
  seed: number;
  from: number;
  to: number;
}

export type Message = { ready: true } | { begun: number } | { outcome: Outcome };

const tell = (message: Message): void => void process.send!(message);

process.once("message", async ({ kind: name, seed, from, to }: Order) => {
  const kind = kinds.find((row) => row.name === name)!;
  const folder = mkdtempSync(join(tmpdir(), "kinora-fuzz-"));
  // The parent removes what a killed child leaves, by this name.
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const runner = await Runner.prepare(kind, folder);
  tell({ ready: true });
  for (let number = from; number < to; number++) {
    tell({ begun: number });
    tell({ outcome: await runner.run(seed, number) });
  }
  process.disconnect();
  // Servers of a kind would keep it alive.
  process.exit(0);
});
