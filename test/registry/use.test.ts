// Generating with LoRAs of a registry: the version that a request gets, its files on this machine, records, feedback.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { startJob } from "../../src/jobs/start.ts";
import type { RequestOf, ResultOf } from "../../src/jobs/table.ts";
import type { UseRecord } from "../../src/protocol/registry.ts";
import { parseAddress, parseLoraReference } from "../../src/registry/address.ts";
import { storageAt } from "../../src/registry/open.ts";
import { readRecords } from "../../src/registry/records.ts";
import { inShare } from "../../src/registry/registry.ts";
import { runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const store = path("store");
const address = "styles/acme/neon";
const lora = `registry:${address}`;

/** A small film of the current version; the notes it told. */
async function film(
  options: Partial<RequestOf<"generate">>,
  cache = "cache",
  atStep = () => {},
): Promise<ResultOf<"generate">["video"] & { notes: string[] }> {
  const usual = { model: "tiny-t2v", prompt: "a red circle", steps: 1, size: { width: 32, height: 32 }, frames: 5 };
  const request = { ...usual, seed: 7, loras: [lora], store, out: path("film.mp4"), ...options };
  const run = startJob("generate", request, { cacheFolder: path(cache) });
  const notes: string[] = [];
  for await (const event of run) {
    if (event.type === "note") notes.push(event.text);
    if (event.type === "step") atStep();
  }
  return { ...(await run).video, notes };
}

async function records(): Promise<UseRecord[]> {
  const all: UseRecord[] = [];
  for await (const record of readRecords(storageAt(store, {}))) all.push(record);
  return all;
}

const versionsIn = ({ recipe }: ResultOf<"generate">["video"]) => recipe.loras.map(({ registry }) => registry);

beforeAll(async () => {
  mkdirSync(path("clips"));
  await startJob("generate", {
    ...{ model: "tiny-t2v", prompt: "a red circle", steps: 1, size: { width: 32, height: 32 }, frames: 5 },
    ...{ seed: 1, out: path("clips/a.mp4") },
  });
  writeFileSync(path("clips/a.txt"), "a shape");
  await startJob("train", {
    base: path(""),
    config: {
      ...{ name: "neon", output: "run", cache: "latents", steps: 4, model: { name: "tiny-t2v" } },
      dataset: { path: "clips", batch_size: 1, resolution: [32, 32] },
      lora: { rank: 2 },
      optimizer: { learning_rate: 0.01 },
      experts: { switch_every: 1 },
      save: { every_steps: 2 },
    },
  });
  await startJob("registry-init", { store });
  await startJob("registry-publish", { store, address, files: [path("run")], checkpoint: 2 });
  await startJob("registry-publish", { store, address, files: [path("run")], strength: 0.5 });
  const promote = { action: "promote", version: "v1", why: "first", force: true } as const;
  await startJob("registry-change", { store, address, change: promote });
}, 120_000);

it("references have a version and a strength, or neither", () => {
  expect(parseLoraReference(`${lora}@v2:0.8`)).toMatchObject({ reference: { which: "v2" }, strength: 0.8 });
  expect(parseLoraReference(`${lora}:-1`)).toMatchObject({ reference: { which: "current" }, strength: -1 });
  expect(parseLoraReference(lora).strength).toBeUndefined();
  expect(() => parseLoraReference(`${lora}:much`)).toThrow(expect.objectContaining({ code: "lora.bad-strength" }));
  expect(() => parseLoraReference("registry:styles/neon")).toThrow(
    expect.objectContaining({ code: "registry.bad-address" }),
  );
});

describe.sequential("a generation", () => {
  it("takes both files of the current version, names it in its recipe, and is recorded without its prompt", async () => {
    const made = await film({});
    expect(versionsIn(made)).toEqual([`${address}@v1`, `${address}@v1`]);
    expect(made.recipe.loras.map(({ expert, strength }) => [expert, strength])).toEqual([
      ["high", 1],
      ["low", 1],
    ]);
    const [record] = await records();
    expect(record).toMatchObject({ address, version: "v1", by: "current", steps: 1, width: 32, task: "tiny-t2v" });
    expect(record!.seconds).toBeGreaterThan(0);
    expect(JSON.stringify(record)).not.toContain("circle");
    const repeated = await startJob(
      "generate",
      { from: path("film.mp4"), out: path("again.mp4") },
      { cacheFolder: path("cache") },
    );
    expect(versionsIn(repeated.video)).toEqual(versionsIn(made));
  });

  it("gets the version that it names, at its strength or the one it gives", async () => {
    expect((await film({ loras: [`${lora}@v2`] })).recipe.loras[0]).toMatchObject({
      registry: `${address}@v2`,
      strength: 0.5,
    });
    expect((await film({ loras: [{ path: `${lora}@v2`, strength: 0.9 }] })).recipe.loras[0]!.strength).toBe(0.9);
    await expect(film({ loras: [{ path: `${lora}:0.5`, strength: 0.9 }] })).rejects.toMatchObject({
      code: "generate.contradiction",
    });
    await expect(film({ loras: [`${lora}@v9`] })).rejects.toMatchObject({ code: "registry.unknown-version" });
    await expect(film({ loras: [`${lora}@trial`] })).rejects.toMatchObject({ code: "registry.no-current" });
  });

  it("goes to a trial by its key, else by its seed", async () => {
    await startJob("registry-change", { store, address, change: { action: "trial", version: "v2", share: 0.5 } });
    const keys = Array.from({ length: 40 }, (_, i) => String(i));
    const where = parseAddress(address);
    const inside = keys.find((key) => inShare(where, key, 0.5))!;
    const outside = keys.find((key) => !inShare(where, key, 0.5))!;
    expect(versionsIn(await film({ requestKey: inside, seed: 1 }))[0]).toBe(`${address}@v2`);
    expect(versionsIn(await film({ requestKey: outside, seed: 1 }))[0]).toBe(`${address}@v1`);
    expect(versionsIn(await film({ seed: inside }))[0]).toBe(`${address}@v2`);
    expect(versionsIn(await film({ seed: outside }))[0]).toBe(`${address}@v1`);
    expect((await records()).filter(({ by }) => by === "trial")).toHaveLength(2);
  });

  it("that fails on its way is recorded with its code, and one that was refused is not", async () => {
    const before = (await records()).length;
    await expect(film({ steps: 0 })).rejects.toBeTruthy();
    mkdirSync(path("gone"));
    // The folder becomes a file while the film is made.
    const spoil = () => {
      rmSync(path("gone"), { recursive: true, force: true });
      writeFileSync(path("gone"), "no folder");
    };
    await expect(film({ out: path("gone/film.mp4") }, "cache", spoil)).rejects.toBeTruthy();
    const [failed, ...more] = (await records()).slice(before);
    expect(more).toEqual([]);
    expect(failed).toMatchObject({ address, error: expect.any(String) });
    expect(failed!.seconds).toBeUndefined();
  });

  it("runs without the store once it has what it needs, and not without", async () => {
    renameSync(store, path("away"));
    try {
      const made = await film({ loras: [`${lora}@v2`] });
      expect(versionsIn(made)[0]).toBe(`${address}@v2`);
      expect(made.notes.join("\n")).toMatch(/cannot be reached.*[\s\S]*not recorded/);
      await expect(film({ loras: [`${lora}@v2`] }, "other-cache")).rejects.toMatchObject({
        code: "registry.not-a-store",
      });
    } finally {
      rmSync(store, { recursive: true, force: true });
      renameSync(path("away"), store);
    }
  });

  it("hears what people think of its film", async () => {
    await film({ loras: [`${lora}@v2`] });
    const said = await runCli(["feedback", path("film.mp4"), "bad", "--note", "flickers", "--store", store]);
    expect([said.code, said.data]).toEqual([0, `${address}@v2: bad feedback recorded`]);
    const { versions } = await startJob("registry-show", { store, address });
    expect(versions[1]).toMatchObject({ feedback: { good: 0, bad: 1 } });
    expect((await runCli(["feedback", path("clips/a.mp4"), "good", "--store", store])).notes).toContain(
      "without a LoRA of a registry",
    );
    expect(
      existsSync(join(path("cache"), "registry/files")) && readdirSync(join(path("cache"), "registry/files")).length,
    ).toBe(4);
  });
});
