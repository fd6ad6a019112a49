// The parts of a generation alone: recipes, saved latents, hashes, noise, pictures and previews.
import { existsSync, mkdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { finished } from "../../src/base/generators.ts";
import { torchCpuNormal } from "../../src/base/rng/torch-cpu.ts";
import { gpuThreads, torchCudaNormal } from "../../src/base/rng/torch-cuda.ts";
import { HashCache, type HashProgress } from "../../src/io/content-hash.ts";
import { VideoWriter } from "../../src/io/video/write.ts";
import type { LatentShape } from "../../src/models/wan/conditioning.ts";
import { vaeConfigFrom, vaeConfigs } from "../../src/models/wan/vae/config.ts";
import { RECIPE_KEY, recipeSchema } from "../../src/protocol/recipe.ts";
import { isFinished, latentsPath, loadLatents, type SavedLatents, saveLatents } from "../../src/sample/latents-file.ts";
import { parseNoise } from "../../src/sample/noise/index.ts";
import { stepNoise } from "../../src/sample/noise/kinora.ts";
import { hasPreview, previewFrames } from "../../src/sample/preview.ts";
import { readRecipe, recipeDifferences } from "../../src/sample/recipe.ts";
import { createScheduler, samplerNames } from "../../src/sample/schedulers/index.ts";
import { takeStep } from "../../src/sample/schedulers/scheduler.ts";
import { toPictures } from "../../src/sample/video-output.ts";
import { hashOf, recipe } from "../support/recipe.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const path = temporaryFolder();

async function filmWith(name: string, metadata: Record<string, string>): Promise<string> {
  await using writer = await VideoWriter.create(path(name), { width: 16, height: 16, fps: 16, metadata });
  await writer.write(new Uint8Array(16 * 16 * 3));
  await writer.finish();
  return path(name);
}

describe("recipes", () => {
  it("come back from a film as they went in, whatever the prompt", async () => {
    for (const prompt of ["plain", "“curly” ✨ 日本\n\ttabs; = # \\ \\n", "x".repeat(10_000), '{"json": "inside"}']) {
      const film = await filmWith("carries.mp4", { [RECIPE_KEY]: JSON.stringify({ ...recipe, prompt }) });
      expect(await readRecipe(film)).toEqual({ ...recipe, prompt });
    }
  });

  it("are refused where they are absent, broken, unknown or newer", async () => {
    const code = async (metadata: Record<string, string>) =>
      readRecipe(await filmWith("bad.mp4", metadata)).then(
        () => "none",
        (error: { code: string }) => error.code,
      );
    expect(await code({})).toBe("recipe.absent");
    expect(await code({ [RECIPE_KEY]: "{" })).toBe("recipe.malformed");
    expect(await code({ [RECIPE_KEY]: "null" })).toBe("recipe.malformed");
    expect(await code({ [RECIPE_KEY]: JSON.stringify({ ...recipe, version: 2 }) })).toBe("recipe.newer");
    expect(await code({ [RECIPE_KEY]: JSON.stringify({ ...recipe, more: 1 }) })).toBe("recipe.malformed");
    expect(await code({ [RECIPE_KEY]: JSON.stringify({ ...recipe, seed: "five" }) })).toBe("recipe.malformed");
    // Numbers that JSON lets through: infinities, and what no film has.
    const json = JSON.stringify(recipe);
    for (const [from, to] of [
      ['"shift":5', '"shift":1e999'],
      ['"low":3', '"low":-1e999'],
      ['"steps":3', '"steps":1e999'],
      ['"frames":9', '"frames":1e15'],
      ['"fps":16', '"fps":1e30'],
      ['"boundary":0.875', '"boundary":7'],
      ['"strength":0.5', '"strength":1e999'],
      ['"noise":"torch-cuda:RTX 4090"', '"noise":"dice"'],
      [`"seed":"${recipe.seed}"`, '"seed":"-9223372036854775809"'],
    ] as const) {
      expect(json).toContain(from);
      expect(await code({ [RECIPE_KEY]: json.replace(from, to) }), to).toBe("recipe.malformed");
    }
  });

  it("differ by what decides the latents and nothing else", () => {
    expect(recipeDifferences(recipe, { ...recipe, kinora: "9", device: "reference" })).toEqual([]);
    const renamed = { ...recipe.weights, low: { name: "other", sha256: hashOf("2") } };
    expect(recipeDifferences(recipe, { ...recipe, weights: renamed })).toEqual([]);
    const other = { ...recipe.weights, low: { name: "low", sha256: hashOf("9") } };
    expect(recipeDifferences(recipe, { ...recipe, weights: other, seed: "1" }).sort()).toEqual(["seed", "weights"]);
    expect(recipeDifferences(recipe, { ...recipe, boundary: undefined })).toEqual(["boundary"]);
    expect(recipeSchema.parse(recipe)).toEqual(recipe);
  });
});

describe("saved latents", () => {
  const shape: LatentShape = [2, 1, 2, 3];
  const wishes = { keepLatents: true, preview: false };
  const memory = new Map([["guidance.momentum", Float32Array.of(1, 2, 3)]]);
  const values = (seed: number) => Float32Array.from({ length: 12 }, (_, i) => Math.sin(i + seed));

  it.each(samplerNames)("keep the state of %s after every step", async (kind) => {
    const options = { steps: 4, shift: 5 };
    const unbroken = createScheduler(kind, options);
    let latents: Float32Array = values(0);
    const file = path(`${kind}.safetensors`);
    const saved = () => ({ recipe, shape, latents, scheduler: unbroken.state(), memory, wishes });
    for (let step = 0; step < options.steps; step++) {
      await saveLatents(file, saved());
      const loaded = loadLatents(file);
      expect(loaded).toEqual({ ...saved(), verified: true });
      const resumed = createScheduler(kind, options);
      resumed.restore(loaded.scheduler);
      const noise = (draw: number) => stepNoise(7n, step, draw, 12);
      const next = takeStep(unbroken, latents, () => values(step + 1), noise);
      expect(takeStep(resumed, loaded.latents, () => values(step + 1), noise)).toEqual(next);
      latents = next;
    }
    await saveLatents(file, saved());
    expect(isFinished(loadLatents(file))).toBe(true);
    // What a finished run remembers is of no use to anyone.
    expect(loadLatents(file).scheduler.tensors).toEqual({});
    expect(loadLatents(file).memory).toEqual(new Map());
    expect(await readRecipe(file)).toEqual(recipe);
  });

  it("are refused where the file is another's or damaged", async () => {
    const file = path("damaged.safetensors");
    const scheduler = createScheduler("euler", recipe).state();
    await saveLatents(file, { recipe, shape, latents: values(0), scheduler, memory, wishes });
    const bytes = readFileSync(file);
    const headers = bytes.toString("latin1");
    const broken: [string, Buffer][] = [
      ["safetensors.", bytes.subarray(0, bytes.length - 4)],
      ["latents.malformed", Buffer.from(headers.replace('"kinora":', '"kinorb":'), "latin1")],
      ["latents.malformed", Buffer.from(headers.replace("kinora.progress", "kinora.progresx"), "latin1")],
      ["latents.malformed", Buffer.from(headers.replace('"latents"', '"latentz"'), "latin1")],
      ["recipe.malformed", Buffer.from(headers.replace('\\"steps\\":3', '\\"steps\\":0'), "latin1")],
    ];
    for (const [code, content] of broken) {
      writeFileSync(file, content);
      const hint = { "latents.malformed": /delete or move it/, "recipe.malformed": /damaged or edited/ }[code] ?? /./;
      expect(() => loadLatents(file), code).toThrow(
        expect.objectContaining({ code: expect.stringContaining(code), hint: expect.stringMatching(hint) }),
      );
    }
  });

  /** The same file with parts of its header blotted out, as older versions wrote it. */
  const without = (file: string, ...parts: RegExp[]) => {
    let text = readFileSync(file).toString("latin1");
    for (const part of parts) {
      expect(text).toMatch(part);
      text = text.replace(part, (found) => " ".repeat(found.length));
    }
    writeFileSync(file, Buffer.from(text, "latin1"));
  };
  const checksum = [/,\\"checksum\\":true/, /,"kinora\.checksum":"[0-9a-f]{64}"/];

  it("of versions that knew neither wishes nor checksums are read as without", async () => {
    const file = path("older.safetensors");
    const scheduler = createScheduler("euler", recipe).state();
    const saved = { recipe, shape, latents: values(0), scheduler, memory: new Map(), wishes };
    await saveLatents(file, saved);
    without(file, /,\\"keepLatents\\":true,\\"preview\\":false/, ...checksum);
    const older = { keepLatents: false, preview: false };
    expect(loadLatents(file)).toEqual({ ...saved, wishes: older, verified: false });
  });

  it("tell a flipped bit anywhere in their values, and a checksum that is gone", async () => {
    const file = path("flipped.safetensors");
    const scheduler = createScheduler("euler", recipe).state();
    const saved = { recipe, shape, latents: values(0), scheduler, memory, wishes };
    await saveLatents(file, saved);
    const bytes = readFileSync(file);
    const data = bytes.length - 4 * (12 + 3);
    for (let at = data; at < bytes.length; at += 3) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1 << (at % 8);
      writeFileSync(file, flipped);
      expect(() => loadLatents(file)).toThrow(expect.objectContaining({ code: "latents.damaged" }));
    }
    const told = Buffer.from(bytes.toString("latin1").replace("a red circle", "a rad circle"), "latin1");
    writeFileSync(file, told);
    expect(() => loadLatents(file)).toThrow(expect.objectContaining({ code: "latents.damaged" }));
    writeFileSync(file, bytes);
    without(file, checksum[1]!);
    expect(() => loadLatents(file)).toThrow(expect.objectContaining({ code: "latents.damaged" }));
  });

  it("with impossible values, counts or shapes are refused before anything is made of them", async () => {
    const file = path("hostile.safetensors");
    const scheduler = createScheduler("euler", recipe).state();
    const sound = { recipe, shape, latents: values(0), scheduler, memory, wishes };
    const hostile: [string, Partial<SavedLatents>][] = [
      ["recipe.malformed", { recipe: { ...recipe, frames: 1e12 } }],
      ["recipe.malformed", { recipe: { ...recipe, steps: 1e9 } }],
      ["recipe.malformed", { recipe: { ...recipe, seed: "99999999999999999999" } }],
      ["recipe.malformed", { recipe: { ...recipe, guidance: { low: 1e300, high: 3 } } }],
      ["latents.malformed", { scheduler: { ...scheduler, steps: 1e9 } }],
      ["latents.malformed", { scheduler: { ...scheduler, step: 4 } }],
      ["latents.malformed", { scheduler: { ...scheduler, shift: -1 } }],
      ["latents.malformed", { latents: values(0).with(5, Number.NaN) }],
      ["latents.malformed", { memory: new Map([["x", Float32Array.of(Number.POSITIVE_INFINITY)]]) }],
      ["latents.malformed", { shape: [12] as unknown as LatentShape }],
    ];
    for (const [code, change] of hostile) {
      await saveLatents(file, { ...sound, ...change });
      expect(() => loadLatents(file), JSON.stringify(change)).toThrow(expect.objectContaining({ code }));
    }
  });

  it("lie beside the film", () => {
    expect(latentsPath("a/b.mp4")).toBe("a/b.latents.safetensors");
    expect(latentsPath("a.mp4/b.MP4")).toBe("a.mp4/b.latents.safetensors");
  });
});

