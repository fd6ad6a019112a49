// A whole generation, from a request to an MP4: each network is loaded, used and freed before the next comes.
// Every step lies on disk before the next is told, so that a run that was cut off goes on bit for bit.
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../base/errors.ts";
import { mapped } from "../base/generators.ts";
import type { Device } from "../device/device.ts";
import { sweepPartials } from "../io/atomic.ts";
import type { HashCache, HashProgress } from "../io/content-hash.ts";
import type { LatentShape } from "../models/wan/image-condition.ts";
import { loadTextEncoder, loadVae } from "../models/wan/load.ts";
import { embedPrompt, openTokenizer, promptTokens, type TextEmbedding, tokenizerFile } from "../models/wan/prompt.ts";
import type { VaeConfig } from "../models/wan/vae/config.ts";
import { RECIPE_KEY, type Recipe } from "../protocol/recipe.ts";
import { checkFiles, checkNothingUnfinished, checkOutput, lockOutput } from "./checks.ts";
import type { PreparedImage } from "./conditions.ts";
import { type DenoiseStep, denoise, expertAt, guide, uploadText } from "./denoise.ts";
import type { GenerateEvent } from "./events.ts";
import { Experts } from "./experts.ts";
import {
  checkResumable,
  isFinished,
  latentsPath,
  loadLatents,
  removeLatents,
  type SavedLatents,
  saveLatents,
  type Wishes,
} from "./latents-file.ts";
import { type ResolvedLora, resolveLoras } from "./lora-files.ts";
import { drawNoise, parseNoise } from "./noise.ts";
import { encodePicture, latentShape, type PictureCondition, preparePicture } from "./picture.ts";
import { hasPreview, previewFrames } from "./preview.ts";
import { buildRecipe, contentPaths, recipeDifferences } from "./recipe.ts";
import type { GenerateRequest } from "./request.ts";
import { createScheduler, type Scheduler } from "./schedulers/index.ts";
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
  /** Called while a transformer is loaded, which is one piece of work. */
  loading?: ((bytes: number) => void) | undefined;
}

/** What is known of a run once everything is checked. */
interface Plan {
  request: GenerateRequest;
  recipe: Recipe;
  loras: readonly ResolvedLora[];
  vae: VaeConfig;
  picture: PreparedImage | undefined;
  shape: LatentShape;
  latentsFile: string;
}

/**
 * Runs a request. The last event is `finished` or `interrupted`. Everything taken on the device is given back.
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
  using _lock = lockOutput(request.out);
  await sweepPartials(dirname(request.out), "abandoned");
  const plan = yield* prepare(request, device, options);
  if (!plan) {
    yield stoppedEarly(request, options);
    return;
  }
  yield { type: "recipe", recipe: plan.recipe };
  const saved = options.resume ? resumable(plan) : undefined;
  if (saved && saved.recipe.device !== device.name) {
    const text = `begun on device ${saved.recipe.device}: the last bits may differ, since it goes on with ${device.name}`;
    yield { type: "note", text };
  }
  const wishes: Wishes = {
    keepLatents: request.keepLatents || saved?.wishes.keepLatents === true,
    preview: options.preview === true || saved?.wishes.preview === true,
  };
  const stopped = () => options.signal?.aborted === true;

  let latents = saved && isFinished(saved) ? saved.latents : undefined;
  if (!latents) {
    const result = yield* sample(plan, device, { ...options, ...wishes }, saved);
    if (!result) return;
    latents = result;
  }

  const { steps } = request;
  const film = yield* decode(plan, device, latents, stopped);
  if (!film) {
    yield { type: "interrupted", step: steps, steps, latents: plan.latentsFile };
    return;
  }
  if (!wishes.keepLatents) await removeLatents(plan.latentsFile);
  yield {
    type: "finished",
    path: request.out,
    ...film,
    ...(wishes.keepLatents ? { latents: plan.latentsFile } : {}),
    seconds: (performance.now() - started) / 1000,
    peakBytes: device.memory().peak,
    recipe: plan.recipe,
  };
}

/** Stopped before this run did anything: what a run before it saved still lies there. */
function stoppedEarly({ out, steps }: GenerateRequest, { resume }: RunOptions): GenerateEvent {
  const latents = latentsPath(out);
  if (!resume || !existsSync(latents)) return { type: "interrupted", step: 0, steps };
  const { scheduler } = loadLatents(latents);
  return { type: "interrupted", step: scheduler.step, steps: scheduler.steps, latents };
}

