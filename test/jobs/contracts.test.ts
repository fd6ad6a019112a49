// Every job of the table, run small: each event and the result pass through JSON and the job's own schemas unchanged. A job
// that is added without a run here fails, and so does a kind of event that no run tells.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { startJob } from "../../src/jobs/start.ts";
import { type EventOf, type JobName, jobs, type RequestOf, type ResultOf } from "../../src/jobs/table.ts";
import { ChatServer } from "../dataset/caption-server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

/** The kinds of events that each job has told here. */
const told = new Map<JobName, Set<string>>();

/** Runs a job; what it tells is held to its contract. `at`: may stop it. */
async function run<N extends JobName>(
  name: N,
  request: RequestOf<N>,
  at: (event: EventOf<N>, stop: () => void) => void = () => {},
): Promise<ResultOf<N>> {
  const { event: eventSchema, result: resultSchema } = (await jobs[name]()).contract;
  const kinds = told.get(name) ?? new Set();
  told.set(name, kinds);
  const started = startJob(name, request, { cacheFolder: path("cache") });
  for await (const event of started) {
    crosses(eventSchema, event, `an event of ${name}`);
    kinds.add((event as { type: string }).type);
    at(event, () => started.cancel());
  }
  const result = await started;
  crosses(resultSchema, result, `the result of ${name}`);
  return result;
}

/** Through JSON nothing is lost, and the schema knows every key. */
function crosses(schema: z.ZodType, value: unknown, what: string): void {
  const crossed: unknown = JSON.parse(JSON.stringify(value));
  expect(crossed, what).toEqual(value);
  expect(schema.parse(crossed), what).toEqual(crossed);
}

/** In Windows-1251, which is guessed, and told: "Опишите, что происходит в этом видео, одним простым предложением." */
const russian = Buffer.from(
  "ceefe8f8e8f2e52c20f7f2ee20eff0eee8f1f5eee4e8f220e220fdf2eeec20e2e8e4e5ee2c20eee4ede8ec20eff0eef1f2fbec20eff0e5e4ebeee6e5ede8e5ec2e",
  "hex",
);

const film: RequestOf<"generate"> = {
  model: "tiny-t2v",
  prompt: "a red circle moves to the right on a blue background",
  steps: 3,
  size: { width: 32, height: 32 },
  frames: 9,
  seed: 7,
};

const config: RequestOf<"train"> = {
  base: path(""),
  config: {
    name: "style",
    output: "run",
    cache: "latents",
    steps: 4,
    model: { name: "tiny-t2v" },
    dataset: { path: "clips", batch_size: 1, resolution: [32, 32] },
    lora: { rank: 2 },
    experts: { switch_every: 2 },
    validation: { hold_out: 1, every_steps: 4, sigmas: 1 },
    preview: { prompts: "prompts.txt", every_steps: 4 },
    save: { every_steps: 2, state_every_steps: 2 },
  },
};