describe("content hashes", () => {
  const collect = async (cache: HashCache, file: string) => {
    const steps: HashProgress[] = [];
    const work = cache.hash(file);
    for (;;) {
      const { done, value } = await work.next();
      if (done) return { hash: value, steps };
      steps.push(value);
    }
  };

  it("are of the content, remembered, and renewed when the file changes", async () => {
    const file = path("weights.bin");
    writeFileSync(file, "abc");
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const folder = path("hash-cache");
    utimesSync(file, 1, 1);
    expect(await finished(new HashCache(folder).hash(file))).toBe(abc);
    // Remembered: with the same size and time it is not read again.
    writeFileSync(file, "abd");
    utimesSync(file, 1, 1);
    expect(await finished(new HashCache(folder).hash(file))).toBe(abc);
    utimesSync(file, 1, 2);
    expect(await finished(new HashCache(folder).hash(file))).toBe(
      "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9",
    );
  });

  it("find a file by its content until it moves or changes", async () => {
    const folder = path("find-cache");
    const file = path("find.bin");
    writeFileSync(file, "content");
    const known = await finished(new HashCache(folder).hash(file));
    expect(await new HashCache(folder).find(known)).toBe(file);
    expect(await new HashCache(folder).find(hashOf("0"))).toBeUndefined();
    renameSync(file, path("moved.bin"));
    expect(await new HashCache(folder).find(known)).toBeUndefined();
    writeFileSync(file, "other content");
    expect(await new HashCache(folder).find(known)).toBeUndefined();
  });

  it("of shards count every shard, and survive a broken or unwritable cache", async () => {
    mkdirSync(path("shards"), { recursive: true });
    const index = join(path("shards"), "model.safetensors.index.json");
    writeFileSync(index, JSON.stringify({ weight_map: { a: "one.safetensors", b: "two.safetensors" } }));
    writeFileSync(join(path("shards"), "one.safetensors"), "1");
    writeFileSync(join(path("shards"), "two.safetensors"), "2");
    const folder = path("broken-cache");
    mkdirSync(folder);
    writeFileSync(join(folder, "content-hashes.json"), "{");
    const whole = await finished(new HashCache(folder).hash(index));
    expect(await finished(new HashCache(folder).hash(path("shards")))).toBe(whole);
    writeFileSync(join(path("shards"), "two.safetensors"), "22");
    expect(await finished(new HashCache(folder).hash(index))).not.toBe(whole);
    writeFileSync(path("no-folder"), "");
    expect(await finished(new HashCache(path("no-folder/cache")).hash(index))).toHaveLength(64);
    await expect(collect(new HashCache(folder), path("absent.bin"))).rejects.toMatchObject({ code: "io.not-found" });
    expect(existsSync(join(folder, "content-hashes.json"))).toBe(true);
  });
});

