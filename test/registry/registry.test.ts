// The registry's rules: what is published stays, aliases move, whoever changes production says why, and damage is found.
import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { parseAddress, parseReference } from "../../src/registry/address.ts";
import { deployStore } from "../../src/registry/deploy.ts";
import { changelog, differences, plain, trainingNotes } from "../../src/registry/notes.ts";
import { fetchObject, objectKey } from "../../src/registry/objects.ts";
import { openRegistry, storageAt, storePlace } from "../../src/registry/open.ts";
import { inShare, Registry, type VersionFacts } from "../../src/registry/registry.ts";
import { statusOf } from "../../src/registry/state.ts";
import { collectGarbage, verifyStore } from "../../src/registry/verify.ts";

let folder: string;
let store: string;
let count = 0;
const address = parseAddress("styles/acme/neon");

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kinora-registry-"));
  store = join(folder, "store");
  await Registry.init(storageAt(store, {}), "anna");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const as = (who: string): Promise<Registry> => openRegistry(store, { KINORA_USER: who });

/** Publishes a file whose content is drawn, or `text`. */
async function publish(registry: Registry, facts: VersionFacts = {}, text = `lora ${++count}`): Promise<string> {
  const source = join(folder, `l${++count}.safetensors`);
  await writeFile(source, text);
  const { version } = await registry.publish(address, [{ source, path: "neon.safetensors", role: "lora" }], facts);
  return version;
}

async function ready(registry: Registry, version: string): Promise<void> {
  for (const phase of [1, 2] as const) await registry.recordTest(address, { version, phase, verdict: "passed" });
  await (await as("boss")).approve(address, version, "looks good");
}

describe("addresses", () => {
  it.each(["styles/acme/neon", "styles/ACME Films/名前", "motion/a/b"])("takes %s", (text) => {
    expect(parseReference(`${text}@v3`)).toMatchObject({ which: "v3" });
    expect(parseReference(text).which).toBe("current");
  });
  it.each([
    ["styles/acme", "registry.bad-address"],
    ["styles/../neon", "registry.bad-name"],
    ["styles/acme/..", "registry.bad-name"],
    ["stiles/acme/neon", "registry.bad-kind"],
    ["styles/acme/con", "registry.bad-name"],
    ["styles/acme/a\\b", "registry.bad-name"],
    ["styles/acme/neon@2", "registry.bad-version"],
    ["styles/acme/neon@v0", "registry.bad-version"],
    ["/styles/acme/neon", "registry.bad-address"],
  ])("refuses %s", (text, code) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code }));
  });
});