/** Checks everything that could stop the run later, and writes down what it will be. Undefined where it was stopped. */
async function* prepare(
  asked: GenerateRequest,
  device: Device,
  { hashes, resume, repeats, signal }: RunOptions,
): AsyncGenerator<GenerateEvent, Plan | undefined> {
  const request = { ...asked, files: { ...asked.files, tokenizer: await tokenizerFile(asked.files.tokenizer) } };
  const { model, image, out, size, frames } = request;
  const latentsFile = latentsPath(out);
  if (!resume) checkNothingUnfinished(latentsFile, out);
  yield { type: "stage", stage: "check", detail: `looking at the files of ${model.name}` };
  const { vae, notes } = checkFiles(request);
  const { loras, notes: loraNotes } = resolveLoras(model, request.loras);
  const picture = image === undefined ? undefined : await preparePicture(model, image, size);
  const video = picture ? { width: picture.width, height: picture.height } : size;
  for (const text of [...notes, ...loraNotes]) yield { type: "note", text };

  yield { type: "stage", stage: "hash", detail: "hashing the files (once for each)" };
  const contents = new Map<string, string>();
  const hashed = ({ bytesDone: done, bytesTotal: total }: HashProgress): GenerateEvent => {
    signal?.throwIfAborted();
    return { type: "progress", stage: "hash", done, total, unit: "bytes" };
  };
  for (const path of contentPaths(request)) {
    if (signal?.aborted) return undefined;
    try {
      contents.set(path, yield* mapped(hashes.hash(path), hashed));
    } catch (error) {
      if (signal?.aborted) return undefined;
      throw error;
    }
  }
  const recipe = buildRecipe(request, { hashes: contents, loras, video, device: device.name });
  if (repeats) {
    const differs = recipeDifferences(repeats, recipe);
    if (differs.length > 0)
      yield { type: "note", text: `differs from the recipe that is repeated: ${differs.join(", ")}` };
    else if (repeats.device !== recipe.device) {
      yield {
        type: "note",
        text: `recorded on device ${repeats.device}: the last bits may differ on ${recipe.device}`,
      };
    }
  }
  const shape = latentShape(model, video, frames);
  return { request, recipe, loras, vae, picture, shape, latentsFile };
}

/** Throws `generate.nothing-to-resume`, `generate.resume-mismatch`. */
function resumable({ request, latentsFile, recipe, shape }: Plan): SavedLatents {
  checkResumable(request.out);
  const saved = loadLatents(latentsFile);
  const differs = recipeDifferences(saved.recipe, recipe);
  if (String(saved.shape) !== String(shape)) differs.push("shape");
  if (differs.length === 0) return saved;
  throw new KinoraError("generate.resume-mismatch", `${latentsFile} belongs to a run with other settings`, {
    actual: `different: ${differs.join(", ")}`,
    hint: "leave those options out to go on with it, or delete the file to begin anew",
  });
}

