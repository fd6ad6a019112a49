// The registry's commands, from a training run to production and back, over a store on disk.
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { startJob } from "../../src/jobs/start.ts";
import { type Printed, runCli } from "../support/run-cli.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();
const store = path("store");
const neon = "styles/acme/neon";

/** A command line as a person runs it. */
async function kinora(who: string, ...argv: string[]): Promise<Printed> {
  const before = { ...process.env };
  process.env.KINORA_STORE = store;
  process.env.KINORA_USER = who;
  try {
    return await runCli(argv);
  } finally {
    for (const name of ["KINORA_STORE", "KINORA_USER"]) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
}

const registry = (who: string, ...argv: string[]) => kinora(who, "registry", ...argv);

/** What a command answers to a machine. */
async function json<T = Record<string, unknown>>(...argv: string[]): Promise<T> {
  const { code, data, notes } = await registry("anna", ...argv, "--json");
  expect(code, notes).toBe(0);
  return JSON.parse(data) as T;
}

async function refused(...argv: string[]): Promise<{ code: string; hint: string }> {
  const { code, data } = await registry("anna", ...argv, "--json");
  expect(code).not.toBe(0);
  return (JSON.parse(data) as { error: { code: string; hint: string } }).error;
}

const run = path("run");
const lora = (expert: string) => join(run, `neon_${expert}_noise.safetensors`);

beforeAll(async () => {
  const film = { model: "tiny-t2v", prompt: "a red circle", steps: 1, size: { width: 32, height: 32 }, frames: 9 };
  mkdirSync(path("clips"));
  for (const name of ["a", "b", "c"]) {
    await startJob("generate", { ...film, seed: name.charCodeAt(0), out: path(`clips/${name}.mp4`) });
    writeFileSync(path(`clips/${name}.txt`), `neon style, a shape ${name}`);
  }
  await startJob("train", {
    base: path(""),
    config: {
      name: "neon",
      output: "run",
      cache: "latents",
      steps: 4,
      model: { name: "tiny-t2v" },
      dataset: { path: "clips", batch_size: 1, resolution: [32, 32], trigger: "neon style" },
      lora: { rank: 2 },
      experts: { switch_every: 1 },
      validation: { hold_out: 1, every_steps: 2, sigmas: 1 },
      save: { every_steps: 2 },
    },
  });
}, 120_000);

describe.sequential("from a run to production and back:", () => {
  it("publishes a run with what it knows of its data and settings", async () => {
    expect((await registry("anna", "init")).data).toContain("created");
    const where = ["--kind", "style", "--project", "acme", "--name", "neon"];
    const first = await json<{ version: string; manifest: Record<string, unknown> }>(
      "publish",
      run,
      ...where,
      "--checkpoint",
      "best",
    );
    expect(first).toMatchObject({
      version: "v1",
      manifest: {
        model: "tiny-t2v",
        triggerWords: ["neon style"],
        dataset: { videos: 3, images: 0 },
        hyperparameters: { "lora.rank": 2, optimizer: "adamw", "optimizer.weight_decay": 0.01 },
        results: { "held-out loss": expect.any(Number) },
      },
    });
    expect(JSON.stringify(first.manifest.hyperparameters)).not.toMatch(/content|"[0-9a-f]{16,}"/);
    expect(Object.keys(first.manifest.base as object)).toHaveLength(2);
    const second = await registry(
      "anna",
      "publish",
      run,
      "--as",
      neon,
      "--checkpoint",
      "2",
      "--trigger",
      "a*b",
      "--strength",
      "0.8",
    );
    expect(second.data).toMatch(/^published styles\/acme\/neon@v2\n.*high.*AutoV2 [0-9A-F]{10}\n.*low/);
  });

  it("refuses what is not a version of this LoRA, and keeps nothing of it", async () => {
    writeFileSync(path("broken.safetensors"), readFileSync(lora("high")).subarray(0, 5000));
    expect((await refused("publish", path("broken.safetensors"), "--as", neon)).hint).toBeTruthy();
    copyFileSync(lora("high"), path("copy_high.safetensors"));
    expect(await refused("publish", lora("high"), path("copy_high.safetensors"), "--as", neon)).toMatchObject({
      code: "registry.two-loras",
    });
    expect(await refused("publish", run, "--as", neon, "--checkpoint", "3")).toMatchObject({
      code: "registry.no-checkpoint",
    });
    expect(await refused("publish", run, "--as", "styles/../neon")).toMatchObject({ code: "registry.bad-name" });
    expect(await refused("publish", run, "--kind", "style")).toMatchObject({ code: "cli.bad-arguments" });
    expect((await json<{ versions: unknown[] }>("show", neon)).versions).toHaveLength(2);
  });

  it("takes a pair of files, and refuses those of another model under the same name", async () => {
    expect(await json("publish", lora("high"), lora("low"), "--as", "styles/acme/pair")).toMatchObject({
      version: "v1",
      manifest: { files: [{ expert: "high" }, { expert: "low" }] },
    });
    await startJob("train", {
      base: path(""),
      config: {
        name: "other",
        output: "ti2v",
        cache: "latents",
        steps: 1,
        model: { name: "tiny-ti2v" },
        dataset: { path: "clips", batch_size: 1, resolution: [32, 32] },
        lora: { rank: 2 },
      },
    });
    expect(await refused("publish", path("ti2v"), "--as", neon)).toMatchObject({ code: "registry.other-model" });
  });

  it("promotes with approval or a reason, tries, resolves, rolls back, and says what differs", async () => {
    expect(await refused("promote", `${neon}@v1`, "--why", "now")).toMatchObject({ code: "registry.not-accepted" });
    await json("approve", `${neon}@v1`);
    expect(await json("promote", `${neon}@v1`, "--why", "release", "--force")).toMatchObject({ current: "v1" });
    await json("promote", `${neon}@v2`, "--why", "better", "--force");
    expect(await json("rollback", neon, "--why", "hands")).toMatchObject({ current: "v1" });
    await json("trial", `${neon}@v2`, "--share", "20%");
    let tried = 0;
    for (let i = 0; i < 200; i++) {
      const { version } = await json<{ version: string }>("resolve", neon, "--request", `request ${i}`);
      if (version === "v2") tried++;
    }
    // Hashes of fixed keys: always the same number, near a fifth.
    expect(tried).toBeGreaterThan(25);
    expect(tried).toBeLessThan(55);
    await json("trial", neon, "--end");
    expect(await refused("trial", `${neon}@v2`, "--share", "120%")).toMatchObject({ code: "registry.bad-share" });
    const { data } = await registry("anna", "diff", neon, "v1", "v2");
    expect(data).toContain("strength: 1 → 0.8");
    expect(data).toContain("trigger words: neon style → a*b");
    expect((await json<{ markdown: string }>("notes", `${neon}@v2`, "--add", "flickers at night")).markdown).toContain(
      "flickers at night",
    );
    expect((await registry("anna", "notes")).data).toContain("rolled back from v2 to v1 by anna: hands");
    expect((await registry("anna", "list")).data).toMatch(/acme\/neon +current v1, latest v2 of 2, tiny-t2v/);
  });

  it("lays the store out, collects nothing that is used, and finds what was tampered with", async () => {
    const out = path("models");
    await json("export", out);
    expect(
      readdirSync(join(out, "styles/acme")).filter((name) => /^neon_high_noise_v1_\d{8}\.safetensors$/.test(name)),
    ).toHaveLength(1);
    expect(existsSync(join(out, "CHANGELOG.md"))).toBe(true);
    expect(await json("gc")).toMatchObject({ removed: 0 });
    expect((await registry("anna", "verify")).code).toBe(0);
    const event = join(store, "names", neon, "events/00000003.json");
    chmodSync(event, 0o644);
    appendFileSync(event, " ");
    const damaged = await registry("anna", "verify");
    expect([damaged.code, damaged.data]).toEqual([1, expect.stringContaining("DAMAGED")]);
  });

  it("lets people do what their role allows", async () => {
    const people = ["--set", "anna=admin", "--set", "bo=production", "--others", "trainer"];
    expect(await json("people", ...people)).toMatchObject({ people: { anna: "admin", bo: "production" } });
    expect((await registry("bo", "whoami")).data).toContain("bo (production)");
    const { code, notes } = await registry("bo", "promote", "styles/acme/pair@v1", "--why", "mine", "--force");
    expect([code, notes]).toEqual([1, expect.stringContaining("bo may not promote")]);
    expect(await refused("people", "--set", "anna=trainer")).toMatchObject({ code: "registry.no-admin" });
  });
});
