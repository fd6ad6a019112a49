// The samplers against trajectories of the official code, and what a resumed run depends on.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import { stepNoise } from "../../src/sample/noise/kinora.ts";
import { createScheduler, type SamplerName, samplers } from "../../src/sample/schedulers/index.ts";
import type { Sampler } from "../../src/sample/schedulers/sampler.ts";
import {
  type ScheduleOptions,
  type Scheduler,
  type StepNoise,
  takeStep,
} from "../../src/sample/schedulers/scheduler.ts";
import { midpoint, restless } from "./added-samplers.ts";

interface Run {
  kind: SamplerName;
  steps: number;
  shift: number;
  /** All of them up to 25 steps; beyond that the first and last six. */
  timesteps: number[];
  /** The first, the middle and the last before 0. */
  sigma: [number, number, number];
  x: number[];
}

// Recorded from Wan2.2 42bf4cf's fm_solvers_unipc.py and fm_solvers.py, set up as generate.py does, with torch 2.15 and
// diffusers on a CPU; set_begin_index(0) keeps the UniPC runs from 92 steps at shift 12 from its assertion.
const runs = JSON.parse(readFileSync(new URL("./scheduler-runs.json", import.meta.url), "utf8")) as Run[];
const start = Float32Array.of(-1.7, -0.9, -0.25, 0, 0.4, 1.1, 2.3, 3.1);

function velocity(x: Float32Array, timestep: number): Float32Array {
  const drift = 0.1 * Math.cos((timestep / 1000) * 6);
  return x.map((value) => Math.sin(3 * value) * 0.5 + drift);
}

/** The noise of a scheduler's next step. */
const noiseOf =
  (scheduler: Scheduler): StepNoise =>
  (draw) =>
    stepNoise(7n, scheduler.position, draw, start.length);

function walk(scheduler: Scheduler, sample: Float32Array, until = scheduler.timesteps.length): Float32Array {
  let x = sample;
  while (scheduler.position < until) {
    x = takeStep(scheduler, x, ({ sample: shown, timestep }) => velocity(shown, timestep), noiseOf(scheduler));
  }
  return x;
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}

describe("official trajectories", () => {
  test.each(runs)("$kind, $steps steps, shift $shift", ({ kind, steps, shift, timesteps, sigma, x }) => {
    const scheduler = createScheduler(kind, { steps, shift });
    const all = scheduler.timesteps;
    expect(steps <= 25 ? all : [...all.slice(0, 6), ...all.slice(-6)]).toEqual(timesteps);
    expect([0, Math.floor(steps / 2), steps - 1].map((i) => scheduler.sigmas[i])).toEqual(sigma);
    expect(scheduler.sigmas.at(-1)).toBe(0);
    const result = walk(scheduler, start);
    let [difference, norm] = [0, 0];
    for (let i = 0; i < x.length; i++) {
      difference += (result[i]! - x[i]!) ** 2;
      norm += x[i]! ** 2;
    }
    expect(Math.sqrt(difference / norm)).toBeLessThan(1e-6);
  });

  test("the first two timesteps of UniPC coincide at shift 12 with 92 steps, and yet it runs", () => {
    const { timesteps } = createScheduler("unipc", { steps: 92, shift: 12 });
    expect(timesteps[0]).toBe(timesteps[1]);
  });
});

describe("euler", () => {
  test("follows a constant velocity to its end exactly, and falls with σ in between", () => {
    const scheduler = createScheduler("euler", { steps: 8, shift: 3 });
    expect(scheduler.timesteps).toEqual(createScheduler("dpm++", { steps: 8, shift: 3 }).timesteps);
    const noise = Float32Array.of(1, -2, 0.5);
    const clip = Float32Array.of(0.25, 4, -1);
    const constant = noise.map((value, i) => value - clip[i]!);
    let x: Float32Array = noise;
    for (let step = 0; step < 8; step++) {
      x = takeStep(scheduler, x, () => constant);
      const sigma = scheduler.sigmas[step + 1]!;
      for (let i = 0; i < 3; i++) expect(x[i]!).toBeCloseTo((1 - sigma) * clip[i]! + sigma * noise[i]!, 5);
    }
  });
});