/** From noise, or from saved latents, to finished ones, which are saved. Undefined where it was stopped. */
async function* sample(
  plan: Plan,
  device: Device,
  options: RunOptions & Wishes,
  saved: SavedLatents | undefined,
): AsyncGenerator<GenerateEvent, Float32Array | undefined> {
  const { request, recipe, shape, latentsFile, picture } = plan;
  const { model, guidance, boundary, steps, dtype } = request;
  const stopped = () => options.signal?.aborted === true;
  const interrupted = (step: number): GenerateEvent => ({
    type: "interrupted",
    step,
    steps,
    ...(step > 0 && existsSync(latentsFile) ? { latents: latentsFile } : {}),
  });
  const startStep = saved?.scheduler.step ?? 0;
  const texts = yield* encodeTexts(request, device);
  await nextTurn();
  const condition = picture && !stopped() ? yield* encodeImage(plan, picture, device) : undefined;
  await nextTurn();
  if (stopped()) {
    yield interrupted(startStep);
    return undefined;
  }
  if (options.preview && !hasPreview(plan.vae)) {
    yield { type: "note", text: "no preview: this autoencoder has no map from latents to colours" };
  }

  const scheduler = createScheduler(request.sampler, { steps, shift: request.shift });
  if (saved) scheduler.restore(saved.scheduler);
  const count = shape.reduce((product, side) => product * side, 1);
  const start = saved?.latents ?? drawNoise(parseNoise(request.noise), request.seed, count);
  const hostText = ({ values, tokens }: TextEmbedding) => ({ values, shape: [tokens, model.dit.textDim] });
  using positive = uploadText(device, hostText(texts.positive));
  using negative = uploadText(device, hostText(texts.negative));
  using experts = new Experts(device, request.files, {
    config: model.dit,
    dtype,
    loras: plan.loras,
    loaded: options.loading,
  });
  const loop = denoise({
    expert: (which) => experts.get(which),
    ...(boundary === undefined ? {} : { boundary }),
    scheduler,
    latents: start,
    shape,
    text: { positive, negative },
    guidance,
    ...condition,
    startStep,
  });
  const wishes = { keepLatents: options.keepLatents, preview: options.preview };
  const checkpoints = new Checkpoints(latentsFile, { recipe, shape, wishes }, scheduler);
  let latents = start;
  const begun = performance.now();
  for (let step = startStep; step < steps; step++) {
    const which = expertAt(scheduler.timesteps[step]!, boundary);
    if (experts.which !== which) {
      // Who reads the events may let an interrupt end the process here, which hears none while it loads.
      const problem = step > startStep ? await checkpoints.save(latents, { force: true }) : undefined;
      if (problem) yield { type: "note", text: problem };
      const what = boundary === undefined ? "the transformer" : `the ${which}-noise expert`;
      yield { type: "stage", stage: "load", detail: `loading ${what}` };
      experts.get(which);
      await nextTurn();
      if (stopped()) {
        yield interrupted(step);
        return undefined;
      }
      yield {
        type: "stage",
        stage: "sample",
        detail: boundary === undefined ? "sampling" : `sampling, ${which} noise`,
      };
    }
    const { value, done } = await loop.next();
    if (done) break;
    latents = value.latents;
    // Signals are only delivered between turns of the event loop, which the kernels never leave.
    await nextTurn();
    const last = step + 1 === steps;
    const note = await checkpoints.save(latents, { force: last });
    if (note) yield { type: "note", text: note };
    yield stepEvent(value, startStep, (performance.now() - begun) / 1000);
    if (options.preview && hasPreview(plan.vae)) yield previewEvent(value, plan, scheduler, guidance);
    if (stopped() && !last) {
      const problem = await checkpoints.save(latents, { force: true });
      if (problem) yield { type: "note", text: problem };
      yield interrupted(step + 1);
      return undefined;
    }
  }
  return latents;
}

/**
 * Saves latents as they come: the first, so that a full disk shows at once, then at most every other second. A step that
 * takes longer is never lost.
 */
class Checkpoints {
  readonly #path: string;
  readonly #what: Pick<SavedLatents, "recipe" | "shape" | "wishes">;
  readonly #scheduler: Scheduler;
  #last = Number.NEGATIVE_INFINITY;
  #failed = false;

  constructor(path: string, what: Pick<SavedLatents, "recipe" | "shape" | "wishes">, scheduler: Scheduler) {
    this.#path = path;
    this.#what = what;
    this.#scheduler = scheduler;
  }