describe("versions and aliases", () => {
  it("numbers versions in order, keeps equal files once, and knows what differs", async () => {
    const registry = await as("anna");
    expect(await publish(registry, { hyperparameters: { rank: 16 } }, "same")).toBe("v1");
    expect(await publish(registry, { hyperparameters: { rank: 32 }, results: { loss: 0.1 } }, "same")).toBe("v2");
    const [one, two] = [await registry.version(address, "v1"), await registry.version(address, "v2")];
    expect(one.files[0]!.sha256).toBe(two.files[0]!.sha256);
    expect(one.files[0]!.autoV2).toBe(createHash("sha256").update("same").digest("hex").slice(0, 10).toUpperCase());
    expect(differences(one, two)).toEqual(["setting rank: 16 → 32", "result loss: not set → 0.1"]);
  });

  it("promotes what was accepted and approved by another, and nothing else without force", async () => {
    const registry = await as("anna");
    const version = await publish(registry);
    await expect(registry.promote(address, version, "now")).rejects.toMatchObject({ code: "registry.not-accepted" });
    await expect(registry.promote(address, version, " ", true)).rejects.toMatchObject({ code: "registry.no-reason" });
    for (const phase of [1, 2] as const) await registry.recordTest(address, { version, phase, verdict: "passed" });
    await registry.approve(address, version, "I like my own work");
    await expect(registry.promote(address, version, "now")).rejects.toMatchObject({
      code: "registry.not-accepted",
      message: expect.stringContaining("nobody but its publisher"),
    });
    await (await as("boss")).approve(address, version, "fine");
    await registry.promote(address, version, "release");
    expect((await registry.state(address)).current).toBe(version);
    const second = await publish(registry);
    await registry.promote(address, second, "hurry", true);
    const { events } = await registry.state(address);
    expect(events.at(-1)).toMatchObject({ why: "hurry", what: { type: "promoted", forced: true } });
  });

  it("does not take a pass that a later failure overruled", async () => {
    const registry = await as("anna");
    const version = await publish(registry);
    await ready(registry, version);
    await registry.recordTest(address, { version, phase: 2, verdict: "failed" });
    await expect(registry.promote(address, version, "x")).rejects.toMatchObject({ code: "registry.not-accepted" });
  });

  it("rolls back one by one, by one event each, and says when there is nothing before", async () => {
    const registry = await as("anna");
    for (let i = 0; i < 3; i++) await registry.promote(address, await publish(registry), "step", true);
    expect(await registry.rollback(address, "worse hands")).toEqual({ from: "v3", to: "v2" });
    expect(await registry.rollback(address, "still")).toEqual({ from: "v2", to: "v1" });
    await expect(registry.rollback(address, "more")).rejects.toMatchObject({ code: "registry.nothing-before" });
    expect(await registry.rollback(address, "mended", "v3")).toEqual({ from: "v1", to: "v3" });
    await registry.deprecate(address, "v2", "bad data", "v3");
    await expect(registry.deprecate(address, "v3", "x")).rejects.toMatchObject({ code: "registry.is-current" });
    expect(await registry.rollback(address, "x")).toEqual({ from: "v3", to: "v1" });
    const state = await registry.state(address);
    expect(statusOf(state, state.versions.get("v2")!)).toBe("deprecated");
  });

  it("tells unknown names and versions with what there is", async () => {
    const registry = await as("anna");
    await publish(registry);
    await expect(registry.state(parseAddress("styles/other/neon"))).rejects.toMatchObject({
      code: "registry.unknown-name",
      hint: "did you mean styles/acme/neon?",
    });
    await expect(registry.version(address, "v9")).rejects.toMatchObject({
      code: "registry.unknown-version",
      expected: "v1",
    });
    await expect(registry.note(parseAddress("styles/other/x"), "hello")).rejects.toMatchObject({
      code: "registry.unknown-name",
    });
  });
});

describe("trials", () => {
  it("gives a trial its share of the requests, each always the same way, and keeps them when the share grows", async () => {
    const registry = await as("anna");
    await registry.promote(address, await publish(registry), "first", true);
    const version = await publish(registry);
    await registry.trial(address, version, 0.2);
    const keys = Array.from({ length: 1000 }, (_, i) => `request-${i}`);
    const small = keys.filter((key) => inShare(address, key, 0.2));
    const large = keys.filter((key) => inShare(address, key, 0.5));
    expect(Math.abs(small.length - 200)).toBeLessThan(50);
    expect(small.every((key) => large.includes(key))).toBe(true);
    expect((await registry.resolve({ address, which: "current" }, small[0]!)).version).toBe(version);
    expect((await registry.resolve({ address, which: "current" }, small[0]!)).by).toBe("trial");
    const other = keys.find((key) => !small.includes(key))!;
    expect((await registry.resolve({ address, which: "current" }, other)).version).toBe("v1");
    expect((await registry.resolve({ address, which: "current" })).version).toBe("v1");
    await registry.trial(address, version, 0.5);
    expect((await registry.state(address)).trial).toMatchObject({ version, share: 0.5 });
    await registry.endTrial(address, "done");
    expect((await registry.resolve({ address, which: "current" }, small[0]!)).version).toBe("v1");
    await expect(registry.resolve({ address, which: "trial" })).rejects.toMatchObject({ code: "registry.no-current" });
  });

  it("refuses shares that are none, and a trial of what is current", async () => {
    const registry = await as("anna");
    await registry.promote(address, await publish(registry), "first", true);
    for (const share of [0, 1, -0.1, Number.NaN]) {
      await expect(registry.trial(address, "v1", share)).rejects.toMatchObject({ code: "registry.bad-share" });
    }
    await expect(registry.trial(address, "v1", 0.5)).rejects.toMatchObject({ code: "registry.already-current" });
  });
});

