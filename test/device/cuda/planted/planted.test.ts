// The emulator itself: does it show the mistakes that kernels on a card would make? Each planted fault has to be caught by
// the conformance cases, a guard page or the emulator's own checks.
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { buildEmulator, compiler, kernelTexts } from "../emulator/build.ts";
import type { Outcome, Planted } from "./child.ts";
import { type PlantedFault, plantedFaults } from "./faults.ts";

const child = fileURLToPath(new URL("child.ts", import.meta.url));
const root = fileURLToPath(new URL("../../../..", import.meta.url));
const found = compiler();

/** A fault costs a compilation: every third in the whole test run, all of them by `npm run test:cuda`. */
const chosen = plantedFaults.filter((_, i) => i % 3 === 0 || process.env.npm_lifecycle_event === "test:cuda");

function build(command: string, { name, cases }: { name: string; cases: string }, changed = {}): Planted {
  return { name, cases, cacheFolder: join(tmpdir(), "kinora-cuda-test"), ...buildEmulator(command, { changed }) };
}

function plant(command: string, fault: PlantedFault): Planted {
  const texts = kernelTexts();
  const text = texts[fault.file]!;
  // A fault that no longer fits its kernel would test nothing.
  expect(text.split(fault.from).length - 1, `${fault.name}: how often its place is found`).toBe(1);
  const harmed = text.replace(fault.from, () => fault.to);
  const { within } = fault;
  const changed = within
    ? { [within]: texts[within]!.replace(`#include "${fault.file}"`, () => harmed) }
    : { [fault.file]: harmed };
  return build(command, fault, changed);
}

/** Runs all, in as many processes as their faults end. */
function outcomes(planted: readonly Planted[]): Map<string, Outcome> {
  const result = new Map<string, Outcome>();
  let rest = planted;
  while (rest.length > 0) {
    const run = spawnSync(process.execPath, ["--import", "tsx", child, JSON.stringify(rest)], {
      cwd: root,
      encoding: "utf8",
      env: { ...process.env, EMULATOR_GUARD: "1" },
    });
    for (const line of run.stdout.split("\n").filter(Boolean)) {
      const outcome = JSON.parse(line) as Outcome;
      result.set(outcome.name, outcome);
    }
    rest = rest.filter(({ name }) => !result.has(name));
    const [ended, ...others] = rest;
    if (!ended) break;
    // Only the emulator may have ended it.
    expect(run.stderr, `how the process of "${ended.name}" ended`).toMatch(/^emulator: /m);
    result.set(ended.name, { name: ended.name, ran: 0, failure: run.stderr.trim() });
    rest = others;
  }
  return result;
}

test.skipIf("missing" in found)(
  `planted faults are caught${"missing" in found ? ` (${found.missing})` : ""}`,
  { timeout: 900_000 },
  () => {
    const { command } = found as { command: string };
    const unharmed = [...new Set(chosen.map(({ cases }) => cases))].map((cases) =>
      build(command, { name: `nothing: ${cases}`, cases }),
    );
    const results = outcomes([...unharmed, ...chosen.map((fault) => plant(command, fault))]);
    for (const { name } of unharmed) {
      expect(results.get(name)).toEqual({ name, ran: results.get(name)!.ran });
      expect(results.get(name)!.ran).toBeGreaterThan(0);
    }
    const missed = chosen.filter(({ name }) => results.get(name)?.failure === undefined);
    expect(missed.map(({ name }) => name)).toEqual([]);
    if (process.env.KINORA_SHOW) for (const { name, failure } of results.values()) console.log(`${name}: ${failure}`);
  },
);
