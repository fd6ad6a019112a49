// What every sampler offers: the noise levels it visits, and one step from noise towards the clip. A step asks the model
// as often as it needs to and draws noise where it needs some. Works on float32 latents of any shape on the host; knows
// nothing of models, guidance or experts.
import { KinoraError } from "../../base/errors.ts";
import type { RowSettings } from "../../base/table.ts";
import { predictClean } from "./noise-levels.ts";
import type { NoiseLevels } from "./schedules/index.ts";

/** What every sampler is told; what else one takes is in its row (sampler.ts). */
export interface ScheduleOptions {
  /** At least 1. Some schedules make fewer or more of it. */
  steps: number;
  /** Timestep shift s: σ becomes s·σ / (1 + (s − 1)·σ). 1 leaves the schedule as it is. */
  shift: number;
  /** A name of the table of schedules; `official` where absent. */
  schedule?: string | undefined;
  scheduleOptions?: RowSettings | undefined;
}

/** A question to the model in the middle of a step. The answer is its velocity (noise − clip), as long as the sample. */
export interface Evaluation {
  /** What the model is shown; not to be changed. */
  readonly sample: Float32Array;
  /** 0…1000, as it is handed to the model. */
  readonly timestep: number;
  readonly sigma: number;
}

/**
 * Standard normal numbers of a step, as long as the latents. Draw 0, 1, … are apart from each other and from every other
 * step's, and the same whenever they are asked for, so that a run that goes on draws what the unbroken one drew.
 */
export type StepNoise = (draw: number) => Float32Array;

/** Everything a sampler remembers between steps, ready to be written to a file. */
export interface SchedulerState {
  /** The sampler's name. */
  kind: string;
  steps: number;
  shift: number;
  /** Steps done so far. */
  step: number;
  /** Order of the last step (0 before the first). */
  order: number;
  /** Earlier samples and predictions, by name; each as long as the latents. */
  tensors: Readonly<Record<string, Float32Array>>;
}

/** Work that asks the model: yields what it is to be asked, takes the answers, returns what comes of them. */
export type Asking<T> = Generator<Evaluation, T, Float32Array>;

/** A sampler under way: the noise levels it visits, and one step after the other. */
export interface Scheduler {
  readonly kind: string;
  /** Of the first evaluation of each step; they decide which expert runs the step. [steps] */
  readonly timesteps: readonly number[];
  /** Noise levels, falling, the last one 0. As many as the schedule makes of the steps asked for, and one. */
  readonly sigmas: Float32Array;
  readonly shift: number;
  /** Steps done so far. */
  readonly position: number;
  /**
   * The next step. Neither the sample nor an answer is changed or kept. A step that is given up in the middle leaves the
   * scheduler where it was.
   * Throws `scheduler.finished` after the last step, `scheduler.size` where lengths differ.
   */
  step(sample: Float32Array, noise: StepNoise): Asking<Float32Array>;
  /** A snapshot; a scheduler of the same sampler and options that restores it goes on bit for bit. */
  state(): SchedulerState;
  /** Throws `scheduler.state-mismatch` for a state of another sampler or other options. */
  restore(state: SchedulerState): void;
}

/** Takes the next step where answers are at hand at once. Throws as {@link Scheduler.step} does. */
export function takeStep(
  scheduler: Scheduler,
  sample: Float32Array,
  answer: (evaluation: Evaluation) => Float32Array,
  noise: StepNoise = noNoise,
): Float32Array {
  const step = scheduler.step(sample, noise);
  let move = step.next();
  while (!move.done) move = step.next(answer(move.value));
  return move.value;
}

function noNoise(): never {
  throw new KinoraError("scheduler.no-noise", "this sampler needs a noise source");
}

/** The bookkeeping all samplers share. A subclass computes one step and names the tensors it keeps. */
export abstract class BaseScheduler implements Scheduler {
  abstract readonly kind: string;
  readonly timesteps: readonly number[];
  readonly sigmas: Float32Array;
  readonly shift: number;
  #position = 0;
  /** Order of the last step; the next one may be one higher. */
  protected lastOrder = 0;
  /** Kept between steps. Entries are replaced, never written into, so that a snapshot may share them. */
  protected kept: Record<string, Float32Array> = {};

