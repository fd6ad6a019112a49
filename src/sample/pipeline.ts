// A whole generation, from a request to an MP4: one run of one film (film-run.ts) with its files. Each network is loaded,
// used and freed before the next comes. Every step lies on disk before the next is told, so that a run that was cut off
// goes on bit for bit.
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import type { Device } from "../device/device.ts";
import { sweepPartials } from "../io/atomic.ts";
import type { HashCache } from "../io/content-hash.ts";
import { checkTiny } from "../models/wan/check-files.ts";
import { loadDecoder } from "../models/wan/load.ts";
import type { ClipDecoder } from "../models/wan/vae/streams.ts";
import { RECIPE_KEY, type Recipe } from "../protocol/recipe.ts";
import { writeCoefficients } from "./cache-file.ts";
import { calibration, coefficientsFrom } from "./caches/calibration.ts";
import { createCache } from "./caches/index.ts";
import { checkOutput, lockOutput } from "./checks.ts";
import { type DecodePlan, decodePlans } from "./decoding.ts";
import { encodePicture, encodeTexts } from "./encoding.ts";
import type { GenerateEvent } from "./events.ts";
import { checkNothingUnfinished, existingFilm, filmDifference, isSameFilm } from "./existing.ts";
import { Experts } from "./experts.ts";
import { FilmRun, type FilmStep } from "./film-run.ts";
import { filmSettings, runSteps } from "./film-settings.ts";
import {
  isFinished,
  LatentsSaver,
  latentsPath,
  loadLatents,
  removeLatents,
  type SavedLatents,
  type Wishes,
} from "./latents-file.ts";
import { type Preparation, prepare, resumable, resumeNotes } from "./preparation.ts";
import { hasPreview, middlePicture, previewFrames } from "./preview.ts";
import { cacheSubject, type GenerateRequest } from "./request.ts";
import { writeFilm } from "./video-output.ts";

export interface RunOptions {
  /** Where content hashes are remembered. */
  hashes: HashCache;
  /** Stops after the step or the frames at hand; what is done stays on disk. */
  signal?: AbortSignal | undefined;
  /** Go on from the latents beside the output, with what was wished for there. */
  resume?: boolean | undefined;
  /** The recipe this run repeats: where it differs from it is told. */
  repeats?: Recipe | undefined;
  /** Tell a preview after each step. */
  preview?: boolean | undefined;
  /** A tiny autoencoder's file, which makes the previews; a map of colours where absent. */
  previewVae?: string | undefined;
  /** Compute every pass, and write what step caches go by beside the film. */
  calibrateCache?: boolean | undefined;
  /** Called while a transformer is loaded, which is one piece of work. */
  loading?: ((bytes: number) => void) | undefined;
}

/**
 * Runs a request. The last event is `finished` or `interrupted`. Everything taken on the device is given back. A film
 * that is there already, made by the same recipe on the same device, is left as it is.
 * Throws `generate.*` and whatever reading, sampling and writing throw; latents that were saved stay.
 */
export async function* generate(
  request: GenerateRequest,
  device: Device,
  options: RunOptions,
): AsyncGenerator<GenerateEvent, void> {
  const started = performance.now();
  device.resetPeak();
  checkOutput(request.out);
  if (options.previewVae !== undefined) checkTiny(options.previewVae, request.model);
  using _lock = lockOutput(request.out);
  await sweepPartials(dirname(request.out), "abandoned");
  if (!options.resume) checkNothingUnfinished(request.out);
  const existing = await existingFilm(request.out);
  const plan = yield* prepare(request, device, options);
  if (!plan) {
    yield stoppedEarly(request, options);
    return;
  }
  const { recipe, latentsFile } = plan;
  yield { type: "recipe", recipe };
  const finished = (film: { frames: number; bytes: number }, latents: boolean): GenerateEvent => ({
    type: "finished",
    path: request.out,
    ...film,
    ...(latents ? { latents: latentsFile } : {}),
    seconds: (performance.now() - started) / 1000,
    peakBytes: device.memory().peak,
    recipe,
  });
  if (existing) {
    const kept = existsSync(latentsFile);
    if (isSameFilm(existing.recipe, recipe) && (kept || !request.keepLatents)) {
      yield { type: "note", text: `${request.out} is already finished with this recipe and was left unchanged` };
      yield finished({ frames: recipe.frames, bytes: existing.bytes }, kept);
      return;
    }
    const what = filmDifference(existing, recipe);
    yield { type: "note", text: `${request.out} is another video (${what}) and will be replaced` };
  }
  const saved = options.resume ? resumable(plan) : undefined;
  for (const text of saved ? resumeNotes(saved, device) : []) yield { type: "note", text };
  const wishes: Wishes = {
    calibrateCache: options.calibrateCache === true || saved?.wishes.calibrateCache === true,
    keepLatents: request.keepLatents || saved?.wishes.keepLatents === true,
    preview: options.preview === true || options.previewVae !== undefined || saved?.wishes.preview === true,
  };

  const latents =
    saved && isFinished(saved) ? saved.latents : yield* sample(plan, device, { ...options, ...wishes }, saved);
  if (!latents) return;

  const steps = runSteps(request);
  const film = yield* decode(plan, device, latents, options.signal);
  if (!film) {
    yield { type: "interrupted", step: steps, steps, latents: latentsFile };
    return;
  }
  if (!wishes.keepLatents) await removeLatents(latentsFile);
  yield finished(film, wishes.keepLatents);
}

