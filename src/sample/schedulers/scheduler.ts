// What every sampler offers: the timesteps the model is asked at, and one step from noise towards the clip.
// Works on float32 latents of any shape on the host; knows nothing of models, guidance or experts.
import { KinoraError } from "../../base/errors.ts";

export type SchedulerKind = "unipc" | "dpm++" | "euler";

export interface SchedulerOptions {
  /** Number of model evaluations, at least 1. */
  steps: number;
  /** Timestep shift s: σ becomes s·σ / (1 + (s − 1)·σ). 1 leaves the schedule as it is. */
  shift: number;
}

/** Everything a sampler remembers between steps, ready to be written to a file. */
export interface SchedulerState {
  kind: SchedulerKind;
  steps: number;
  shift: number;
  /** Steps done so far. */
  step: number;
  /** Order of the last step (0 before the first). */
  order: number;
  /** Earlier samples and predictions, by name; each as long as the latents. */
  tensors: Readonly<Record<string, Float32Array>>;
}

export interface Scheduler {
  readonly kind: SchedulerKind;
  /** The integers handed to the model. [steps] */
  readonly timesteps: readonly number[];
  /** Noise levels, falling, the last one 0. [steps + 1] */
  readonly sigmas: Float32Array;
  /** Steps done so far. */
  readonly position: number;
  /**
   * The sample after the next step.
   * @param velocity the model's prediction (noise − clip) at `timesteps[position]`; the same length as `sample`
   * @param sample the current latents; neither argument is changed or kept
   * Throws `scheduler.finished` after the last step, `scheduler.size` where lengths differ.
   */
  step(velocity: Float32Array, sample: Float32Array): Float32Array;
  /** A snapshot; a scheduler of the same kind and options that restores it goes on bit for bit. */
  state(): SchedulerState;
  /** Throws `scheduler.state-mismatch` for a state of another kind or other options. */
  restore(state: SchedulerState): void;
}

/** The bookkeeping all samplers share. A subclass computes one step and names the tensors it keeps. */
export abstract class BaseScheduler implements Scheduler {
  abstract readonly kind: SchedulerKind;
  readonly timesteps: readonly number[];
  readonly sigmas: Float32Array;
  readonly #options: SchedulerOptions;
  #position = 0;
  /** Order of the last step; the next one may be one higher. */
  protected lastOrder = 0;
  /** Kept between steps. Entries are replaced, never written into, so that a snapshot may share them. */
  protected kept: Record<string, Float32Array> = {};

  /** @param levels falling noise levels in float64, without the final 0. [steps] */
  constructor(levels: readonly number[], options: SchedulerOptions) {
    this.#options = { steps: options.steps, shift: options.shift };
    // Integers by truncation of the float64 levels; the levels themselves are rounded to float32 afterwards.
    this.timesteps = levels.map((sigma) => Math.trunc(sigma * TRAIN_TIMESTEPS));
    this.sigmas = Float32Array.from([...levels, 0]);
    for (let i = 0; i + 1 < this.sigmas.length; i++) {
      if (this.sigmas[i]! <= this.sigmas[i + 1]!) {
        throw new KinoraError("scheduler.too-many-steps", "neighbouring noise levels coincide in float32", {
          actual: `${options.steps} steps at shift ${options.shift}`,
          hint: "Take fewer steps or a smaller shift.",
        });
      }
    }
  }

  get position(): number {
    return this.#position;
  }

  step(velocity: Float32Array, sample: Float32Array): Float32Array {
    const index = this.#position;
    if (index >= this.timesteps.length) {
      throw new KinoraError("scheduler.finished", `all ${this.timesteps.length} steps are done`);
    }
    const kept = Object.values(this.kept)[0]?.length ?? sample.length;
    if (velocity.length !== sample.length || sample.length !== kept) {
      throw new KinoraError("scheduler.size", "velocity and sample must be as long as the latents of the last step", {
        expected: `${kept} elements`,
        actual: `${velocity.length} and ${sample.length}`,
      });
    }
    const next = this.advance(index, velocity, sample);
    this.#position = index + 1;
    return next;
  }

  state(): SchedulerState {
    const { steps, shift } = this.#options;
    return {
      kind: this.kind,
      steps,
      shift,
      step: this.#position,
      order: this.lastOrder,
      tensors: { ...this.kept },
    };
  }

  restore(state: SchedulerState): void {
    const { steps, shift } = this.#options;
    if (state.kind !== this.kind || state.steps !== steps || state.shift !== shift) {
      throw new KinoraError("scheduler.state-mismatch", "the saved state belongs to another sampler", {
        expected: `${this.kind}, ${steps} steps, shift ${shift}`,
        actual: `${state.kind}, ${state.steps} steps, shift ${state.shift}`,
        hint: "go on with those settings, or delete the saved latents to begin anew",
      });
    }
    const names = this.keptAt(state.step);
    const lengths = new Set(names.map((name) => state.tensors[name]?.length));
    const inRange = Number.isInteger(state.step) && state.step >= 0 && state.step <= steps;
    if (!inRange || lengths.size > 1 || lengths.has(undefined)) {
      throw new KinoraError("scheduler.state-mismatch", "the saved state is incomplete", {
        expected: `a step from 0 to ${steps}, and equally long ${names.join(", ")}`,
        actual: `step ${state.step} with ${Object.keys(state.tensors).join(", ") || "no tensors"}`,
        hint: "delete the saved latents to begin anew",
      });
    }
    this.#position = state.step;
    this.lastOrder = state.order;
    this.kept = Object.fromEntries(names.map((name) => [name, state.tensors[name]!]));
  }

  /** The names in `kept` after `step` steps. */
  protected abstract keptAt(step: number): readonly string[];

  /** Computes the sample after step `index`, and updates `kept` and `lastOrder`. */
  protected abstract advance(index: number, velocity: Float32Array, sample: Float32Array): Float32Array;
}

/** Timesteps run from 0 to 1000, as in training. */
export const TRAIN_TIMESTEPS = 1000;
