// Several films with one pair of experts in memory at a time: previews of training, grids. Each film makes all its steps
// with one expert before the other is asked for, since each change loads a model. One film with its own files: pipeline.ts.
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { RowSettings } from "../base/table.ts";
import type { Device } from "../device/device.ts";
import { makeFolder } from "../io/atomic.ts";
import { checkAutoencoder } from "../models/wan/check-files.ts";
import { type HostCondition, type LatentShape, pictureLatents } from "../models/wan/conditioning.ts";
import type { WanDit } from "../models/wan/dit/dit.ts";
import { latentSize } from "../models/wan/geometry.ts";
import { loadDecoder, loadVae } from "../models/wan/load.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { Expert } from "../models/wan/recognize.ts";
import type { HostTensor } from "../tensor/host-tensor.ts";
import { FilmRun } from "./film-run.ts";
import { filmSettings } from "./film-settings.ts";
import type { GuidanceChoice } from "./guidance/index.ts";
import { checkMemory } from "./memory-check.ts";
import { DEFAULT_NOISE } from "./noise/index.ts";
import { preparePicture } from "./picture.ts";
import { guidanceOf } from "./sampling.ts";
import { DEFAULT_SAMPLER } from "./schedulers/index.ts";
import { writeFilm } from "./video-output.ts";

/** One film; what is absent comes from the model. */
export interface FilmRequest {
  /** Written into the file. */
  prompt: string;
  text: { positive: HostTensor; negative: HostTensor };
  seed: bigint;
  /** Pixels; with a picture only the area counts. */
  width?: number;
  height?: number;
  frames?: number;
  steps?: number;
  sampler?: string;
  samplerOptions?: RowSettings;
  noise?: string;
  /** Of both experts. */
  guidance?: GuidanceChoice;
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
  const { device, model, vae, films, signal, expert } = request;
  const placed = await placeFilms(request);
  const runs: FilmRun[] = [];
  try {
    for (const [i, film] of films.entries()) runs.push(startRun(request, film, placed[i]!));
    // Without a boundary the one transformer is `low`.
    for (const which of ["high", "low"] as const) {
      for (const [index, run] of runs.entries()) {
        while (run.expert === which) {
          await run.step(await expert(which));
          yield { type: "step", index, done: run.done, of: run.steps };
          await nextTurn();
          signal?.throwIfAborted();
        }
      }
    }
  } finally {
    for (const run of runs) run[Symbol.dispose]();
  }
  using decoder = loadDecoder(device, vae.path, { dtype: vae.dtype });
  for (const [index, { out, prompt }] of films.entries()) {
    const started = performance.now();
    const { latents, shape, seconds } = runs[index]!;
    await makeFolder(dirname(out));
    const chunks = writeFilm(out, decoder, latents, shape, {
      ...placed[index]!.size,
      fps: model.defaults.fps,
      metadata: { comment: prompt },
    });
    for await (const _chunk of chunks) signal?.throwIfAborted();
    yield { type: "film", index, seconds: seconds + (performance.now() - started) / 1000 };
  }
}

/** What is known of a film before its first step. */
interface Placed {
  size: { width: number; height: number };
  shape: LatentShape;
  condition: HostCondition | undefined;
}

/** Sizes of all films, and the latents of their pictures; the encoder is loaded once, where there is one. */
async function placeFilms({ model, device, vae, films, signal }: FilmsRequest): Promise<Placed[]> {
  const { defaults } = model;
  const { config } = checkAutoencoder(vae.path, model);
  using encoder = films.some(({ image }) => image !== undefined)
    ? loadVae(device, vae.path, { dtype: vae.dtype, half: "encoder" })
    : undefined;
  const placed: Placed[] = [];
  for (const { image, width = defaults.width, height = defaults.height, frames = defaults.frames } of films) {
    signal?.throwIfAborted();
    const accept = (sides: { width: number; height: number }) =>
      checkMemory({ model, vae: config, dtype: "bf16" }, { ...sides, frames }, device);
    const picture = image === undefined ? undefined : await preparePicture(model, image, { width, height }, accept);
    const size = picture ? { width: picture.width, height: picture.height } : { width, height };
    if (!picture) accept(size);
    const { shape } = latentSize(model, { ...size, frames });
    const condition =
      picture && encoder
        ? { image: model.image, latents: await pictureLatents(encoder, model.image, picture, frames, signal) }
        : undefined;
    placed.push({ size, shape, condition });
    await nextTurn();
  }
  return placed;
}

function startRun({ model, boundary, device }: FilmsRequest, film: FilmRequest, { shape, condition }: Placed): FilmRun {
  const { defaults } = model;
  const settings = filmSettings({
    sampler: film.sampler ?? DEFAULT_SAMPLER,
    samplerOptions: film.samplerOptions,
    steps: film.steps ?? defaults.steps,
    shift: film.shift ?? defaults.shift,
    noise: film.noise ?? DEFAULT_NOISE,
    seed: film.seed,
    guidance: guidanceOf(film.guidance ?? defaults.guidance),
    boundary,
  });
  return new FilmRun(device, settings, { shape, text: film.text, condition });
}