/** Stopped before this run did anything: what a run before it saved still lies there. */
function stoppedEarly(request: GenerateRequest, { resume }: RunOptions): GenerateEvent {
  const latents = latentsPath(request.out);
  if (!resume || !existsSync(latents)) return { type: "interrupted", step: 0, steps: runSteps(request) };
  const { scheduler } = loadLatents(latents);
  return { type: "interrupted", step: scheduler.step, steps: scheduler.steps, latents };
}

/** From noise, or from saved latents, to finished ones, which are saved. Undefined where it was stopped. */
async function* sample(
  plan: Preparation,
  device: Device,
  options: RunOptions & Wishes,
  saved: SavedLatents | undefined,
): AsyncGenerator<GenerateEvent, Float32Array | undefined> {
  const { request, recipe, shape, latentsFile, picture, loras } = plan;
  const { model, boundary, dtype } = request;
  const steps = runSteps(request);
  const stopped = () => options.signal?.aborted === true;
  const interrupted = (step: number): GenerateEvent => ({
    type: "interrupted",
    step,
    steps,
    ...(step > 0 && existsSync(latentsFile) ? { latents: latentsFile } : {}),
  });
  const text = yield* encodeTexts(request, device);
  await nextTurn();
  const condition = picture && !stopped() ? yield* encodePicture(request, picture, device) : undefined;
  await nextTurn();
  if (stopped()) {
    yield interrupted(saved?.scheduler.step ?? 0);
    return undefined;
  }
  using painter =
    options.previewVae === undefined ? undefined : loadDecoder(device, options.previewVae, { dtype: "f32" });
  const previewed = options.preview && (painter !== undefined || hasPreview(plan.vae));
  if (options.preview && !previewed) {
    yield { type: "note", text: "no preview: there is no latent-to-RGB map for this autoencoder" };
  }

  const { calibrateCache } = options;
  const cache = calibrateCache
    ? calibration()
    : request.cache && createCache(request.cache, cacheSubject(model, request.size, request.image));
  using run = new FilmRun(device, filmSettings({ ...request, cache }), { shape, text, condition }, saved);
  using experts = new Experts(device, request.files, {
    config: model.dit,
    dtype,
    loras,
    blocks: request.blocks,
    loaded: options.loading,
  });
  const wishes = { keepLatents: options.keepLatents, preview: options.preview, calibrateCache };
  const saver = new LatentsSaver(latentsFile, run, { recipe, wishes });
  const begun = performance.now();
  const startStep = run.done;
  for (let which = run.expert; which !== undefined; which = run.expert) {
    if (experts.which !== which) {
      // Who reads the events may let an interrupt end the process here, which hears none while it loads.
      const problem = run.done > startStep ? await saver.save({ force: true }) : undefined;
      if (problem) yield { type: "note", text: problem };
      const what = boundary === undefined ? "the transformer" : `the ${which}-noise expert`;
      yield { type: "stage", stage: "load", detail: `loading ${what}` };
      experts.get(which);
      await nextTurn();
      if (stopped()) {
        yield interrupted(run.done);
        return undefined;
      }
      yield {
        type: "stage",
        stage: "sample",
        detail: boundary === undefined ? "sampling" : `sampling, ${which} noise`,
      };
    }
    const step = await run.step(experts.get(which));
    // Signals are only delivered between turns of the event loop, which the kernels never leave.
    await nextTurn();
    const last = run.expert === undefined;
    const note = await saver.save({ force: last });
    if (note) yield { type: "note", text: note };
    yield stepEvent(step, startStep, (performance.now() - begun) / 1000);
    if (previewed) yield await previewEvent(step, run, plan, painter);
    if (stopped() && !last) {
      const problem = await saver.save({ force: true });
      if (problem) yield { type: "note", text: problem };
      yield interrupted(run.done);
      return undefined;
    }
  }
  if (calibrateCache) {
    const file = await writeCoefficients(request, run.steps, coefficientsFrom(run.state().memory));
    yield { type: "note", text: `step-cache coefficients of ${model.name} were measured: ${file}` };
  }
  return run.latents;
}