  /** A full disk does not end the run: what could not be saved is told, once. */
  async save(latents: Float32Array, { force }: { force: boolean }): Promise<string | undefined> {
    if (!force && performance.now() - this.#last < 2000) return undefined;
    try {
      await saveLatents(this.#path, { ...this.#what, latents, scheduler: this.#scheduler.state() });
      this.#last = performance.now();
    } catch (error) {
      if (!(error instanceof KinoraError)) throw error;
      if (this.#failed) return undefined;
      this.#failed = true;
      return `what is done could not be saved, so an interruption would lose it: ${error.message}`;
    }
    return undefined;
  }
}

function stepEvent(value: DenoiseStep, startStep: number, elapsed: number): GenerateEvent {
  const { step, steps, expert, timestep, seconds } = value;
  const secondsPerStep = elapsed / (step + 1 - startStep);
  return {
    type: "step",
    step: step + 1,
    steps,
    expert,
    timestep,
    passes: value.unconditional ? 2 : 1,
    seconds,
    secondsPerStep,
    etaSeconds: secondsPerStep * (steps - step - 1),
  };
}

/** The clean latents that this step pointed at: those after it, less the noise that is left in them. */
function previewEvent(
  { step, latents, conditional, unconditional, expert }: DenoiseStep,
  { shape, vae }: Plan,
  scheduler: Scheduler,
  guidance: { low: number; high: number },
): GenerateEvent {
  const velocity = unconditional ? guide(conditional, unconditional, guidance[expert]) : conditional;
  const sigma = scheduler.sigmas[step + 1]!;
  const clean = latents.map((value, i) => value - sigma * velocity[i]!);
  return {
    type: "preview",
    step: step + 1,
    width: shape[3],
    height: shape[2],
    frames: previewFrames(clean, shape, vae.kind),
  };
}

/** The embeddings of both texts; the encoder is freed before they are handed on. */
async function* encodeTexts(
  { model, files, prompt, negative, guidance }: GenerateRequest,
  device: Device,
): AsyncGenerator<GenerateEvent, { positive: TextEmbedding; negative: TextEmbedding }> {
  yield { type: "stage", stage: "text", detail: "encoding the prompt" };
  const tokenizer = await openTokenizer(files.tokenizer);
  const limit = model.dit.textLength;
  const tokens = { prompt: promptTokens(tokenizer, prompt, limit), negative: promptTokens(tokenizer, negative, limit) };
  for (const [name, { total }] of Object.entries(tokens)) {
    if (total <= limit) continue;
    const what = name === "prompt" ? "the prompt" : "the negative prompt";
    yield { type: "note", text: `${what} has ${total} tokens; the model reads the first ${limit}` };
  }
  // Officially bf16, whatever the transformer runs in.
  using encoder = loadTextEncoder(device, files.textEncoder, { dtype: model.bundled ? "f32" : "bf16" });
  await nextTurn();
  const positive = await embedPrompt(encoder, tokens.prompt);
  await nextTurn();
  const guided = guidance.low !== 1 || guidance.high !== 1;
  return { positive, negative: guided ? await embedPrompt(encoder, tokens.negative) : positive };
}

async function* encodeImage(
  { request, shape }: Plan,
  picture: PreparedImage,
  device: Device,
): AsyncGenerator<GenerateEvent, PictureCondition> {
  yield { type: "stage", stage: "image", detail: "encoding the picture" };
  using vae = loadVae(device, request.files.vae, { dtype: "f32", half: "encoder" });
  return encodePicture(vae, request.model, picture, shape, request.frames);
}

/** Latents to the MP4. Undefined where it was stopped; then there is no film. */
async function* decode(
  { request, recipe, shape, latentsFile }: Plan,
  device: Device,
  latents: Float32Array,
  stopped: () => boolean,
): AsyncGenerator<GenerateEvent, { frames: number; bytes: number } | undefined> {
  const { out, frames, files, prompt } = request;
  yield { type: "stage", stage: "decode", detail: "decoding" };
  using vae = loadVae(device, files.vae, { dtype: "f32", half: "decoder" });
  const film = writeFilm(out, vae, latents, shape, {
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
      if (stopped() && value.frames < frames) return undefined;
    }
  } catch (error) {
    if (!(error instanceof KinoraError) || !existsSync(latentsFile)) throw error;
    const kept = `the latents are kept in ${latentsFile}: --resume goes on from there`;
    const hint = error.hint ? `${error.hint}; ${kept}` : kept;
    throw new KinoraError(error.code, error.message, { hint, cause: error });
  } finally {
    await film.return({ frames: 0, bytes: 0 });
  }
}
