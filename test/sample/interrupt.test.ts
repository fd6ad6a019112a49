// Generations stopped anywhere: nothing lost, nothing left behind, and resumed bit for bit.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadDit } from "../../src/models/wan/load.ts";
import { wanModels } from "../../src/models/wan/params.ts";
import { FilmRun } from "../../src/sample/film-run.ts";
import { filmSettings } from "../../src/sample/film-settings.ts";
import { latentsPath, loadLatents } from "../../src/sample/latents-file.ts";
import { generate } from "../../src/sample/pipeline.ts";
import { samplerNames } from "../../src/sample/schedulers/index.ts";
import { resolved, tinyOptions, tinyStudio } from "./generate-support.ts";

const { path, t2v, hashes, film, run, publishedVae, device } = await tinyStudio();

describe("interrupting", () => {
  it.each(samplerNames)("resumes %s after any step bit for bit", async (sampler) => {
    const steps = 3;
    const unbroken = (await run({ sampler, steps })).latents();
    for (let stop = 1; stop < steps; stop++) {
      const out = film();
      const controller = new AbortController();
      const cut = await run({ sampler, steps, out }, { signal: controller.signal }, (event) => {
        if (event.type === "step" && event.step === stop) controller.abort();
      });
      expect(cut.last).toMatchObject({ type: "interrupted", step: stop });
      const rest = await run({ sampler, steps, out }, { resume: true });
      expect(rest.of("step").map(({ step }) => step)).toEqual(
        Array.from({ length: steps - stop }, (_, i) => stop + 1 + i),
      );
      expect(rest.last.type).toBe("finished");
      expect(rest.latents()).toEqual(unbroken);
    }
  });

  it("stopped while decoding, keeps the latents and decodes them later", async () => {
    const out = film();
    const controller = new AbortController();
    const cut = await run({ out, keepLatents: false, frames: 9 }, { signal: controller.signal }, (event) => {
      if (event.type === "progress" && event.stage === "decode") controller.abort();
    });
    expect(cut.last).toMatchObject({ type: "interrupted", step: 3, steps: 3 });
    expect(() => readFileSync(out)).toThrow("ENOENT");
    const rest = await run({ out, keepLatents: false, frames: 9 }, { resume: true });
    expect(rest.of("step")).toEqual([]);
    expect(rest.last).toMatchObject({ type: "finished", frames: 9 });
  });

  it("before the first step leaves nothing behind", async () => {
    const out = film();
    const result = await run({ out }, { signal: AbortSignal.abort() });
    expect(result.last).toEqual({ type: "interrupted", step: 0, steps: 3 });
    await expect(run({ out }, { resume: true })).rejects.toMatchObject({ code: "generate.nothing-to-resume" });
  });

  it("and stopped again before it goes on, tells what lies there from before", async () => {
    const out = film();
    const controller = new AbortController();
    await run({ out }, { signal: controller.signal }, (event) => {
      if (event.type === "step" && event.step === 2) controller.abort();
    });
    const again = await run({ out }, { resume: true, signal: AbortSignal.abort() });
    expect(again.last).toEqual({ type: "interrupted", step: 2, steps: 3, latents: latentsPath(out) });
  });

  it("goes on with what was wished for beside the film", async () => {
    const vae = publishedVae();
    const options = { files: { folder: t2v, vae }, size: { width: 32, height: 16 }, frames: 1, out: film() };
    const controller = new AbortController();
    await run({ ...options, keepLatents: true }, { preview: true, signal: controller.signal }, (event) => {
      if (event.type === "step") controller.abort();
    });
    const rest = await run({ ...options, keepLatents: false }, { resume: true });
    expect(rest.of("preview").map(({ step }) => step)).toEqual([2, 3]);
    expect(rest.of("finished")[0]!.latents).toBe(latentsPath(options.out));
    expect(rest.latents()).toHaveLength(16 * 2 * 4);
  });

  it("while the second expert loads stops before its first step, all before it saved", async () => {
    const controller = new AbortController();
    const out = film();
    let high = 0;
    const cut = await run({ out, steps: 4 }, { signal: controller.signal }, (event) => {
      if (event.type === "stage" && event.detail.includes("low-noise")) {
        controller.abort();
        // As it lies there while the expert loads: a kill would lose nothing.
        expect(loadLatents(latentsPath(out)).scheduler.step).toBe(high);
      }
      if (event.type === "step") high++;
    });
    expect(high).toBeGreaterThan(0);
    expect(cut.last).toEqual({ type: "interrupted", step: high, steps: 4, latents: latentsPath(out) });
  });

  it("hears of it between the two passes of a step", async () => {
    const { dit: config } = wanModels["tiny-t2v"];
    const before = device.memory().live;
    {
      using dit = loadDit(device, join(t2v, "low_noise_model.safetensors"), { dtype: "f32" });
      const values = new Float32Array(2 * config.textDim);
      const text = { values, shape: [2, config.textDim] };
      const settings = filmSettings({
        ...{ sampler: "euler", steps: 1, shift: 5, noise: "kinora", seed: 1n },
        guidance: { low: 3, high: 3 },
      });
      let turns = 0;
      using one = new FilmRun(device, settings, { shape: [16, 1, 2, 2], text: { positive: text, negative: text } });
      setImmediate(() => turns++);
      await one.step(dit);
      expect(turns).toBe(1);
    }
    expect(device.memory().live).toBe(before);
  });

  it("sweeps away what a film's killed writer left long ago, and nothing that may be written to", async () => {
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    const folder = path("swept");
    mkdirSync(folder);
    const left = `.partial-${pid}-0123abcd.mp4`;
    const [old, mine] = [join(folder, left), join(folder, `.partial-${process.pid}-0123abcd.mp4`)];
    for (const file of [old, mine]) {
      writeFileSync(file, "half a film");
      utimesSync(file, 1, 1);
    }
    await run({ out: join(folder, "film.mp4"), steps: 1 });
    expect(readdirSync(folder).filter((name) => name.startsWith(".partial"))).toEqual([basename(mine)]);
  });

  it("never loses an unfinished run to a new one, nor goes on with other settings", async () => {
    const out = film();
    const controller = new AbortController();
    await run({ out }, { signal: controller.signal }, (event) => {
      if (event.type === "step") controller.abort();
    });
    await expect(run({ out })).rejects.toMatchObject({ code: "generate.unfinished" });
    await expect(run({ out, prompt: "another" }, { resume: true })).rejects.toMatchObject({
      code: "generate.resume-mismatch",
      message: expect.stringContaining("different: prompt"),
    });
    expect((await run({ out }, { resume: true })).last.type).toBe("finished");
    // A finished run may be made again.
    expect((await run({ out })).last.type).toBe("finished");
  });

  it("frees each network before the next one comes", async () => {
    const weights: { at: string; live: number }[] = [];
    await run({ steps: 4 }, {}, (event) => {
      const { live } = device.memory().byCategory.weights;
      if (event.type === "stage") weights.push({ at: `${event.stage} ${event.detail}`, live });
      if (event.type === "step") weights.push({ at: event.expert, live });
    });
    const at = (name: string) => weights.filter((entry) => entry.at.startsWith(name)).map(({ live }) => live);
    // The text encoder is gone before the first expert, the last expert before the autoencoder.
    expect(at("load loading the high-noise")).toEqual([0]);
    expect(at("decode")).toEqual([0]);
    const one = at("high")[0]!;
    expect(one).toBeGreaterThan(10e6);
    for (const live of [...at("high"), ...at("low")]) expect(live).toBe(one);
  });

  it("two at once for one film are refused, until the first is done or given up", async () => {
    const out = film();
    for await (const _event of generate(resolved(tinyOptions(t2v, out)), device, { hashes })) {
      await expect(run({ out })).rejects.toMatchObject({
        code: "generate.locked",
        message: expect.stringContaining(out),
        hint: expect.stringContaining("another `out`"),
      });
      break;
    }
    expect((await run({ out, steps: 1 })).last.type).toBe("finished");
  });

  it("a consumer that walks away leaves the device as it was", async () => {
    const before = device.memory().live;
    for await (const event of generate(resolved(tinyOptions(t2v, film())), device, { hashes })) {
      if (event.type === "step") break;
    }
    expect(device.memory().live).toBe(before);
  });
});
