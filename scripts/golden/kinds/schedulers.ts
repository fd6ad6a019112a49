// Fixtures of the samplers: their timesteps, sigmas, and a toy trajectory step by step.
import { createScheduler, type SamplerName } from "../../../src/sample/schedulers/index.ts";
import { takeStep } from "../../../src/sample/schedulers/scheduler.ts";
import type { Fixture } from "../fixture.ts";

/** The recorded velocity field, in float32: sin(3x)·0.5 + 0.1·cos(t/1000·6). */
function velocity(x: Float32Array, timestep: number): Float32Array {
  const drift = 0.1 * Math.cos((timestep / 1000) * 6);
  return x.map((value) => Math.sin(3 * value) * 0.5 + drift);
}

export function scheduler(kind: SamplerName): (fixture: Fixture) => Promise<void> {
  return async (fixture) => {
    for (const { steps, shift, key } of fixture.config.combos as { steps: number; shift: number; key: string }[]) {
      const solver = createScheduler(kind, { steps, shift });
      fixture.compare(`${key}.timesteps`, solver.timesteps);
      fixture.compare(`${key}.sigmas`, solver.sigmas);
      let sample = fixture.values("inputs.x0");
      const trajectory = new Float32Array(steps * sample.length);
      for (let i = 0; i < steps; i++) {
        sample = takeStep(solver, sample, ({ sample: x, timestep }) => velocity(x, timestep));
        trajectory.set(sample, i * sample.length);
      }
      fixture.compare(`${key}.x`, trajectory);
    }
  };
}