describe("rights", () => {
  it("holds trainers and production to what they may do", async () => {
    const admin = await as("anna");
    await admin.setPolicy({
      kind: "kinora.registry.policy",
      people: { anna: "admin", tom: "trainer", pia: "production" },
      others: "none",
    });
    const [trainer, production, stranger] = [await as("tom"), await as("pia"), await as("eve")];
    const version = await publish(trainer);
    await expect(trainer.promote(address, version, "mine", true)).rejects.toMatchObject({ code: "registry.no-rights" });
    await expect(trainer.approve(address, version, "mine")).rejects.toMatchObject({ code: "registry.no-rights" });
    await expect(production.resolve({ address, which: version })).rejects.toMatchObject({ code: "registry.no-rights" });
    await expect(publish(production)).rejects.toMatchObject({ code: "registry.no-rights" });
    await expect(stranger.note(address, "hi")).rejects.toMatchObject({ code: "registry.no-rights" });
    const again = await as("anna");
    await again.approve(address, version, "ok");
    expect((await production.resolve({ address, which: version })).version).toBe(version);
    await expect(
      trainer.setPolicy({ kind: "kinora.registry.policy", people: {}, others: "admin" }),
    ).rejects.toMatchObject({ code: "registry.no-rights" });
    await expect(
      again.setPolicy({ kind: "kinora.registry.policy", people: { tom: "trainer" }, others: "none" }),
    ).rejects.toMatchObject({ code: "registry.no-admin" });
  });

  it("lets nobody in where the policy is damaged", async () => {
    await writeFile(join(store, "policy.json"), '{"kind":"kinora.registry.policy","people":{"eve":"owner"}}');
    await expect(as("eve")).rejects.toMatchObject({ code: "registry.bad-policy" });
  });
});

describe("damage", () => {
  const problems = async (registry: Registry): Promise<string[]> => (await finished(verifyStore(registry))).problems;
  const events = () => join(store, "names/styles/acme/neon/events");

  it("is nowhere in a whole store", async () => {
    const registry = await as("anna");
    await ready(registry, await publish(registry));
    expect(await problems(registry)).toEqual([]);
  });

  it.each([0, 1, 2])("is found in event %i, however it was changed", async (index) => {
    const registry = await as("anna");
    await publish(registry);
    await registry.note(address, "first");
    await registry.note(address, "second");
    const name = (await readdir(events())).sort()[index]!;
    const path = join(events(), name);
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace("anna", "eva1"));
    expect((await problems(registry)).length).toBeGreaterThan(0);
    await writeFile(path, text);
    expect(await problems(registry)).toEqual([]);
    await rm(path);
    expect((await problems(registry)).length).toBeGreaterThan(0);
  });

  it("is found in objects that were changed, cut off or removed", async () => {
    const registry = await as("anna");
    await publish(registry);
    const { files } = await registry.version(address, "v1");
    const path = join(store, objectKey(files[0]!.sha256));
    await chmod(path, 0o644);
    const whole = await readFile(path);
    await writeFile(path, "other");
    expect((await problems(registry))[0]).toMatch(/damaged \(neon.safetensors of styles\/acme\/neon@v1\)/);
    await expect(fetchObject(registry.storage, files[0]!, join(folder, "out"))).rejects.toMatchObject({
      code: "registry.object-damaged",
    });
    await writeFile(path, whole);
    await truncate(path, 2);
    expect(await problems(registry)).toHaveLength(1);
    await rm(path);
    expect((await problems(registry))[0]).toMatch(/missing/);
    await expect(fetchObject(registry.storage, files[0]!, join(folder, "out"))).rejects.toMatchObject({
      code: "registry.object-missing",
    });
    await expect(stat(join(folder, "out"))).rejects.toThrow();
  });

  it("is told by its file when somebody reads over it", async () => {
    const registry = await as("anna");
    await publish(registry);
    await writeFile(join(events(), "00000002.json"), '{"kind":"kin');
    await expect(registry.state(address)).rejects.toMatchObject({
      code: "registry.damaged-event",
      message: expect.stringContaining("00000002.json"),
    });
    await writeFile(join(events(), "00000002.json"), '{"format":99}');
    await expect(registry.state(address)).rejects.toMatchObject({ code: "registry.newer" });
  });

  it("does not make a store of a folder that is none, or of a newer one", async () => {
    await expect(openRegistry(folder, {})).rejects.toMatchObject({ code: "registry.not-a-store" });
    await writeFile(join(store, "store.json"), '{"kind":"kinora.registry","format":2,"created":"x"}');
    await expect(as("anna")).rejects.toMatchObject({ code: "registry.newer" });
    expect(() => storePlace(undefined, {})).toThrow(expect.objectContaining({ code: "registry.no-store" }));
  });
});

