// Several films with one pair of experts: how often each is asked for, and that company changes no film.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { PhiloxRng } from "../../src/base/rng/philox-rng.ts";
import { openDevice } from "../../src/device/open-device.ts";
import { probe } from "../../src/io/video/probe.ts";
import { searchCheckpoint } from "../../src/models/wan/checkpoint-files.ts";
import type { WanDit } from "../../src/models/wan/dit/dit.ts";
import { loadDit } from "../../src/models/wan/load.ts";
import type { WanModelName } from "../../src/models/wan/params.ts";
import { type FilmRequest, type FilmsEvent, makeFilms } from "../../src/sample/films.ts";
import { samplerNames } from "../../src/sample/schedulers/index.ts";
import { picture } from "../dataset/dataset-files.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { narrowModel, writeNarrowCheckpoint } from "../support/training-run.ts";

const path = temporaryFolder();

beforeAll(async () => {
  for (const name of ["tiny-t2v", "tiny-ti2v"] as const) await writeNarrowCheckpoint(path(name), name);
  await picture(path("wide.png"), 96, 48);
});

function text(seed: bigint, width: number) {
  const rng = new PhiloxRng(seed);
  return { shape: [3, width], values: Float32Array.from({ length: 3 * width }, () => rng.uniform() - 0.5) };
}

/** Makes films with the experts loaded as they are asked for, one in memory at a time. */
async function make(name: WanModelName, films: readonly Omit<FilmRequest, "text" | "prompt">[], signal?: AbortSignal) {
  const model = narrowModel(name);
  const files = searchCheckpoint(model, { folder: join(path(name), "checkpoint") });
  const { device } = await openDevice("auto");
  const loads: string[] = [];
  const events: FilmsEvent[] = [];
  let held: { which: string; dit: WanDit } | undefined;
  const before = device.memory().live;
  try {
    const run = makeFilms({
      model,
      boundary: model.boundary,
      device,
      vae: { path: files.file("vae"), dtype: "f32" },
      expert(which) {
        if (held?.which === which) return held.dit;
        held?.dit[Symbol.dispose]();
        loads.push(which);
        held = { which, dit: loadDit(device, files.file(which), { dtype: "f32" }) };
        return held.dit;
      },
      films: films.map((film) => ({
        ...film,
        prompt: "a film",
        text: { positive: text(film.seed, model.dit.textDim), negative: text(0n, model.dit.textDim) },
      })),
      ...(signal ? { signal } : {}),
    });
    for await (const event of run) events.push(event);
  } finally {
    held?.dit[Symbol.dispose]();
    expect(device.memory().live).toBe(before);
    device[Symbol.dispose]();
  }
  return { loads, events };
}

const small = { width: 32, height: 32, frames: 5 };

describe("films of two experts", () => {
  it("load each expert once, however many there are, and are those made alone", async () => {
    const films = [3, 4, 2].map((steps, i) => ({ ...small, steps, seed: BigInt(i + 1), out: path(`films/${i}.mp4`) }));
    const { loads, events } = await make("tiny-t2v", films);
    expect(loads).toEqual(["high", "low"]);
    expect(events.filter(({ type }) => type === "film").map(({ index }) => index)).toEqual([0, 1, 2]);
    for (const [i, { steps }] of films.entries()) {
      const own = events.flatMap((event) => (event.type === "step" && event.index === i ? [event] : []));
      expect(own.map(({ done }) => done)).toEqual(Array.from({ length: steps }, (_, step) => step + 1));
      expect(own.every(({ of }) => of === steps)).toBe(true);
    }
    const alone = path("alone.mp4");
    await make("tiny-t2v", [{ ...films[1]!, out: alone }]);
    expect(readFileSync(alone).equals(readFileSync(films[1]!.out))).toBe(true);
    expect(readFileSync(alone).equals(readFileSync(films[0]!.out))).toBe(false);
  });
});

describe("films of any sampler", () => {
  it("differ by it, and name one that is unknown", async () => {
    const films = samplerNames.map((sampler, i) => ({
      ...small,
      steps: 3,
      seed: 1n,
      sampler,
      out: path(`by/${i}.mp4`),
    }));
    const usual = path("by/usual.mp4");
    await make("tiny-t2v", [...films, { ...small, steps: 3, seed: 1n, out: usual }]);
    const bytes = films.map(({ out }) => readFileSync(out).toString("latin1"));
    // Random weights bring close latents to the same frames.
    expect(new Set(bytes).size).toBeGreaterThan(1);
    expect(readFileSync(usual).toString("latin1")).toBe(bytes[0]);
    const unknown = { ...small, steps: 3, seed: 1n, sampler: "unipcc", out: path("by/unknown.mp4") };
    await expect(make("tiny-t2v", [unknown])).rejects.toMatchObject({ code: "generate.unknown-sampler" });
  });

  it("larger than any memory are refused before anything is made", async () => {
    const giant = { width: 16_384, height: 16_384, frames: 4093, steps: 1, seed: 1n, out: path("giant.mp4") };
    await expect(make("tiny-t2v", [giant])).rejects.toMatchObject({ code: "generate.too-large" });
    await expect(make("tiny-t2v", [{ ...giant, width: 32_768 }])).rejects.toMatchObject({ code: "size.too-large" });
  });
});

describe("films from pictures", () => {
  it("have the picture's shape, beside those from text alone", async () => {
    const films = [
      { width: 64, height: 64, frames: 5, steps: 1, seed: 1n, image: path("wide.png"), out: path("with.mp4") },
      { width: 64, height: 32, frames: 5, steps: 1, seed: 1n, out: path("without.mp4") },
    ];
    const { loads } = await make("tiny-ti2v", films);
    expect(loads).toEqual(["low"]);
    expect((await probe(films[0]!.out)).video).toMatchObject({ width: 128, height: 32, frameCount: 5 });
    expect((await probe(films[1]!.out)).video).toMatchObject({ width: 64, height: 32, frameCount: 5 });
  });

  it("stop when asked, leaving nothing on the device", async () => {
    const stop = AbortSignal.abort();
    const film = { ...small, steps: 2, seed: 1n, out: path("stopped.mp4") };
    await expect(make("tiny-t2v", [film], stop)).rejects.toMatchObject({ name: "AbortError" });
  });
});