  constructor({ sigmas, timesteps }: NoiseLevels, { shift }: ScheduleOptions) {
    this.sigmas = sigmas;
    this.timesteps = timesteps;
    this.shift = shift;
  }

  get position(): number {
    return this.#position;
  }

  *step(sample: Float32Array, noise: StepNoise): Asking<Float32Array> {
    const index = this.#position;
    if (index >= this.timesteps.length) {
      throw new KinoraError("scheduler.finished", `all ${this.timesteps.length} steps are already done`);
    }
    const kept = Object.values(this.kept)[0]?.length ?? sample.length;
    checkLength("the sample", sample, kept);
    const { next, keep = {}, order = 1 } = yield* this.advance(index, sample, noise);
    this.kept = keep;
    this.lastOrder = order;
    this.#position = index + 1;
    return next;
  }

  /** Asks the model about `sample` at one of the noise levels, by its index, or at another in between. */
  protected *ask(sample: Float32Array, at: number | Omit<Evaluation, "sample">): Asking<Float32Array> {
    const level = typeof at === "number" ? { timestep: this.timesteps[at]!, sigma: this.sigmas[at]! } : at;
    const velocity = yield { sample, ...level };
    checkLength("the model's answer", velocity, sample.length);
    return velocity;
  }

  /** The clip that the model predicts from `sample`; see {@link ask}. */
  protected *predict(sample: Float32Array, at: number | Omit<Evaluation, "sample">): Asking<Float32Array> {
    const velocity = yield* this.ask(sample, at);
    return predictClean(sample, velocity, typeof at === "number" ? this.sigmas[at]! : at.sigma);
  }

  /** Whether step `index` ends without noise. */
  protected isLast(index: number): boolean {
    return this.sigmas[index + 1] === 0;
  }

  state(): SchedulerState {
    return {
      kind: this.kind,
      steps: this.timesteps.length,
      shift: this.shift,
      step: this.#position,
      order: this.lastOrder,
      tensors: { ...this.kept },
    };
  }

  restore(state: SchedulerState): void {
    const { shift } = this;
    const steps = this.timesteps.length;
    if (state.kind !== this.kind || state.steps !== steps || state.shift !== shift) {
      throw new KinoraError("scheduler.state-mismatch", "the saved state belongs to another sampler", {
        expected: `${this.kind}, ${steps} steps, shift ${shift}`,
        actual: `${state.kind}, ${state.steps} steps, shift ${state.shift}`,
        hint: "continue with those settings, or delete the saved latents to start over",
      });
    }
    const names = this.keptAt(state.step);
    const lengths = new Set(names.map((name) => state.tensors[name]?.length));
    const inRange = Number.isInteger(state.step) && state.step >= 0 && state.step <= steps;
    if (!inRange || lengths.size > 1 || lengths.has(undefined)) {
      throw new KinoraError("scheduler.state-mismatch", "the saved state is incomplete", {
        expected: `a step from 0 to ${steps}, and equally long ${names.join(", ")}`,
        actual: `step ${state.step} with ${Object.keys(state.tensors).join(", ") || "no tensors"}`,
        hint: "delete the saved latents to start over",
      });
    }
    this.#position = state.step;
    this.lastOrder = state.order;
    this.kept = Object.fromEntries(names.map((name) => [name, state.tensors[name]!]));
  }

  /** The names in `kept` after `step` steps. */
  protected abstract keptAt(step: number): readonly string[];

  /** Computes step `index` from `kept` and `lastOrder`, and what to keep of it; changes nothing itself. */
  protected abstract advance(index: number, sample: Float32Array, noise: StepNoise): Asking<Advance>;
}

/** What a step comes to. */
export interface Advance {
  next: Float32Array;
  /** The new `kept`; nothing where absent. */
  keep?: Record<string, Float32Array>;
  /** Order of this step; 1 where absent. */
  order?: number;
}

function checkLength(what: string, values: Float32Array, expected: number): void {
  if (values.length === expected) return;
  throw new KinoraError("scheduler.size", `${what} must be as long as the latents of the step before`, {
    expected: `${expected} elements`,
    actual: `${values.length}`,
  });
}