describe("garbage", () => {
  it("goes once it is old; what a version names stays", async () => {
    const registry = await as("anna");
    await publish(registry);
    await registry.storage.create(objectKey("0".repeat(64)), Buffer.from("left over"));
    expect(await collectGarbage(registry)).toMatchObject({ removed: 0, kept: 1 });
    const later = Date.now() + 48 * 60 * 60 * 1000;
    expect(await collectGarbage(registry, { now: later, dryRun: true })).toMatchObject({ removed: 1 });
    expect(await collectGarbage(registry, { now: later })).toEqual({ removed: 1, bytes: 9, kept: 0 });
    expect((await finished(verifyStore(registry))).problems).toEqual([]);
  });
});

describe("what people see", () => {
  it("is a tree of dated names with notes, laid out once", async () => {
    const registry = await as("anna");
    await publish(registry, { hyperparameters: { rank: 16 }, triggerWords: ["n3on"] });
    await publish(registry, { hyperparameters: { rank: 32 } });
    await registry.promote(address, "v2", "better", true);
    await registry.note(address, "watch the <b>hands</b>\n# not a heading", "v2");
    const out = join(folder, "loras");
    const files: string[] = [];
    await finished(
      deployStore(registry, out),
      ({ file, written }) => written && files.push(file.slice(out.length + 1)),
    );
    const day = new Date().toISOString().slice(0, 10).replaceAll("-", "");
    expect(files.sort()).toEqual(
      [
        "CHANGELOG.md",
        `styles/acme/neon_v1_${day}.safetensors`,
        `styles/acme/neon_v2_${day}.safetensors`,
        "styles/acme/training_notes.md",
      ].map((path) => join(...path.split("/"))),
    );
    const notes = await readFile(join(out, "styles/acme/training_notes.md"), "utf8");
    expect(notes).toMatch(
      /## v2 .*: current[\s\S]*rank 32[\s\S]*Changed since v1:\*\* setting rank: 16 → 32[\s\S]*## v1/,
    );
    expect(notes).not.toContain("<b>");
    expect(notes).not.toMatch(/^# not/m);
    const again: boolean[] = [];
    await finished(deployStore(registry, out), ({ written }) => again.push(written));
    expect(again).not.toContain(true);
    expect(await changelog(registry)).toMatch(/v2 promoted to current \(forced\) by anna: better/);
    expect(await trainingNotes(registry, address)).toBe(notes);
    expect(plain("a|b [c](d)")).toBe("a\\|b \\[c\\](d)");
  });
});
