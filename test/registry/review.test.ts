// The monthly review over drawn records: shares, medians, trends, and what needs a look.
import { writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import type { UseRecord } from "../../src/protocol/registry.ts";
import { parseAddress } from "../../src/registry/address.ts";
import { storageAt } from "../../src/registry/open.ts";
import { addRecord } from "../../src/registry/records.ts";
import { Registry } from "../../src/registry/registry.ts";
import { previousMonth, prometheusText, reviewStore } from "../../src/registry/review.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const address = parseAddress("styles/acme/neon");

it("sums up a month, and says what needs a look", async () => {
  const store = path("store");
  const { registry } = await Registry.init(storageAt(store, {}), "anna");
  await writeFile(path("a.safetensors"), "a");
  for (let i = 0; i < 2; i++)
    await registry.publish(address, [{ source: path("a.safetensors"), path: "a.safetensors", role: "lora" }]);
  await registry.promote(address, "v1", "first", true);
  await registry.trial(address, "v2", 0.5);
  const now = new Date();
  const month = now.toISOString().slice(0, 7);
  const record = (version: string, seconds: number, more: Partial<UseRecord> = {}): Promise<void> =>
    addRecord(registry.storage, {
      ...{ kind: "kinora.registry.record", format: 1, at: now.toISOString(), who: "anna", address: "styles/acme/neon" },
      ...{ version, by: "current", strength: 1, task: "tiny-t2v", width: 100, height: 100, frames: 5, steps: 10 },
      ...{ device: "cpu", seconds, peakBytes: 1000 },
      ...more,
    } as UseRecord);
  for (let i = 0; i < 12; i++) await record("v1", 10 + i);
  for (let i = 0; i < 12; i++) await record("v2", 40, i < 3 ? { error: "cuda.out-of-memory" } : {});
  const before = `${previousMonth(month)}-15T00:00:00.000Z`;
  for (let i = 0; i < 12; i++) await record("v2", 40, { at: before });
  for (let i = 0; i < 6; i++) await registry.feedback(address, "v2", i < 2 ? "good" : "bad");
  const [current, trial] = await reviewStore(registry, month);
  expect(current).toMatchObject({ status: "current", generations: 12, errors: 0, seconds: 16, concerns: [] });
  expect(trial).toMatchObject({ status: "trial", errors: 3, feedback: { good: 2, bad: 4 }, trend: "worse" });
  expect(trial!.concerns.join("; ")).toMatch(
    /25 % of generations fail.*67 % of 6 verdicts are bad.*2\.50 times as slow.*worse/,
  );
  expect(prometheusText([trial!])).toContain(
    'kinora_lora_errors{lora="styles/acme/neon",version="v2",status="trial"} 3\n',
  );
  const { code, data } = await runCli([
    "registry",
    "review",
    "--store",
    store,
    "--month",
    month,
    "--html",
    path("r.html"),
  ]);
  expect([code, data]).toEqual([0, expect.stringContaining("styles/acme/neon@v2 (trial): 12 generations, 3 errors")]);
  expect(previousMonth("2026-01")).toBe("2025-12");
});
