// Several films with experts that somebody else holds, as training's previews need them: all films take their steps with
// one expert before the other is asked for, since each change loads a model. One film with its own files: pipeline.ts.
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Device } from "../device/device.ts";
import { makeFolder } from "../io/atomic.ts";
import type { WanDit } from "../models/wan/dit/dit.ts";
import type { LatentShape } from "../models/wan/image-condition.ts";
import { loadVae } from "../models/wan/load.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { Expert } from "../models/wan/recognize.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type DenoiseStep, denoise, expertAt, type HostText, uploadText } from "./denoise.ts";
import { drawNoise } from "./noise.ts";
import { encodePicture, latentShape, type PictureCondition, preparePicture } from "./picture.ts";
import { guidanceOf } from "./request.ts";
import { createScheduler } from "./schedulers/index.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";
import { writeFilm } from "./video-output.ts";

/** One film; what is absent comes from the model. */
export interface FilmRequest {
  /** Written into the file. */
  prompt: string;
  text: { positive: HostText; negative: HostText };
  seed: bigint;
  /** Pixels; with a picture only the area counts. */
  width?: number;
  height?: number;
  frames?: number;
  steps?: number;
  /** Of both experts. */
  guidance?: number;
  shift?: number;
  /** The picture to begin with. */
  image?: string;
  /** The MP4 to write, whole or not at all. */
  out: string;
}

export interface FilmsRequest {
  model: WanModel;
  /** The σ where the experts change; undefined for a model without experts. */
  boundary: number | undefined;
  device: Device;
  vae: { path: string; dtype: "f32" | "bf16" };
  /** The transformer of an expert; the one before it may be gone then. Asked for each expert's steps of each film. */
  expert(which: Expert): WanDit | Promise<WanDit>;
  films: readonly FilmRequest[];
  signal?: AbortSignal;
}

export type FilmsEvent =
  /** A film is `done` steps of `of` far. */
  | { type: "step"; index: number; done: number; of: number }
  /** A film is written; `seconds` are its own. */
  | { type: "film"; index: number; seconds: number };

/** Makes the films. Throws `size.*`, `media.*`, `image.*`, `generate.*`, `sample.*`, `io.*`, and what `signal` says. */
export async function* makeFilms(request: FilmsRequest): AsyncGenerator<FilmsEvent, void> {
  const { device, model, vae, films, signal } = request;
  const pictures = await encodePictures(request);
  const runs: FilmRun[] = [];
  try {
    for (const [i, film] of films.entries()) runs.push(new FilmRun(request, film, pictures[i]!));
    // Without a boundary the one transformer is `low`.
    for (const which of ["high", "low"] as const) {
      for (const [index, run] of runs.entries()) {
        while (run.expert === which) {
          await run.step();
          yield { type: "step", index, done: run.done, of: run.steps };
          await nextTurn();
          signal?.throwIfAborted();
        }
      }
    }
  } finally {
    for (const run of runs) run[Symbol.dispose]();
  }
  using decoder = loadVae(device, vae.path, { dtype: vae.dtype, half: "decoder" });
  for (const [index, { film, size, latents, shape, seconds }] of runs.entries()) {
    const started = performance.now();
    await makeFolder(dirname(film.out));
    const chunks = writeFilm(film.out, decoder, latents, shape, {
      ...size,
      fps: model.defaults.fps,
      metadata: { comment: film.prompt },
    });
    for await (const _chunk of chunks) signal?.throwIfAborted();
    yield { type: "film", index, seconds: seconds + (performance.now() - started) / 1000 };
  }
}

/** What is known of a film before its first step. */
interface Placed {
  size: { width: number; height: number };
  shape: LatentShape;
  condition: PictureCondition | undefined;
}

/** Sizes of all films, and the latents of their pictures; the encoder is loaded once, where there is one. */
async function encodePictures({ model, device, vae, films, signal }: FilmsRequest): Promise<Placed[]> {
  const { defaults } = model;
  using encoder = films.some(({ image }) => image !== undefined)
    ? loadVae(device, vae.path, { dtype: vae.dtype, half: "encoder" })
    : undefined;
  const placed: Placed[] = [];
  for (const { image, width = defaults.width, height = defaults.height, frames = defaults.frames } of films) {
    signal?.throwIfAborted();
    const picture = image === undefined ? undefined : await preparePicture(model, image, { width, height });
    const size = picture ? { width: picture.width, height: picture.height } : { width, height };
    const shape = latentShape(model, size, frames);
    const condition = picture && encoder && (await encodePicture(encoder, model, picture, shape, frames));
    placed.push({ size, shape, condition });
    await nextTurn();
  }
  return placed;
}

/** One film on its way from noise to latents, a step at a time; its embeddings lie on the device until it is disposed of. */
class FilmRun implements Disposable {
  readonly film: FilmRequest;
  readonly size: Placed["size"];
  readonly shape: LatentShape;
  readonly steps: number;
  latents: Float32Array;
  done = 0;
  /** Of its own steps. */
  seconds = 0;
  readonly #boundary: number | undefined;
  readonly #scheduler: Scheduler;
  readonly #texts: readonly [positive: Tensor, negative: Tensor];
  readonly #loop: AsyncGenerator<DenoiseStep>;

  constructor(
    { model, boundary, device, expert }: FilmsRequest,
    film: FilmRequest,
    { size, shape, condition }: Placed,
  ) {
    const { steps = model.defaults.steps, shift = model.defaults.shift, guidance = model.defaults.guidance } = film;
    this.film = film;
    this.size = size;
    this.shape = shape;
    this.steps = steps;
    this.#boundary = boundary;
    this.#scheduler = createScheduler("unipc", { steps, shift });
    const volume = shape.reduce((product, side) => product * side, 1);
    this.latents = drawNoise({ kind: "kinora" }, film.seed, volume);
    const [positive, negative] = [uploadText(device, film.text.positive), uploadText(device, film.text.negative)];
    this.#texts = [positive, negative];
    this.#loop = denoise({
      expert,
      ...(boundary === undefined ? {} : { boundary }),
      scheduler: this.#scheduler,
      latents: this.latents,
      shape,
      text: { positive, negative },
      guidance: guidanceOf(guidance),
      ...condition,
    });
  }

  /** Whose the next step is; undefined after the last. */
  get expert(): Expert | undefined {
    return this.done < this.steps ? expertAt(this.#scheduler.timesteps[this.done]!, this.#boundary) : undefined;
  }

  async step(): Promise<void> {
    const started = performance.now();
    const { value, done } = await this.#loop.next();
    if (done) return;
    this.latents = value.latents;
    this.done++;
    this.seconds += (performance.now() - started) / 1000;
  }

  [Symbol.dispose](): void {
    for (const text of this.#texts) text[Symbol.dispose]();
  }
}
