// The schedules as a table: levels that fall to 0, settings, and what samplers make of them.
import { describe, expect, test } from "vitest";
import { betaQuantile, betaShare } from "../../src/base/beta-distribution.ts";
import { isKinoraError } from "../../src/base/errors.ts";
import { createScheduler } from "../../src/sample/schedulers/index.ts";
import { ksamplerSigmas } from "../../src/sample/schedulers/schedules/comfy.ts";
import { levelsOf, schedules } from "../../src/sample/schedulers/schedules/index.ts";
import type { ScheduleRow } from "../../src/sample/schedulers/schedules/schedule.ts";

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isKinoraError(error)) return error.code;
    throw error;
  }
  return "no error";
}

describe.each<ScheduleRow>(schedules.filter(({ name }) => name !== "manual"))("$name", ({ name }) => {
  test.each([
    [2, 1],
    [4, 5],
    [9, 3],
    [20, 12],
  ])("falls from pure noise to 0 in %i steps at shift %d", (steps, shift) => {
    const { sigmas, timesteps } = levelsOf({ steps, shift, schedule: name });
    expect(timesteps.length).toBe(sigmas.length - 1);
    expect(sigmas.at(-1)).toBe(0);
    if (name !== "ddim_uniform") expect(sigmas[0]).toBeCloseTo(1, 5);
    for (let i = 0; i + 1 < sigmas.length; i++) expect(sigmas[i]!).toBeGreaterThan(sigmas[i + 1]!);
    if (!["beta", "ddim_uniform"].includes(name)) expect(timesteps.length).toBe(steps);
    for (const [i, time] of timesteps.entries()) {
      if (name === "official") expect(time).toBe(Math.trunc(time));
      else expect(time).toBe(Math.fround(sigmas[i]! * 1000));
    }
  });

  test("refuses settings it does not have", () => {
    expect(codeOf(() => levelsOf({ steps: 4, shift: 5, schedule: name, scheduleOptions: { unheard: 1 } }))).toBe(
      "schedule.options",
    );
  });
});

test("lists settle how many steps there are", () => {
  const distilled = { shift: 5, schedule: "distilled", scheduleOptions: { list: [1000, 500] } };
  expect([...levelsOf({ ...distilled, steps: 2 }).timesteps]).toEqual([1000, Math.fround(833.3333)]);
  expect(codeOf(() => levelsOf({ ...distilled, steps: 4 }))).toBe("scheduler.options");
  const manual = (sigmas: number[]) => ({
    steps: sigmas.length - 1,
    shift: 5,
    schedule: "manual",
    scheduleOptions: { sigmas },
  });
  expect(levelsOf(manual([1, 0.5, 0])).sigmas).toEqual(Float32Array.of(1, 0.5, 0));
  expect(codeOf(() => levelsOf(manual([1, 0.5, 0.25])))).toBe("schedule.options");
  expect(codeOf(() => levelsOf(manual([1, 0.5, 0.5, 0])))).toBe("scheduler.too-many-steps");
  expect(codeOf(() => levelsOf({ steps: 4, shift: 5, schedule: "smiple" }))).toBe("generate.unknown-schedule");
  expect(codeOf(() => levelsOf({ steps: 1, shift: 5, schedule: "kl_optimal" }))).toBe("schedule.options");
});

test("uni_pc takes the levels that KSampler takes", () => {
  const options = { steps: 6, shift: 8, schedule: "simple" };
  expect(createScheduler("uni_pc", options).sigmas).toEqual(ksamplerSigmas(options, { withoutPenultimate: true }));
  expect(createScheduler("euler", options).sigmas).toEqual(ksamplerSigmas(options, {}));
  expect(ksamplerSigmas(options, { denoise: 0.5 })[0]).toBeLessThan(1);
});

test("the beta distribution and its inverse agree with what is known of it", () => {
  expect(betaShare(0.3, 1, 1)).toBeCloseTo(0.3, 12);
  expect(betaShare(0.3, 2, 1)).toBeCloseTo(0.09, 12);
  expect(betaShare(0.5, 0.6, 0.6)).toBeCloseTo(0.5, 12);
  // The arcsine law.
  expect(betaShare(0.2, 0.5, 0.5)).toBeCloseTo((2 / Math.PI) * Math.asin(Math.sqrt(0.2)), 12);
  for (const share of [0.001, 0.2, 0.77, 0.999])
    expect(betaShare(betaQuantile(share, 0.6, 0.6), 0.6, 0.6)).toBeCloseTo(share, 10);
  expect([betaQuantile(0, 2, 3), betaQuantile(1, 2, 3)]).toEqual([0, 1]);
});