function stepEvent(done: FilmStep, startStep: number, elapsed: number): GenerateEvent {
  const { step, steps, expert, timestep, passes, seconds, cache } = done;
  const secondsPerStep = elapsed / (step + 1 - startStep);
  const etaSeconds = secondsPerStep * (steps - step - 1);
  const told = cache.length > 0 ? { cache: [...cache] } : {};
  return {
    type: "step",
    step: step + 1,
    steps,
    expert,
    timestep,
    passes,
    ...told,
    seconds,
    secondsPerStep,
    etaSeconds,
  };
}

/** The clean latents that this step pointed at: those after it, less the noise that is left in them. */
async function previewEvent(
  { step, latents, velocity }: FilmStep,
  { sigma }: FilmRun,
  { shape, vae }: Preparation,
  painter: ClipDecoder | undefined,
): Promise<GenerateEvent> {
  const clean = latents.map((value, i) => value - sigma * velocity[i]!);
  if (painter) return { type: "preview", step: step + 1, ...(await middlePicture(painter, clean, shape)) };
  const frames = previewFrames(clean, shape, vae.kind);
  return { type: "preview", step: step + 1, width: shape[3], height: shape[2], frames };
}

/** Latents to the MP4. Undefined where it was stopped; then there is no film. */
async function* decode(
  { request, recipe, shape, latentsFile }: Preparation,
  device: Device,
  latents: Float32Array,
  signal: AbortSignal | undefined,
): AsyncGenerator<GenerateEvent, { frames: number; bytes: number } | undefined> {
  const { out, frames, files, prompt } = request;
  yield { type: "stage", stage: "decode", detail: "decoding" };
  using vae = loadDecoder(device, files.vae, { dtype: "f32" });
  const { plans, note } = decodePlans(vae, shape, device, request.vaeTiling);
  if (note !== undefined) yield { type: "note", text: note };
  for (const [i, plan] of plans.entries()) {
    const next = plans[i + 1];
    try {
      return yield* decodeAs(plan);
    } catch (error) {
      if (!next || !isKinoraError(error, "memory.exhausted")) throw withLatents(error, latentsFile);
      device.trim();
      yield { type: "note", text: `out of memory while decoding: retrying with tiles of ${next.tiling!.size} pixels` };
    }
  }
  return undefined;

  async function* decodeAs(
    plan: DecodePlan,
  ): AsyncGenerator<GenerateEvent, { frames: number; bytes: number } | undefined> {
    const film = writeFilm(out, vae, latents, shape, {
      plan,
      ...recipe.video,
      fps: recipe.fps,
      metadata: { [RECIPE_KEY]: JSON.stringify(recipe), comment: prompt },
    });
    try {
      for (;;) {
        const { value, done } = await film.next();
        if (done) return value;
        yield { type: "progress", stage: "decode", done: value.frames, total: frames, unit: "frames" };
        await nextTurn();
        if (signal?.aborted && value.frames < frames) return undefined;
      }
    } finally {
      await film.return({ frames: 0, bytes: 0 });
    }
  }
}

/** An error of decoding, with where the latents are. */
function withLatents(error: unknown, latentsFile: string): unknown {
  if (!(error instanceof KinoraError) || !existsSync(latentsFile)) return error;
  const kept = `the latents are saved in ${latentsFile}: \`resume\` continues from there`;
  const hint = error.hint ? `${error.hint}; ${kept}` : kept;
  return new KinoraError(error.code, error.message, { hint, cause: error });
}
