// The samplers against trajectories of the official code, and what a resumed run depends on.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isKinoraError } from "../../src/base/errors.ts";
import {
  createScheduler,
  type Scheduler,
  type SchedulerKind,
  type SchedulerOptions,
  schedulerKinds,
} from "../../src/sample/schedulers/index.ts";

interface Run {
  kind: SchedulerKind;
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

function walk(scheduler: Scheduler, sample: Float32Array, until = scheduler.timesteps.length): Float32Array {
  let x = sample;
  while (scheduler.position < until) x = scheduler.step(velocity(x, scheduler.timesteps[scheduler.position]!), x);
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
      x = scheduler.step(constant, x);
      const sigma = scheduler.sigmas[step + 1]!;
      for (let i = 0; i < 3; i++) expect(x[i]!).toBeCloseTo((1 - sigma) * clip[i]! + sigma * noise[i]!, 5);
    }
  });
});

describe.each(schedulerKinds)("%s", (kind) => {
  const options: SchedulerOptions = { steps: 7, shift: 5 };

  test("goes on bit for bit from a state that went through a file", () => {
    const whole = walk(createScheduler(kind, options), start);
    for (let cut = 0; cut <= 7; cut++) {
      const before = createScheduler(kind, options);
      const x = walk(before, start, cut);
      const { tensors, ...rest } = before.state();
      const text = JSON.stringify({ ...rest, tensors: Object.entries(tensors).map(([k, v]) => [k, [...v]]) });
      const read = JSON.parse(text);
      const after = createScheduler(kind, options);
      after.restore({
        ...read,
        tensors: Object.fromEntries(read.tensors.map(([k, v]: [string, number[]]) => [k, Float32Array.from(v)])),
      });
      expect(after.position).toBe(cut);
      expect(walk(after, x)).toEqual(whole);
    }
  });

  test("neither changes nor keeps what it is given", () => {
    const scheduler = createScheduler(kind, options);
    const undisturbed = walk(createScheduler(kind, options), start);
    let x: Float32Array = start.slice();
    for (const timestep of scheduler.timesteps) {
      const [sample, prediction] = [x.slice(), velocity(x, timestep)];
      const copy = prediction.slice();
      x = scheduler.step(prediction, sample);
      expect(prediction).toEqual(copy);
      sample.fill(Number.NaN);
      prediction.fill(Number.NaN);
    }
    expect(x).toEqual(undisturbed);
  });

  test("ends on the clip itself where the model is sure of it", () => {
    const clip = Float32Array.of(0.5, -1.5, 2, 0, 1, 1, 1, 1);
    const scheduler = createScheduler(kind, { steps: 12, shift: 4 });
    let x: Float32Array = start;
    for (let step = 0; step < 12; step++) {
      const sigma = scheduler.sigmas[step]!;
      x = scheduler.step(
        x.map((value, i) => (value - clip[i]!) / sigma),
        x,
      );
    }
    for (let i = 0; i < clip.length; i++) expect(x[i]!).toBeCloseTo(clip[i]!, 4);
  });

  test("names what is wrong", () => {
    const make = (steps: number, shift: number) => codeOf(() => createScheduler(kind, { steps, shift }));
    for (const steps of [0, -3, 2.5, Number.NaN, 1e9]) expect(make(steps, 5)).toBe("scheduler.options");
    for (const shift of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) expect(make(5, shift)).toBe("scheduler.options");
    expect(make(50, 1e9)).toBe("scheduler.too-many-steps");
    const scheduler = createScheduler(kind, options);
    expect(codeOf(() => scheduler.step(new Float32Array(3), new Float32Array(4)))).toBe("scheduler.size");
    walk(scheduler, start);
    expect(codeOf(() => scheduler.step(start, start))).toBe("scheduler.finished");
    const state = scheduler.state();
    expect(codeOf(() => createScheduler(kind, { steps: 8, shift: 5 }).restore(state))).toBe("scheduler.state-mismatch");
    const fresh = createScheduler(kind, options);
    expect(codeOf(() => fresh.restore({ ...state, step: 9 }))).toBe("scheduler.state-mismatch");
  });
});

test.each(["unipc", "dpm++"] as const)("%s refuses a state without its tensors, or latents of another size", (kind) => {
  const scheduler = createScheduler(kind, { steps: 5, shift: 5 });
  walk(scheduler, start, 2);
  const fresh = createScheduler(kind, { steps: 5, shift: 5 });
  expect(codeOf(() => fresh.restore({ ...scheduler.state(), tensors: {} }))).toBe("scheduler.state-mismatch");
  fresh.restore(scheduler.state());
  expect(codeOf(() => fresh.step(new Float32Array(3), new Float32Array(3)))).toBe("scheduler.size");
});
