// Samplers, schedules, guidance and step caches together, on a tiny transformer: each pair of them meets at least once,
// every run is finite, the same when it is made again, and the same bits when it is stopped and continued through a file.
import { afterAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/device/open-device.ts";
import type { LatentShape } from "../../src/models/wan/conditioning.ts";
import { type CacheChoice, cacheRows, createCache } from "../../src/sample/caches/index.ts";
import { FilmRun, type FilmState } from "../../src/sample/film-run.ts";
import { filmSettings } from "../../src/sample/film-settings.ts";
import { type GuidanceChoice, guidanceRows } from "../../src/sample/guidance/index.ts";
import { loadLatents, saveLatents } from "../../src/sample/latents-file.ts";
import { samplers } from "../../src/sample/schedulers/index.ts";
import { schedules } from "../../src/sample/schedulers/schedules/index.ts";
import { recipe } from "../support/recipe.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { tinyDit, tinyDitConfig, tinySample } from "../support/tiny-dit.ts";

const { device } = await openDevice("auto");
const { model } = tinyDit(device);
const path = temporaryFolder();
afterAll(() => {
  model[Symbol.dispose]();
  expect(device.memory().live).toBe(0);
  device[Symbol.dispose]();
});

const STEPS = 5;
const shape: LatentShape = [4, 2, 4, 4];
const host = (seed: number) => ({ values: tinySample(seed).text, shape: [3, tinyDitConfig.textDim] });
const text = { positive: host(1), negative: host(2) };
const subject = { model: "tiny-t2v", area: 4096, picture: false };

const blocks = [1];
const guidances: GuidanceChoice[] = [
  1,
  3,
  { kind: "cfg-list", scales: [4, 1, 2] },
  { kind: "cfg-zero", scale: 3 },
  { kind: "cfg-zero", scale: 3, form: "comfy" },
  { kind: "slg", blocks, start: 0, end: 0.8, rescale: 0.3, over: 3 },
  { kind: "slg-simple", blocks, over: { kind: "cfg-zero", scale: 2, form: "channel" } },
  { kind: "nag" },
  { kind: "enhance", over: { kind: "nag", over: 2 } },
];
const coefficients = [0.1, 0];
const caches: (CacheChoice | undefined)[] = [
  undefined,
  { kind: "teacache", threshold: 0.3, coefficients },
  { kind: "magcache", threshold: 0.1, ratios: Array.from({ length: 2 * STEPS - 2 }, () => 0.98) },
  { kind: "easycache", threshold: 5, ret_steps: 2 },
  { kind: "comfy-easycache", threshold: 0.9, start: 0, end: 1, subsample: 1 },
  { kind: "comfy-lazycache", threshold: 0.9, start: 0, end: 1, subsample: 2 },
];
const scheduleNames = schedules.map(({ name }) => name).filter((name) => name !== "manual");
const samplerNames = samplers.map(({ name }) => name);

interface Combination {
  sampler: string;
  schedule: string;
  guidance: GuidanceChoice;
  cache: CacheChoice | undefined;
}

/** Every pair of values of two different dimensions in some combination, greedily. */
function pairwise(): Combination[] {
  const dimensions = [samplerNames, scheduleNames, guidances, caches] as const;
  const sizes = dimensions.map(({ length }) => length);
  const open = new Set<string>();
  const key = (a: number, i: number, b: number, j: number) => `${a}:${i}/${b}:${j}`;
  const pairs = [0, 1, 2, 3].flatMap((a) => [0, 1, 2, 3].filter((b) => b > a).map((b) => [a, b] as const));
  for (const [a, b] of pairs) {
    for (let i = 0; i < sizes[a]!; i++) for (let j = 0; j < sizes[b]!; j++) open.add(key(a, i, b, j));
  }
  const chosen: number[][] = [];
  while (open.size > 0) {
    const [first] = open;
    const [, a, i, b, j] = /^(\d+):(\d+)\/(\d+):(\d+)$/.exec(first!)!.map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const picked: (number | undefined)[] = [undefined, undefined, undefined, undefined];
    picked[a] = i;
    picked[b] = j;
    for (const d of [0, 1, 2, 3]) {
      if (picked[d] !== undefined) continue;
      let best = 0;
      let most = -1;
      for (let v = 0; v < sizes[d]!; v++) {
        const news = [0, 1, 2, 3].filter((o) => {
          const other = picked[o];
          if (o === d || other === undefined) return false;
          return open.has(o < d ? key(o, other, d, v) : key(d, v, o, other));
        }).length;
        if (news > most) [best, most] = [v, news];
      }
      picked[d] = best;
    }
    const row = picked as number[];
    for (const [x, y] of pairs) open.delete(key(x, row[x]!, y, row[y]!));
    chosen.push(row);
  }
  return chosen.map(([s, c, g, k]) => ({
    sampler: samplerNames[s!]!,
    schedule: scheduleNames[c!]!,
    guidance: guidances[g!]!,
    cache: caches[k!],
  }));
}

async function run({ sampler, schedule, guidance, cache }: Combination, from?: Partial<FilmState>, until?: number) {
  const settings = filmSettings({
    ...{ sampler, schedule, steps: STEPS, shift: 3, noise: "kinora", seed: 7n, boundary: 0.8 },
    guidance: { low: guidance, high: guidance },
    cache: cache && createCache(cache, subject),
  });
  using film = new FilmRun(device, settings, { shape, text }, from);
  const skipped: boolean[] = [];
  while (film.done < Math.min(until ?? Number.POSITIVE_INFINITY, film.steps)) {
    const step = await film.step(model);
    skipped.push(...step.cache.map(({ skip }) => skip));
  }
  return { latents: film.latents, state: film.state(), skipped };
}

/** Through a file, as the pipeline does it. */
async function writtenDown(state: FilmState): Promise<FilmState> {
  const file = path("state.safetensors");
  await saveLatents(file, { ...state, recipe, shape, wishes: { keepLatents: false, preview: false } });
  return loadLatents(file);
}

const combinations = pairwise();

describe("every pair of sampler, schedule, guidance and cache", () => {
  it("is among the combinations, and every kind of the tables", () => {
    expect(combinations.length).toBeLessThan(400);
    const kinds = JSON.stringify(guidances);
    for (const { name } of guidanceRows) if (name !== "cfg") expect(kinds).toContain(`"${name}"`);
    for (const { name } of cacheRows) expect(caches.some((cache) => cache?.kind === name)).toBe(true);
  });

  it.each(samplerNames)("%s is finite and continues to the same bits", async (name) => {
    for (const [index, each] of combinations.filter(({ sampler }) => sampler === name).entries()) {
      const what = JSON.stringify(each);
      const whole = await run(each);
      expect(whole.latents.every(Number.isFinite), what).toBe(true);
      const stop = 1 + (index % (STEPS - 2));
      const { state } = await run(each, undefined, stop);
      expect((await run(each, await writtenDown(state))).latents, what).toEqual(whole.latents);
    }
  });
});

describe("step caches", () => {
  const plain: Combination = { sampler: "euler", schedule: "official", guidance: 3, cache: undefined };

  it.each(caches.filter((cache) => cache !== undefined))(
    "$kind skips and changes the film; at 0 it is no cache",
    async (cache) => {
      const without = await run(plain);
      const { latents, skipped } = await run({ ...plain, cache });
      expect(skipped).toContain(true);
      expect(latents).not.toEqual(without.latents);
      expect((await run({ ...plain, cache: { ...cache, threshold: 0 } })).latents).toEqual(without.latents);
      // A threshold that nothing stays below computes everything, to the same bits.
      expect(
        (
          await run({
            ...plain,
            cache: { ...cache, threshold: 1e-30, ...(cache.kind === "teacache" ? { coefficients: [1, 1] } : {}) },
          })
        ).latents,
      ).toEqual(without.latents);
    },
  );
});
