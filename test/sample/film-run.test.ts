// One run of one film with values that are not Kinora's own (those are in matrix.test.ts): samplers, guidance, a step
// cache, conditions. Each stopped after every step, written down and continued, ends in the same bits.
import { afterAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import type { HostCondition, LatentShape } from "../../src/models/wan/conditioning.ts";
import type { StepCache } from "../../src/sample/caches/cache.ts";
import { FilmRun, type FilmSettings, type FilmState } from "../../src/sample/film-run.ts";
import { cfg } from "../../src/sample/guidance/cfg.ts";
import type { Guidance } from "../../src/sample/guidance/guidance.ts";
import { noGuidance } from "../../src/sample/guidance/none.ts";
import { loadLatents, saveLatents } from "../../src/sample/latents-file.ts";
import { parseNoise } from "../../src/sample/noise/index.ts";
import { samplers } from "../../src/sample/schedulers/index.ts";
import type { Sampler } from "../../src/sample/schedulers/sampler.ts";
import { recipe } from "../support/recipe.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";
import { everyNth } from "./added-cache.ts";
import { intervalGuidance, momentumGuidance, zeroStart } from "./added-guidance.ts";
import { midpoint, restless } from "./added-samplers.ts";

const { device } = await openDevice("auto");
const { model } = tinyDit(device);
const path = temporaryFolder();
afterAll(() => {
  model[Symbol.dispose]();
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

const shape: LatentShape = [4, 2, 4, 4];
const host = (seed: number) => ({ values: tinySample(seed).text, shape: [3, tinyDitConfig.textDim] });
const text = { positive: host(1), negative: host(2) };
const STEPS = 5;

interface Choices {
  sampler?: Sampler;
  guidance?: Guidance;
  cache?: StepCache;
  condition?: HostCondition;
  seed?: bigint;
}

function settings({ sampler = samplers[0], guidance = cfg(3), seed = 7n, cache }: Choices): FilmSettings {
  return {
    scheduler: sampler.create({ steps: STEPS, shift: 3 }),
    noise: parseNoise("kinora"),
    seed,
    guidance: { low: guidance, high: guidance },
    boundary: 0.8,
    cache,
  };
}

async function run(choices: Choices, from?: Partial<FilmState>, until = STEPS) {
  using film = new FilmRun(device, settings(choices), { shape, text, condition: choices.condition }, from);
  const steps: { expert: string; passes: number; sigma: number }[] = [];
  while (film.done < until) {
    const { expert, passes } = await film.step(model);
    steps.push({ expert, passes, sigma: film.sigma });
  }
  return { latents: film.latents, state: film.state(), steps };
}

/** Through a file, as the pipeline does it. */
async function writtenDown(state: FilmState): Promise<FilmState> {
  const file = path("state.safetensors");
  await saveLatents(file, { ...state, recipe, shape, wishes: { keepLatents: false, preview: false } });
  return loadLatents(file);
}

async function expectToGoOn(choices: Choices): Promise<Float32Array> {
  const whole = (await run(choices)).latents;
  for (let stop = 0; stop < STEPS; stop++) {
    const { state } = await run(choices, undefined, stop);
    expect((await run(choices, await writtenDown(state))).latents, `stopped after ${stop}`).toEqual(whole);
  }
  return whole;
}

describe("samplers", () => {
  it.each<Sampler>([samplers[0], midpoint, restless])("$name goes on bit for bit", async (sampler) => {
    await expectToGoOn({ sampler });
  });

  it("that draw noise draw that of the seed", async () => {
    const one = await run({ sampler: restless });
    const start = { latents: parseNoise("kinora")(7n, 128) };
    expect((await run({ sampler: restless }, start)).latents).toEqual(one.latents);
    expect((await run({ sampler: restless, seed: 8n }, start)).latents).not.toEqual(one.latents);
    expect((await run({ seed: 8n }, start)).latents).toEqual((await run({}, start)).latents);
  });

  it("that ask twice a step stay with one expert in it, and count every pass", async () => {
    const { steps } = await run({ sampler: midpoint });
    expect(steps.map(({ passes }) => passes)).toEqual([4, 4, 4, 4, 4]);
    expect(steps.map(({ expert }) => expert)).toEqual(["high", "high", "high", "low", "low"]);
  });
});

describe("guidance", () => {
  it("of an interval runs its second pass there alone", async () => {
    const guidance = intervalGuidance.create({ scale: 3, from: 0.5, to: 0.9 });
    const { steps } = await run({ guidance });
    // The level a step starts from is the one the step before ended at.
    const levels = [1, ...steps.map(({ sigma }) => sigma)].slice(0, STEPS);
    expect(steps.map(({ passes }) => passes)).toEqual(levels.map((s) => (s >= 0.5 && s <= 0.9 ? 2 : 1)));
    expect(new Set(steps.map(({ passes }) => passes)).size).toBe(2);
    await expectToGoOn({ guidance });
  });

  it("that covers everything is the plain one, and one that covers nothing is none", async () => {
    const latents = async (guidance: Guidance) => (await run({ guidance })).latents;
    expect(await latents(intervalGuidance.create({ scale: 3 }))).toEqual(await latents(cfg(3)));
    expect(await latents(intervalGuidance.create({ scale: 3, from: 2, to: 3 }))).toEqual(await latents(noGuidance));
    expect(cfg(1)).toBe(noGuidance);
  });

  it("that remembers goes on bit for bit, its memory written down with the run", async () => {
    const guidance = momentumGuidance.create({ scale: 3 });
    const whole = await expectToGoOn({ guidance });
    expect(whole).not.toEqual((await run({})).latents);
    const { state } = await run({ guidance }, undefined, 2);
    const forgetful = await run({ guidance }, { ...state, memory: new Map() });
    expect(forgetful.latents).not.toEqual(whole);
  });

  it("may ask the model nothing", async () => {
    const { steps, latents } = await run({ guidance: zeroStart.create({ scale: 3, steps: 2 }) });
    expect(steps.map(({ passes }) => passes)).toEqual([0, 0, 2, 2, 2]);
    expect(latents.every(Number.isFinite)).toBe(true);
  });

  it("is each expert's own", async () => {
    const mixed = settings({});
    using film = new FilmRun(device, { ...mixed, guidance: { high: cfg(3), low: noGuidance } }, { shape, text });
    const passes: Record<string, Set<number>> = { high: new Set(), low: new Set() };
    while (film.expert) {
      const step = await film.step(model);
      passes[step.expert]!.add(step.passes);
    }
    expect(passes).toEqual({ high: new Set([2]), low: new Set([1]) });
  });
});

describe("a step cache", () => {
  const cache = everyNth.create({}, { model: "tiny-t2v", area: 4096, picture: false });

  it("stands between a run and its transformer, and goes on bit for bit", async () => {
    const whole = await expectToGoOn({ cache });
    expect(whole).not.toEqual((await run({})).latents);
    // The experts change after three steps: what the first kept does not answer for the second.
    const { steps } = await run({ cache });
    expect(steps.map(({ passes }) => passes)).toEqual([2, 0, 2, 2, 2]);
  });
});

describe("conditions", () => {
  const picture = { values: tinySample(9).clean.slice(0, 64), shape: [4, 1, 4, 4] };

  it("hold a given first frame in every step, also between a step's evaluations", async () => {
    const condition: HostCondition = { image: "first-frame", latents: picture };
    for (const sampler of [samplers[0], midpoint, restless]) {
      const latents = await expectToGoOn({ sampler, condition });
      for (let c = 0; c < 4; c++) {
        expect(latents.slice(c * 32, c * 32 + 16)).toEqual(picture.values.slice(c * 16, c * 16 + 16));
      }
    }
    expect((await run({ condition })).latents).not.toEqual((await run({})).latents);
  });

  it("of another kind than the model takes are refused by name", async () => {
    const condition: HostCondition = { image: "first-last+clip", latents: picture };
    expect(() => new FilmRun(device, settings({}), { shape, text, condition })).toThrow(
      expect.objectContaining({ code: "conditioning.unsupported" }),
    );
  });
});
