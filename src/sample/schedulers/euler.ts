// Euler steps along the flow: each moves the sample by the model's velocity times the fall in noise.
// Not in the official code; it uses the noise levels of the official DPM++ schedule (from pure noise, σ = 1).
import { shiftedLevels } from "./noise-levels.ts";
import { BaseScheduler, type SchedulerOptions } from "./scheduler.ts";

export class EulerScheduler extends BaseScheduler {
  readonly kind = "euler";

  constructor(options: SchedulerOptions) {
    super(shiftedLevels(1, options), options);
  }

  protected keptAt(): readonly string[] {
    return [];
  }

  protected advance(index: number, velocity: Float32Array, sample: Float32Array): Float32Array {
    this.lastOrder = 1;
    const fall = Math.fround(this.sigmas[index + 1]! - this.sigmas[index]!);
    const next = new Float32Array(sample.length);
    for (let i = 0; i < next.length; i++) next[i] = sample[i]! + Math.fround(fall * velocity[i]!);
    return next;
  }
}
