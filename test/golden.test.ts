// The official code's numbers, on every device we have, where the fixtures are at hand.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { passes } from "../scripts/golden/fixture.ts";
import { line, runGolden } from "../scripts/golden/runner.ts";
import { openDevice } from "../src/device/open-device.ts";

const shared = (name: string) => fileURLToPath(new URL(`../../shared/${name}`, import.meta.url));
const folder = shared("golden");
const present = existsSync(folder);
const generating = shared("golden-generate");
/** What of the fixtures of training there is code for. */
const trainingFixtures = /^(?:optimizer-|lr-schedule|ema|loss|time-sampling-musubi)/;
if (!present) console.warn("golden fixtures: ../shared/golden is not here, so they are skipped");

async function failures(
  device: "auto" | "reference",
  dtype: "f32" | "bf16",
  { from = folder, only }: { from?: string; only?: (file: string) => boolean } = {},
): Promise<{ failed: string[]; passed: number }> {
  const opened = await openDevice(device);
  const failed: string[] = [];
  let passed = 0;
  for await (const result of runGolden(from, opened.device, { dtype, ...(only ? { only } : {}) })) {
    if (result.status === "failed")
      failed.push(line(result), ...result.checks.filter((c) => !passes(c)).map((c) => c.output));
    if (result.status === "passed") passed++;
  }
  opened.device[Symbol.dispose]();
  return { failed, passed };
}

describe.skipIf(!present)("golden fixtures", () => {
  it("pass in float32 on the best device here", async () => {
    const { failed, passed } = await failures("auto", "f32");
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(20);
  }, 600_000);

  it("pass in float32 on the reference device", async () => {
    const { failed, passed } = await failures("reference", "f32");
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(20);
  }, 600_000);

  it("pass in bf16 at 3e-2 for the networks and pipelines", async () => {
    const { failed, passed } = await failures("auto", "bf16");
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(6);
  }, 600_000);
});

describe.skipIf(!existsSync(generating))("golden fixtures of generating", () => {
  it.each(["auto", "reference"] as const)(
    "files that people have, and fast decoding, on %s",
    async (device) => {
      const only = (file: string) => /^(?:lora-wild|gguf|quant-comfy|tae-|vae-tiling)/.test(file);
      expect(await failures(device, "f32", { from: generating, only })).toEqual({ failed: [], passed: 6 });
    },
    300_000,
  );

  it.each(["guidance", "cache", "sampler"])(
    "%s, as published",
    async (kind) => {
      const only = (file: string) => file.startsWith(`${kind}-`);
      const { failed, passed } = await failures("auto", "f32", { from: generating, only });
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(0);
    },
    300_000,
  );
});

const training = shared("golden-train");
describe.skipIf(!existsSync(training))("golden fixtures of training", () => {
  it.each(["auto", "reference"] as const)(
    "are met on %s",
    async (device) => {
      const only = (file: string) => trainingFixtures.test(file);
      const { failed, passed } = await failures(device, "f32", { from: training, only });
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(8);
    },
    300_000,
  );
});
