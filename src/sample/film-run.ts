// One run of one film: from noise, or from where a run was stopped, to latents, a step at a time. Its sampler, the
// guidance of each expert and its condition are values. Not the models: whoever runs it hands in the transformer of the
// step's expert. Files are the pipeline's, several films at once those of films.ts.
// https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/text2video.py#L330-L376
import { setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../base/errors.ts";
import { elementCount } from "../base/shape.ts";
import type { Device } from "../device/device.ts";
import {
  type Condition,
  type HostCondition,
  imposeGiven,
  type LatentShape,
  loadCondition,
  modelInput,
} from "../models/wan/conditioning.ts";
import type { DitInput, WanDit } from "../models/wan/dit/dit.ts";
import { KeptKeys } from "../models/wan/dit/kept-keys.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { type HostTensor, upload } from "../tensor/host-tensor.ts";
import { openScope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CachedEvaluation, type CacheEntry } from "./cached-passes.ts";
import type { StepCache } from "./caches/cache.ts";
import type { Guidance, Pass, Place, RunMemory, TextRole } from "./guidance/guidance.ts";
import { stepNoise } from "./noise/kinora.ts";
import type { NoiseSource } from "./noise/source.ts";
import type { Scheduler, SchedulerState } from "./schedulers/scheduler.ts";

export interface FilmSettings {
  /** At its first step, or where the run goes on. */
  scheduler: Scheduler;
  noise: NoiseSource;
  seed: bigint;
  /** Of each expert; a model with one transformer uses `low`. */
  guidance: Readonly<Record<Expert, Guidance>>;
  /** The high-noise expert runs while t ≥ boundary·1000; without it the one model is "low". */
  boundary: number | undefined;
  /** Answers passes from what it kept of steps before. */
  cache?: StepCache | undefined;
}

export interface FilmInput {
  shape: LatentShape;
  /** Embeddings [tokens, textDim]; the negative ones where a guidance asks for them. */
  /** NAG leads away from its own text, the negative one where that is absent. */
  text: { positive: HostTensor; negative?: HostTensor | undefined; nag?: HostTensor | undefined };
  condition?: HostCondition | undefined;
}

/** Everything a run that goes on needs beside its settings and input. */
export interface FilmState {
  /** float32 [C, F, h, w] */
  latents: Float32Array;
  scheduler: SchedulerState;
  memory: RunMemory;
}

export interface FilmStep {
  /** From 0. */
  step: number;
  steps: number;
  timestep: number;
  expert: Expert;
  /** After this step; never written into again. */
  latents: Float32Array;
  /** The model's answers in the step's last evaluation, one a pass, and the velocity they came to. */
  answers: readonly Float32Array[];
  velocity: Float32Array;
  /** Passes of the transformer in all; those that a cache answered are none. */
  passes: number;
  /** What the step cache did with each pass of each evaluation; empty without one. */
  cache: readonly CacheEntry[];
  seconds: number;
}

/** What one evaluation came to. */
interface Evaluated extends Pick<FilmStep, "answers" | "velocity"> {
  /** Passes that the transformer made. */
  computed: number;
  entries: readonly CacheEntry[];
}

export class FilmRun implements Disposable {
  readonly shape: LatentShape;
  readonly steps: number;
  /** Of this run's own steps. */
  seconds = 0;
  readonly #settings: FilmSettings;
  readonly #given: HostCondition | undefined;
  readonly #texts: Readonly<Partial<Record<TextRole | "nag", Tensor>>>;
  readonly #condition: (Condition & Disposable) | undefined;
  /** Of the expert whose steps are being made. */
  readonly #kept: Readonly<Record<TextRole | "nag", KeptKeys>> = {
    positive: new KeptKeys(),
    negative: new KeptKeys(),
    nag: new KeptKeys(),
  };
  #latents: Float32Array;
  #memory: RunMemory;

  /**
   * Texts and conditions lie on the device until it is disposed of.
   * @param from goes on from there; given latents alone are taken for the noise
   */
  constructor(device: Device, settings: FilmSettings, input: FilmInput, from: Partial<FilmState> = {}) {
    const { scheduler, noise, seed } = settings;
    const { shape, text, condition } = input;
    if (from.scheduler) scheduler.restore(from.scheduler);
    this.shape = shape;
    this.steps = scheduler.timesteps.length;
    this.#settings = settings;
    this.#memory = new Map(from.memory);
    this.#given = condition;
    this.#latents = this.#imposed(from.latents?.slice() ?? noise(seed, elementCount(shape)));
    this.#condition = condition && loadCondition(device, condition);
    this.#texts = {
      positive: upload(device, text.positive),
      ...(text.negative ? { negative: upload(device, text.negative) } : {}),
      ...(text.nag ? { nag: upload(device, text.nag) } : {}),
    };
  }

  /** As they are now; never written into again. */
  get latents(): Float32Array {
    return this.#latents;
  }

  /** Steps done. */
  get done(): number {
    return this.#settings.scheduler.position;
  }

  /** The noise level the latents are at; 0 at the end. */
  get sigma(): number {
    return this.#settings.scheduler.sigmas[this.done]!;
  }

  /** Whose the next step is; undefined after the last. */
  get expert(): Expert | undefined {
    const timestep = this.#settings.scheduler.timesteps[this.done];
    return timestep === undefined ? undefined : this.#expertAt(timestep);
  }

  #expertAt(timestep: number): Expert {
    const { boundary } = this.#settings;
    return boundary !== undefined && timestep >= boundary * 1000 ? "high" : "low";
  }

  /** What a run that goes on bit for bit needs. */
  state(): FilmState {
    return { latents: this.#latents, scheduler: this.#settings.scheduler.state(), memory: new Map(this.#memory) };
  }

  /**
   * The next step, with the transformer of `expert`. A step that fails leaves the run where it was.
   * Throws `scheduler.finished`, `sample.not-finite`.
   */
  async step(model: WanDit): Promise<FilmStep> {
    const started = performance.now();
    const { scheduler, seed } = this.#settings;
    const { done: step, expert = "low", latents: sample, steps } = this;
    const timestep = scheduler.timesteps[step]!;
    const count = sample.length;
    const work = scheduler.step(sample, (draw) => stepNoise(seed, step, draw, count));
    const { shift, timesteps } = scheduler;
    const highSteps = timesteps.filter((each) => this.#expertAt(each) === "high").length;
    const where = { step, steps, expert, highSteps, shift, shape: this.shape };
    // Of its own until the step is done.
    const memory: RunMemory = new Map(this.#memory);
    let passes = 0;
    const cache: CacheEntry[] = [];
    let last: Pick<FilmStep, "answers" | "velocity"> | undefined;
    let move = work.next();
    while (!move.done) {
      if (last) await nextTurn();
      const { computed, entries, ...rest } = await this.#evaluate(model, { ...where, ...move.value }, memory);
      last = rest;
      passes += computed;
      cache.push(...entries);
      move = work.next(last.velocity);
    }
    this.#latents = this.#imposed(move.value);
    this.#memory = memory;
    const seconds = (performance.now() - started) / 1000;
    this.seconds += seconds;
    if (this.expert !== expert) this.#forgetKeys();
    return { step, steps, timestep, expert, latents: this.#latents, ...last!, passes, cache, seconds };
  }

  async #evaluate(model: WanDit, place: Place, memory: RunMemory): Promise<Evaluated> {
    const guidance = this.#settings.guidance[place.expert];
    const passes = guidance.passes(place);
    const { cache } = this.#settings;
    const cached =
      cache && passes.length > 0 ? await CachedEvaluation.begin(cache, model, place, passes, memory) : undefined;
    const entries = cached?.entries ?? [];
    const kept = cached?.guided;
    if (kept) return { answers: [], velocity: kept, computed: 0, entries };
    const answers: Float32Array[] = [];
    for (const [index, pass] of passes.entries()) {
      // Signals and timers wait for a turn of the event loop, and a pass of a large model takes minutes.
      if (index > 0) await nextTurn();
      answers.push(
        cached?.kept(index) ??
          (await this.#predict(model, pass, place, (input) =>
            cached ? cached.run(index, model, input) : model.forward(input),
          )),
      );
    }
    const velocity = guidance.combine(answers, place, memory);
    if (velocity.some((value) => !Number.isFinite(value))) {
      throw new KinoraError(
        "sample.not-finite",
        `the ${place.expert}-noise model produced NaN or infinity at step ${place.step + 1}`,
        { hint: "check the weights (kinora models inspect) and LoRA strengths" },
      );
    }
    cached?.end(answers, velocity);
    const computed = passes.length - entries.filter(({ skip }) => skip).length;
    return { answers, velocity, computed, entries };
  }

  async #predict(
    model: WanDit,
    pass: Pass,
    place: Place,
    run: (input: DitInput) => Tensor | Promise<Tensor>,
  ): Promise<Float32Array> {
    using _scope = openScope(model.device);
    const shown = modelInput(
      model.device,
      [
        {
          shape: this.shape,
          timestep: place.timestep,
          text: this.#texts[pass.text]!,
          condition: this.#condition,
          write: (out) => out.write(place.sample),
        },
      ],
      model.config.patchSize[1],
    );
    const velocity = await run({ ...shown, kept: this.#kept[pass.text], ...this.#changes(pass) });
    return velocity.read();
  }

  #changes({ skipBlocks, nag, enhance }: Pass): Pick<DitInput, "changes"> {
    if (!skipBlocks && !nag && !enhance) return {};
    const { nag: own, negative } = this.#texts;
    return {
      changes: {
        ...(skipBlocks ? { skipBlocks } : {}),
        ...(nag ? { nag: { ...nag, texts: [own ?? negative!], kept: this.#kept[own ? "nag" : "negative"] } } : {}),
        ...(enhance ? { enhance } : {}),
      },
    };
  }

  /** `latents` with what is given of them put in, in place. */
  #imposed(latents: Float32Array): Float32Array {
    if (this.#given) imposeGiven(latents, this.#given, this.shape);
    return latents;
  }

  #forgetKeys(): void {
    for (const kept of Object.values(this.#kept)) kept.forget();
  }

  [Symbol.dispose](): void {
    this.#forgetKeys();
    for (const text of Object.values(this.#texts)) text[Symbol.dispose]();
    this.#condition?.[Symbol.dispose]();
  }
}