describe.each<Sampler>([...samplers, midpoint, restless])("$name", (sampler) => {
  const options: ScheduleOptions = { steps: 7, shift: 5 };

  test("goes on bit for bit from a state that went through a file", () => {
    const whole = walk(sampler.create(options), start);
    for (let cut = 0; cut <= 7; cut++) {
      const before = sampler.create(options);
      const x = walk(before, start, cut);
      const { tensors, ...rest } = before.state();
      const text = JSON.stringify({ ...rest, tensors: Object.entries(tensors).map(([k, v]) => [k, [...v]]) });
      const read = JSON.parse(text);
      const after = sampler.create(options);
      after.restore({
        ...read,
        tensors: Object.fromEntries(read.tensors.map(([k, v]: [string, number[]]) => [k, Float32Array.from(v)])),
      });
      expect(after.position).toBe(cut);
      expect(walk(after, x)).toEqual(whole);
    }
  });

  test("neither changes nor keeps what it is given", () => {
    const scheduler = sampler.create(options);
    const undisturbed = walk(sampler.create(options), start);
    let x: Float32Array = start.slice();
    while (scheduler.position < options.steps) {
      const sample = x.slice();
      const given: [Float32Array, Float32Array][] = [];
      const answer = (shown: Float32Array, timestep: number) => {
        const prediction = velocity(shown, timestep);
        given.push([prediction, prediction.slice()]);
        return prediction;
      };
      x = takeStep(scheduler, sample, (asked) => answer(asked.sample, asked.timestep), noiseOf(scheduler));
      for (const [prediction, copy] of given) {
        expect(prediction).toEqual(copy);
        prediction.fill(Number.NaN);
      }
      sample.fill(Number.NaN);
    }
    expect(x).toEqual(undisturbed);
  });

  test("ends on the clip itself where the model is sure of it", () => {
    const clip = Float32Array.of(0.5, -1.5, 2, 0, 1, 1, 1, 1);
    const scheduler = sampler.create({ steps: 12, shift: 4 });
    let x: Float32Array = start;
    for (let step = 0; step < 12; step++) {
      x = takeStep(
        scheduler,
        x,
        ({ sample, sigma }) => sample.map((value, i) => (value - clip[i]!) / sigma),
        noiseOf(scheduler),
      );
    }
    // ComfyUI's UniPC stops at a noise level of 0.001.
    const digits = sampler.name.startsWith("uni_pc") ? 2 : 4;
    for (let i = 0; i < clip.length; i++) expect(x[i]!).toBeCloseTo(clip[i]!, digits);
  });

  test("given up in the middle of a step is where it was before", () => {
    const scheduler = sampler.create(options);
    const x = walk(scheduler, start, 3);
    const before = scheduler.state();
    const step = scheduler.step(x, noiseOf(scheduler));
    expect(step.next().done).toBe(false);
    step.return(x);
    expect(scheduler.state()).toEqual(before);
    const after = sampler.create(options);
    after.restore(before);
    expect(walk(scheduler, x)).toEqual(walk(after, x));
  });

  test("names what is wrong", () => {
    const make = (steps: number, shift: number) => codeOf(() => sampler.create({ steps, shift }));
    for (const steps of [0, -3, 2.5, Number.NaN, 1e9]) expect(make(steps, 5)).toBe("scheduler.options");
    for (const shift of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) expect(make(5, shift)).toBe("scheduler.options");
    expect(make(50, 1e9)).toBe("scheduler.too-many-steps");
    expect(codeOf(() => sampler.create(options, { unheard: 1 }))).toBe("sampler.options");
    const scheduler = sampler.create(options);
    const short = () => new Float32Array(3);
    expect(codeOf(() => takeStep(scheduler, start, short, noiseOf(scheduler)))).toBe("scheduler.size");
    walk(scheduler, start);
    expect(codeOf(() => takeStep(scheduler, start, short))).toBe("scheduler.finished");
    const state = scheduler.state();
    expect(codeOf(() => sampler.create({ steps: 8, shift: 5 }).restore(state))).toBe("scheduler.state-mismatch");
    const fresh = sampler.create(options);
    expect(codeOf(() => fresh.restore({ ...state, step: 9 }))).toBe("scheduler.state-mismatch");
  });
});

test.each(["unipc", "dpm++"] as const)("%s refuses a state without its tensors, or latents of another size", (kind) => {
  const scheduler = createScheduler(kind, { steps: 5, shift: 5 });
  walk(scheduler, start, 2);
  const fresh = createScheduler(kind, { steps: 5, shift: 5 });
  expect(codeOf(() => fresh.restore({ ...scheduler.state(), tensors: {} }))).toBe("scheduler.state-mismatch");
  fresh.restore(scheduler.state());
  expect(codeOf(() => takeStep(fresh, new Float32Array(3), () => new Float32Array(3)))).toBe("scheduler.size");
});

describe("an added sampler", () => {
  const options: ScheduleOptions = { steps: 5, shift: 3 };

  test("has settings of its own, with defaults", () => {
    const run = (given?: Record<string, unknown>) => walk(restless.create(options, given), start);
    expect(run()).toEqual(run({ share: 1 }));
    expect(run({ share: 0.5 })).not.toEqual(run());
    // Without noise put back it is Euler, up to rounding.
    const plain = walk(createScheduler("euler", options), start);
    for (const [i, value] of run({ share: 0 }).entries()) expect(value).toBeCloseTo(plain[i]!, 5);
    expect(codeOf(() => restless.create(options, { share: "much" }))).toBe("sampler.options");
  });

  test("draws the same noise in a step whenever it is asked for, and other noise in the next", () => {
    const draws = (step: number, draw: number) => stepNoise(7n, step, draw, 64);
    expect(draws(2, 0)).toEqual(draws(2, 0));
    const all = [draws(2, 0), draws(2, 1), draws(3, 0), stepNoise(8n, 2, 0, 64)].map(String);
    expect(new Set(all).size).toBe(4);
    expect(draws(2, 0).slice(0, 16)).toEqual(stepNoise(7n, 2, 0, 16));
  });

  test("that draws noise says so where there is none", () => {
    expect(codeOf(() => takeStep(restless.create(options), start, (asked) => asked.sample))).toBe("scheduler.no-noise");
  });

  test("asks as often as it needs to", () => {
    const count = (sampler: Sampler) => {
      let asked = 0;
      const scheduler = sampler.create(options);
      let x: Float32Array = start;
      while (scheduler.position < options.steps) {
        x = takeStep(
          scheduler,
          x,
          ({ sample, timestep }) => {
            asked++;
            return velocity(sample, timestep);
          },
          noiseOf(scheduler),
        );
      }
      return asked;
    };
    expect([count(midpoint), count(restless)]).toEqual([10, 5]);
  });
});