describe("noise", () => {
  it("is PyTorch's where asked, of the GPU that was named", () => {
    expect(parseNoise("torch-cpu")(7n, 50)).toEqual(torchCpuNormal(7n, 50));
    expect(parseNoise("torch-cuda")(7n, 50)).toEqual(torchCudaNormal(7n, 50));
    const many = 400_000;
    const gpu = gpuThreads["RTX 4090"];
    expect(parseNoise("torch-cuda:rtx 4090")(7n, many)).toEqual(torchCudaNormal(7n, many, gpu));
    expect(parseNoise("torch-cuda")(7n, many)).not.toEqual(torchCudaNormal(7n, many, gpu));
  });
});

describe("pictures of a decoded chunk", () => {
  it("cut levels off as upstream does, one picture per frame", () => {
    // Colour planes of two frames of two pixels.
    const planes = Float32Array.of(-1, 1, 0, 0.5, -2, 2, -0.999, 0.999, 0.25, -0.25, 0.1, -0.1);
    const level = (value: number) => Math.trunc(Math.min(1, Math.max(0, (value + 1) / 2)) * 255);
    expect(toPictures(planes, 2, 2)).toEqual([
      Uint8Array.of(level(-1), level(-2), level(0.25), level(1), level(2), level(-0.25)),
      Uint8Array.of(level(0), level(-0.999), level(0.1), level(0.5), level(0.999), level(-0.1)),
    ]);
  });
});

