// Makes films: what was asked becomes runs of the pipeline, on a device that is opened here, with names for what has none.
import type { z } from "zod";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import { type OpenedDevice, openDevice } from "../device/open-device.ts";
import { HashCache } from "../io/content-hash.ts";
import { writePng } from "../io/image/write.ts";
import { generateContract, type Video } from "../protocol/jobs/generate.ts";
import type { Recipe } from "../protocol/recipe.ts";
import type { GenerateEvent as FilmEvent } from "../sample/events.ts";
import { resumeSource } from "../sample/existing.ts";
import { generate } from "../sample/pipeline.ts";
import { readRecipe, repeatOptions } from "../sample/recipe.ts";
import { DEFAULT_TASK, type GenerateRequest as FilmRequest, resolveRequest, taskModel } from "../sample/request.ts";
import { errorData, JobStopped, stoppedBy } from "./errors.ts";
import { contradiction, filmOptions, type GenerateRequest } from "./generate-options.ts";
import { type JobContext, job, type Work } from "./job.ts";
import { settleLoras } from "./registry/use.ts";

type Contract = typeof generateContract;
type Event = z.input<Contract["event"]>;

/** Milliseconds between two reports of a model that loads. */
const LOADING_MS = 100;

export const generateJob = job(generateContract, async function* (asked, context): Work<Contract> {
  const hashes = new HashCache(context.cacheFolder);
  const {
    request,
    uses,
    notes: told,
  } = await settleLoras(asked, context, async () => {
    const source = sourceOf(asked);
    return source === undefined ? undefined : (await readRecipe(source)).seed;
  });
  const { films, notes, repeats } = await settle(request, hashes);
  for (const text of [...told, ...notes]) yield { type: "note", text };
  const opened = await openAsked(request.device, request.resume ? repeats?.device : undefined);
  using device = opened.device;
  if (opened.note) yield { type: "note", text: opened.note };
  const videos: Video[] = [];
  for (const [index, film] of films.entries()) {
    yield { type: "video", index, n: films.length, path: film.out, seed: String(film.seed) };
    const { tell, loading } = filmTeller(film, context);
    const events = generate(film, device, {
      hashes,
      signal: context.signal,
      resume: request.resume,
      ...(request.from !== undefined && repeats ? { repeats } : {}),
      preview: request.preview,
      calibrateCache: request.calibrateCache,
      previewVae: request.previewVae,
      loading,
    });
    let begun: Recipe | undefined;
    try {
      for await (const event of events) {
        if (event.type === "recipe") begun = event.recipe;
        const told = await tell(event);
        yield told;
        if (told.type === "stopped") throw stopped(told);
        if (event.type === "finished") {
          const { type: _type, ...video } = event;
          videos.push(video);
        }
      }
    } catch (error) {
      const { code } = errorData(stoppedBy(context.signal, error));
      // What was refused before the work began says nothing of a version.
      if (begun && code !== "job.stopped") await uses.add(begun, { error: code });
      throw error;
    }
    const { recipe, seconds, peakBytes } = videos.at(-1)!;
    const failed = await uses.add(recipe, { seconds, peakBytes });
    if (failed !== undefined) yield { type: "note", text: failed };
  }
  return { video: videos[0]!, videos };
});

/** The file whose recipe is repeated or gone on with. */
function sourceOf({ from, resume, out }: Pick<GenerateRequest, "from" | "resume" | "out">): string | undefined {
  return from ?? (resume && out !== undefined ? resumeSource(out) : undefined);
}

/** What is to be made, everything filled in, and the recipe that is repeated or gone on with. */
async function settle(
  request: GenerateRequest,
  hashes: HashCache,
): Promise<{ films: FilmRequest[]; notes: string[]; repeats: Recipe | undefined }> {
  const { out, resume, n = 1 } = request;
  if (resume) {
    if (out === undefined) {
      throw new KinoraError("request.missing-option", "resume needs the run's out", { hint: "give its out" });
    }
    if (n > 1)
      throw contradiction("only one run can be resumed at a time", `n is ${n}`, "resume each video with its own out");
  }
  const source = sourceOf(request);
  const repeats = source === undefined ? undefined : await readRecipe(source);
  const asked = { ...filmOptions(request, taskModel(request.model ?? repeats?.task ?? DEFAULT_TASK)), out: out ?? "" };
  const { request: first, notes } = resolveRequest(repeats ? await repeatOptions(repeats, asked, hashes) : asked);
  const films = Array.from({ length: n }, (_, i): FilmRequest => {
    const seed = first.seed + BigInt(i);
    return { ...first, seed, out: nameOf(out, n, first, seed) };
  });
  return { films, notes, repeats };
}

/** As it was named; of several, each with its seed; else by model, the prompt's beginning and seed, as generate.py does. */
function nameOf(out: string | undefined, n: number, { model, prompt }: FilmRequest, seed: bigint): string {
  if (out !== undefined) return n === 1 ? out : out.replace(/(\.mp4)?$/i, `-${seed}$1`);
  const words = prompt
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  return `${model.name}-${[...words].slice(0, 40).join("").replace(/-+$/, "")}-${seed}.mp4`;
}

/** The device that was asked for, else the one the run that goes on was begun on. Throws `device.unavailable`. */
async function openAsked(asked: string | undefined, begunOn: string | undefined): Promise<OpenedDevice> {
  try {
    return await openDevice(asked ?? begunOn ?? "auto");
  } catch (error) {
    if (asked !== undefined || begunOn === undefined || !isKinoraError(error)) throw error;
    throw new KinoraError(error.code, `the run was started on device ${begunOn}: ${error.message}`, {
      hint: "with `device` auto it continues on another device; the last bits may then differ",
      cause: error,
    });
  }
}

/** The pipeline's events as the job's; `loading` tells of a model that loads while nothing can be yielded. */
function filmTeller({ out }: FilmRequest, { emit }: JobContext<Event>) {
  let bytes = 0;
  let last = 0;
  const loading = (more: number): void => {
    bytes += more;
    if (performance.now() - last < LOADING_MS) return;
    last = performance.now();
    emit({ type: "progress", stage: "load", done: bytes, unit: "bytes" });
  };
  const tell = async (event: FilmEvent): Promise<Event> => {
    if (event.type === "stage") bytes = 0;
    if (event.type === "interrupted") return { ...event, type: "stopped", path: out };
    if (event.type !== "preview") return event;
    const { width, height, frames, step } = event;
    const path = `${out.replace(/\.mp4$/i, "")}.preview.png`;
    await writePng(path, { width, height, data: frames[Math.floor(frames.length / 2)]! });
    return { type: "preview", step, path };
  };
  return { tell, loading };
}

function stopped({ step, steps, latents, path }: Extract<Event, { type: "stopped" }>): JobStopped {
  if (latents !== undefined)
    return new JobStopped(`stopped after step ${step} of ${steps}`, { hint: `use resume to continue with ${path}` });
  return new JobStopped(step === 0 ? "stopped before the first step" : `stopped after step ${step} of ${steps}`);
}
