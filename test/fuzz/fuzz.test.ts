// A few of the inputs that `npm run fuzz` makes by the thousand, always the same ones: each ends in a coded error with a
// hint or in something valid, with nothing outside touched.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { kinds } from "./kinds.ts";
import { type Outcome, Runner } from "./run.ts";

/** Of 10,000: dear kinds have few. */
const part = 300 / 10_000;

it.each(kinds.map((kind) => [kind.name, kind] as const))("%s", async (_, kind) => {
  const folder = mkdtempSync(join(tmpdir(), "kinora-fuzz-"));
  try {
    const runner = await Runner.prepare({ ...kind, growth: Number.POSITIVE_INFINITY }, folder);
    const failed: Outcome[] = [];
    for (let number = 0; number < Math.max(2, part * kind.share); number++) {
      const outcome = await runner.run(1, number);
      if (outcome.end === "failed") failed.push(outcome);
    }
    expect(failed).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