describe("previews", () => {
  it("are there for the published autoencoders alone", () => {
    expect(hasPreview(vaeConfigs.vae21)).toBe(true);
    expect(hasPreview(vaeConfigs.vae22)).toBe(true);
    const small = {
      dim: 8,
      z_dim: 16,
      dim_mult: [1, 2, 4, 4],
      num_res_blocks: 2,
      temperal_downsample: [false, true, true],
    };
    expect(hasPreview(vaeConfigFrom(small, "vae21"))).toBe(false);
  });

  it("are affine in the latents: each channel adds its own colour", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("vae21", "vae22"),
        fc.nat(15),
        fc.nat(1),
        fc.nat(5),
        (kind, channel, frame, pixel) => {
          const shape: LatentShape = [kind === "vae21" ? 16 : 48, 2, 2, 3];
          const latents = new Float32Array(shape[0] * 12);
          const empty = previewFrames(latents, shape, kind);
          latents[(channel * 2 + frame) * 6 + pixel] = 1;
          const touched = previewFrames(latents, shape, kind);
          for (let f = 0; f < 2; f++) {
            for (let p = 0; p < 6; p++) {
              const colour = (pictures: Uint8Array[]) => [...pictures[f]!.subarray(p * 3, p * 3 + 3)];
              if (f === frame && p === pixel) continue;
              expect(colour(touched)).toEqual(colour(empty));
            }
          }
          expect(touched).not.toEqual(empty);
        },
      ),
      { numRuns: 40 },
    );
    // No latents: the bias alone.
    expect([...previewFrames(new Float32Array(16), [16, 1, 1, 1], "vae21")[0]!]).toEqual(
      [-0.1835, -0.0868, -0.336].map((bias) => Math.round(((bias + 1) / 2) * 255)),
    );
  });
});