describe.sequential("events and results of", () => {
  it("generate and read-recipe", async () => {
    await run("generate", { ...film, n: 2, duration: 0.5, frames: undefined, preview: true, out: path("film.mp4") });
    const stopped = run(
      "generate",
      { ...film, steps: 50, keepLatents: true, out: path("stopped.mp4") },
      (event, stop) => {
        if (event.type === "step") stop();
      },
    );
    await expect(stopped).rejects.toMatchObject({ code: "job.stopped" });
    expect(await run("read-recipe", { path: path("film-7.mp4") })).toMatchObject({ seed: "7", steps: 3 });
  });

  it("prepare-dataset", async () => {
    mkdirSync(path("films"));
    for (const name of ["film-7.mp4", "film-8.mp4"]) copyFileSync(path(name), join(path("films"), name));
    writeFileSync(join(path("films"), "broken.mp4"), "no film");
    const { videos, problems } = await run("prepare-dataset", {
      sources: [path("films")],
      out: path("set"),
      model: "tiny-t2v",
      settings: { clips: { shortest: 0.2 }, resolution: [32, 32], duplicates: { detect: false } },
      keepAll: true,
    });
    expect([videos, problems.length]).toEqual([2, 1]);
  });

  it("plan-captions, caption-dataset and accept-captions", async () => {
    mkdirSync(path("clips"));
    for (const name of ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
      copyFileSync(path(name < "c" ? "film-7.mp4" : "film-8.mp4"), join(path("clips"), name));
    writeFileSync(join(path("clips"), "d.txt"), "a caption that is there");
    writeFileSync(path("template.txt"), russian);
    const templateFile = path("template.txt");
    expect(await run("plan-captions", { folder: path("clips"), templateFile })).toMatchObject({ requests: 3 });
    await using server = await ChatServer.start(({ body }, number) => {
      if (number === 1) return { status: 503, headers: { "retry-after": "0" }, body: "{}" };
      if (number === 2) return { status: 400, body: "{}" };
      // Somebody captions the clip while the model looks at it.
      if (body.seed === 1) writeFileSync(join(path("clips"), number === 3 ? "b.txt" : "none.txt"), "in the meantime");
      return `a caption, number ${number}`;
    });
    const asked = { folder: path("clips"), endpoint: `${server.origin}/v1`, model: "eyes", concurrency: 1 };
    const { captioned, failed, kept } = await run("caption-dataset", { ...asked, seed: 1, templateFile });
    expect([captioned, failed, kept].map(({ length }) => length)).toEqual([1, 1, 2]);
    await run("caption-dataset", { ...asked, rewrite: true, draft: true, trigger: "sks," });
    writeFileSync(join(path("clips"), "b.draft.txt"), russian);
    const accepted = await run("accept-captions", { folder: path("clips") });
    expect([accepted.accepted.length, accepted.kept.length]).toEqual([1, 3]);
    await run("accept-captions", { folder: path("clips"), overwrite: true });
  });

  it("inspect-dataset and dataset-sizes", async () => {
    expect((await run("inspect-dataset", { config: path("set"), html: path("set.html") })).totals.items).toBe(2);
    expect((await run("inspect-dataset", { config: path("clips") })).totals.items).toBeGreaterThanOrEqual(3);
    const sizes: RequestOf<"dataset-sizes"> = { source: { width: 64, height: 64 }, model: "tiny-t2v", frames: [5] };
    expect((await run("dataset-sizes", { ...sizes, minSide: 48, rank: 2 })).sizes.length).toBeGreaterThan(0);
  });

  it("init-run, explain-run, plan-run and train", async () => {
    writeFileSync(path("prompts.txt"), Buffer.concat([russian, Buffer.from(" --w 32 --h 32 --f 5 --s 2 --d 3\n")]));
    expect(await run("init-run", { file: path("first.toml") })).toMatchObject({ kind: "prepared" });
    await run("explain-run", config);
    await run("plan-run", { ...config, tflops: 1 });
    const stopped = run("train", config, (event, stop) => {
      if (event.type === "step" && event.line.step === 2) stop();
    });
    await expect(stopped).rejects.toMatchObject({ code: "job.stopped" });
    expect(await run("train", config)).toMatchObject({ end: "finished", step: 4 });
  });

  it("inspect-lora, convert-lora, inspect-model, convert-model and plan-forward", async () => {
    const { files } = await run("train", config);
    const lora = join(path("run"), files.find((name) => name.endsWith(".safetensors"))!);
    await run("inspect-lora", { path: lora });
    const { out } = await run("convert-lora", { path: lora, to: "diffusers", out: path("other.safetensors") });
    await run("inspect-model", { path: out, names: true });
    writeFileSync(join(path("set"), "broken.safetensors"), "nothing");
    await run("inspect-model", { path: path("run") });
    const vae = fileURLToPath(new URL("../../models/tiny-t2v/vae.safetensors", import.meta.url));
    await run("convert-model", { path: vae, out: path("vae.safetensors"), to: "bf16" });
    await run("plan-forward", { model: "t2v-A14B" });
  });

  it("those of the registry", async () => {
    const [store, address] = [path("store"), "styles/acme/neon"];
    expect(await run("registry-init", { store })).toMatchObject({ made: true });
    const publish = { store, address, files: [path("run")] };
    expect(await run("registry-publish", { ...publish, checkpoint: "best" })).toMatchObject({ version: "v1" });
    await run("registry-publish", { ...publish, checkpoint: 2, triggerWords: ["neon style"], tags: ["test"] });
    const change = { action: "promote", version: "v1", why: "first", force: true } as const;
    expect(await run("registry-change", { store, address, change })).toMatchObject({ current: "v1" });
    await run("registry-change", { store, address, change: { action: "trial", version: "v2", share: 0.5 } });
    await run("registry-change", { store, address, change: { action: "feedback", version: "v2", verdict: "good" } });
    await run("registry-change", { store, address, change: { action: "approve", version: "v2", why: "fine" } });
    expect((await run("registry-list", { store })).names).toMatchObject([
      { address, versions: 2, trial: { share: 0.5 } },
    ]);
    expect((await run("registry-show", { store, address })).versions).toHaveLength(2);
    expect(await run("registry-resolve", { store, reference: address })).toMatchObject({
      version: "v1",
      by: "current",
    });
    writeFileSync(path("accept.txt"), Buffer.concat([russian, Buffer.from(" --d 3\n")]));
    const test = { store, reference: `${address}@v2`, phase: 1 as const, prompts: path("accept.txt"), strengths: [1] };
    const small = { out: path("accept"), steps: 1, size: { width: 32, height: 32 }, frames: 5 };
    expect((await run("accept", { ...test, ...small })).cells).toHaveLength(20);
    await run("generate", { ...film, loras: [`registry:${address}@v2`], store, out: path("registry.mp4") });
    const heard = await run("registry-feedback", {
      store,
      film: path("registry.mp4"),
      verdict: "bad",
      note: "too dark",
    });
    expect(heard.versions).toEqual([{ address, version: "v2" }]);
    const { versions: fared } = await run("registry-review", { store });
    expect(fared.find(({ version }) => version === "v2")).toMatchObject({
      generations: 1,
      feedback: { good: 1, bad: 1 },
    });
    const { differences } = await run("registry-diff", { store, address, before: "v1", after: "v2" });
    expect(differences).toContain("trigger words: not set → neon style");
    expect((await run("registry-notes", { store, address })).markdown).toContain("## v2");
    expect((await run("registry-verify", { store })).problems).toEqual([]);
    expect((await run("registry-export", { store, out: path("laid-out") })).written).toBeGreaterThanOrEqual(6);
    expect(await run("registry-gc", { store, dryRun: true })).toMatchObject({ removed: 0 });
    expect(await run("registry-people", { store })).toMatchObject({ policy: false, others: "admin" });
  });

  it("doctor", async () => {
    await run("doctor", {});
  });
});

/** Kinds of events that nothing small brings about: told of autoencoders of full size, and of files that take a while. */
const untold: Partial<Record<JobName, readonly string[]>> = {
  generate: ["preview"],
  "inspect-model": ["scanning"],
  train: ["hashing"],
};

function kindsOf(schema: z.ZodType): string[] {
  if (schema instanceof z.ZodNever) return [];
  if (schema instanceof z.ZodUnion || schema instanceof z.ZodDiscriminatedUnion)
    return schema.options.flatMap((option) => kindsOf(option as z.ZodType));
  return [...(schema as z.ZodObject<{ type: z.ZodLiteral<string> }>).shape.type.values];
}

describe("nothing is left out:", () => {
  it("every job was run, and told every kind of event that it has", async () => {
    expect([...told.keys()].sort()).toEqual(Object.keys(jobs).sort());
    const missing: string[] = [];
    for (const [name, kinds] of told) {
      const heard = [...kinds, ...(untold[name] ?? [])];
      const unheard = kindsOf((await jobs[name]()).contract.event).filter((kind) => !heard.includes(kind));
      missing.push(...unheard.map((kind) => `${name}: ${kind}`));
    }
    expect(missing).toEqual([]);
  });
});
