// What lies at a film's place already: a finished run says so and rewrites nothing, another film is replaced with a word,
// and what Kinora did not make is never overwritten.
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { VideoWriter } from "../../src/io/video/write.ts";
import { resumeSource } from "../../src/sample/existing.ts";
import { latentsPath, loadLatents } from "../../src/sample/latents-file.ts";
import { readRecipe } from "../../src/sample/recipe.ts";
import { tinyStudio } from "./generate-support.ts";

const { path, film, run, device } = await tinyStudio();

const made = { steps: 1, keepLatents: false };
const stageNames = (events: { type: string }[]) =>
  events.flatMap((event) => ("stage" in event && event.type === "stage" ? [event.stage] : []));

describe("a finished run", () => {
  it("made again says so, computes nothing and leaves every byte", async () => {
    const first = await run(made);
    const [bytes, { mtimeMs }] = [readFileSync(first.out), statSync(first.out)];
    for (const resume of [false, true]) {
      const again = await run({ ...made, out: first.out }, { resume });
      expect(again.of("note").map(({ text }) => text)).toEqual([
        expect.stringMatching(/is already finished with this recipe and was left unchanged/),
      ]);
      expect(again.last).toMatchObject({ type: "finished", path: first.out, frames: 5, bytes: bytes.length });
      expect(again.of("finished")[0]!.recipe).toEqual(first.of("finished")[0]!.recipe);
      expect(stageNames(again.events)).toEqual(["check", "hash"]);
      expect(readFileSync(first.out).equals(bytes)).toBe(true);
      expect(statSync(first.out).mtimeMs).toBe(mtimeMs);
    }
  });

  it("is made again where its latents are wanted and gone, and named where they are there", async () => {
    const first = await run(made);
    const kept = await run({ ...made, out: first.out, keepLatents: true });
    expect(kept.of("step")).toHaveLength(1);
    expect(existsSync(latentsPath(first.out))).toBe(true);
    const again = await run({ ...made, out: first.out, keepLatents: true });
    expect(again.of("step")).toEqual([]);
    expect(again.of("finished")[0]!.latents).toBe(latentsPath(first.out));
  });

  it("whose film is gone is decoded again from its latents", async () => {
    const first = await run({ ...made, keepLatents: true });
    rmSync(first.out);
    const again = await run({ ...made, out: first.out }, { resume: true });
    expect(stageNames(again.events)).toEqual(["check", "hash", "decode"]);
    expect(existsSync(first.out)).toBe(true);
  });

  it("can be had at another rate from its latents", async () => {
    const first = await run({ ...made, keepLatents: true });
    const again = await run({ ...made, out: first.out, fps: 8 }, { resume: true });
    expect(stageNames(again.events)).toEqual(["check", "hash", "decode"]);
    expect((await readRecipe(first.out)).fps).toBe(8);
  });

  it("is what a resumed run is told from", async () => {
    const { out } = await run(made);
    expect(resumeSource(out)).toBe(out);
    expect(() => resumeSource(film())).toThrow(expect.objectContaining({ code: "generate.nothing-to-resume" }));
  });
});

describe("another film", () => {
  it("is replaced with a word, once the new one is whole", async () => {
    const { out } = await run(made);
    const before = readFileSync(out);
    const controller = new AbortController();
    const cut = await run({ ...made, steps: 2, seed: 6n, out }, { signal: controller.signal }, ({ type }) => {
      if (type === "step") controller.abort();
    });
    expect(cut.of("note").map(({ text }) => text)).toEqual([
      expect.stringMatching(/is another video \(different: seed, steps\) and will be replaced/),
    ]);
    expect(readFileSync(out).equals(before)).toBe(true);
    const rest = await run({ ...made, steps: 2, seed: 6n, out }, { resume: true });
    expect(rest.last.type).toBe("finished");
    expect((await readRecipe(out)).seed).toBe("6");
  });

  it("that Kinora did not make stays, whatever it is", async () => {
    const [holiday, text] = [film(), film()];
    {
      await using writer = await VideoWriter.create(holiday, { width: 16, height: 16, fps: 16, metadata: {} });
      await writer.write(new Uint8Array(16 * 16 * 3));
      await writer.finish();
    }
    writeFileSync(text, "my notes");
    for (const out of [holiday, text]) {
      const before = readFileSync(out);
      const error = { code: "generate.foreign-film", hint: expect.stringMatching(/another `out`/) };
      await expect(run({ ...made, out })).rejects.toMatchObject(error);
      expect(readFileSync(out).equals(before)).toBe(true);
    }
  });

  it("of no bytes is no film", async () => {
    const out = film();
    writeFileSync(out, "");
    expect((await run({ ...made, out })).of("note")).toEqual([]);
  });
});

describe("saved latents", () => {
  it("that were damaged are found before a run goes on with them", async () => {
    const out = film();
    const controller = new AbortController();
    await run({ out }, { signal: controller.signal }, ({ type }) => {
      if (type === "step") controller.abort();
    });
    const file = latentsPath(out);
    const bytes = readFileSync(file);
    bytes[bytes.length - 9]! ^= 0x10;
    writeFileSync(file, bytes);
    const damaged = { code: "latents.damaged", hint: expect.stringMatching(/delete or move the file/) };
    await expect(run({ out }, { resume: true })).rejects.toMatchObject(damaged);
    await expect(run({ out })).rejects.toMatchObject(damaged);
    expect(readFileSync(file).equals(bytes)).toBe(true);
  });

  it("of a version that wrote no checksum go on, with a word", async () => {
    const unbroken = await run({});
    const out = film();
    const controller = new AbortController();
    await run({ out }, { signal: controller.signal }, ({ type }) => {
      if (type === "step") controller.abort();
    });
    const file = latentsPath(out);
    const older = readFileSync(file)
      .toString("latin1")
      .replace(/,\\"checksum\\":true|,"kinora\.checksum":"[0-9a-f]{64}"/g, (found) => " ".repeat(found.length));
    writeFileSync(file, Buffer.from(older, "latin1"));
    expect(loadLatents(file).verified).toBe(false);
    const rest = await run({ out }, { resume: true });
    expect(rest.of("note").map(({ text }) => text)).toEqual([expect.stringMatching(/have no checksum/)]);
    expect(rest.latents()).toEqual(unbroken.latents());
  });
});

describe("a hostile recipe", () => {
  it("names no place that is written to: what it calls files are only names", async () => {
    const { out } = await run({ ...made, keepLatents: true });
    const saved = loadLatents(latentsPath(out));
    const weights = { ...saved.recipe.weights, vae: { name: "../../outside/vae", sha256: "0".repeat(64) } };
    const recipe = { ...saved.recipe, weights, prompt: "../../etc/passwd" };
    const { repeatOptions } = await import("../../src/sample/recipe.ts");
    const { HashCache } = await import("../../src/io/content-hash.ts");
    await expect(repeatOptions(recipe, { out: film() }, new HashCache(path("cache")))).rejects.toMatchObject({
      code: "recipe.missing-files",
      message: expect.stringContaining("../../outside/vae (`files.vae`"),
    });
    expect(device.memory().live).toBe(0);
  });
});
