// The front door: what `import "kinora"` gives. Each function starts a job and returns its handle: iterate it for the
// job's events, await it for its result. The floors below: kinora/engine, /dataset, /lora, /train, /registry, /protocol.
import { z } from "zod";
import { parseRequest } from "./jobs/job.ts";
import { JobRun } from "./jobs/run.ts";
import { startJob } from "./jobs/start.ts";
import type { EventOf, JobName, RequestOf, ResultOf } from "./jobs/table.ts";
import { requestPath } from "./protocol/config-values.ts";
import type { AcceptCaptionsRequest, CaptionRequest } from "./protocol/jobs/caption-dataset.ts";
import type { GenerateRequest } from "./protocol/jobs/generate.ts";
import type { DatasetSizesRequest, InspectDatasetRequest } from "./protocol/jobs/inspect-dataset.ts";
import type { ConvertLoraRequest, InspectModelRequest } from "./protocol/jobs/inspect-model.ts";
import type { PlanForwardRequest } from "./protocol/jobs/plan.ts";
import type { PrepareDatasetRequest } from "./protocol/jobs/prepare-dataset.ts";
import type { TrainConfig } from "./protocol/train-config.ts";

export { isKinoraError, KinoraError } from "./base/errors.ts";
export { kinoraVersion } from "./base/version.ts";
export type { JobRun } from "./jobs/run.ts";
export type { EventOf, JobName, ResultOf } from "./jobs/table.ts";
export type { CheckpointFileChoices, GuidanceChoice, LoraChoice, Video } from "./protocol/jobs/generate.ts";
export type { Recipe } from "./protocol/recipe.ts";
export type { TrainConfig } from "./protocol/train-config.ts";

/** How a job runs. */
export interface RunOptions {
  /** Asks the job to stop when it aborts; what is done stays on disk, and the result rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
  /** The AI SDK's name for `signal`. */
  abortSignal?: AbortSignal | undefined;
  /**
   * Runs the job in a process of its own, with the same events: this one stays free, which a server needs, and a second
   * `cancel` ends the job at once. Default false.
   */
  child?: boolean | undefined;
  /** Where this user's Kinora keeps what it can make again. Default: `KINORA_CACHE`, or the system's usual place. */
  cacheFolder?: string | undefined;
}

/** What {@link generate} takes. Everything but the prompt has a default. */
export interface GenerateOptions extends Omit<GenerateRequest, "seed">, RunOptions {
  /** Up to 64 bits; negative or absent: one is drawn, and reported. */
  seed?: number | bigint | string | undefined;
}
/** What {@link train} takes in addition to the configuration. */
export interface TrainOptions extends RunOptions {
  /** Settings that override the configuration file's, e.g. `{ "optimizer.learning_rate": 2e-4 }`. */
  set?: Record<string, string | number | boolean> | undefined;
  /** For a configuration that is not a file: the folder its paths are relative to. Default: the working folder. */
  base?: string | undefined;
}
/** What {@link planRun} takes in addition to the configuration. */
export interface PlanRunOptions extends TrainOptions {
  /** Estimate time for a device of this many TFLOP/s instead of measuring this one. */
  tflops?: number | undefined;
}
/** What {@link prepareDataset} takes. */
export interface PrepareDatasetOptions extends PrepareDatasetRequest, RunOptions {}
/** What {@link captionDataset} and {@link planCaptions} take. */
export interface CaptionDatasetOptions extends CaptionRequest, RunOptions {}
/** What {@link acceptCaptions} takes. */
export interface AcceptCaptionsOptions extends AcceptCaptionsRequest, RunOptions {}
/** What {@link inspectDataset} takes in addition to the configuration. */
export interface InspectDatasetOptions extends Omit<InspectDatasetRequest, "config">, RunOptions {}
/** What {@link datasetSizes} takes. */
export interface DatasetSizesOptions extends DatasetSizesRequest, RunOptions {}
/** What {@link planForward} takes. */
export interface PlanForwardOptions extends PlanForwardRequest, RunOptions {}
/** What {@link inspectModel} takes in addition to the path. */
export interface InspectModelOptions extends Omit<InspectModelRequest, "path">, RunOptions {}
/** What {@link convertLora} takes in addition to the file. */
export interface ConvertLoraOptions extends Omit<ConvertLoraRequest, "path">, RunOptions {}

/** What {@link publishLora} takes in addition to the address and the files. */
export type PublishLoraOptions = Omit<RequestOf<"registry-publish">, "address" | "files"> & RunOptions;
/** What the functions of the registry take: which one, a folder or `s3://BUCKET/PREFIX`. Default: `KINORA_STORE`. */
export interface RegistryOptions extends RunOptions {
  store?: string | undefined;
}
/** What {@link changeLora} does, by its `action`. */
export type LoraChange = RequestOf<"registry-change">["change"];

/** The events of a generation; `step`, `preview` and `finished` are what most programs want. */
export type GenerateEvent = EventOf<"generate">;
/** What {@link generate} gives: the films that were written. */
export type GenerateResult = ResultOf<"generate">;
/** The events of a training run; `step`, `validation` and `preview` are what most programs want. */
export type TrainEvent = EventOf<"train">;
/** What {@link train} gives: the run's folder and the files in it. */
export type TrainResult = ResultOf<"train">;

/** A job of the front door under way. */
export type Run<N extends JobName> = JobRun<EventOf<N>, ResultOf<N>>;

const signalSchema = z.instanceof(AbortSignal, { error: "must be an AbortSignal" }).optional();

const runOptionsSchema = z.looseObject({
  signal: signalSchema,
  abortSignal: signalSchema,
  child: z.boolean().optional(),
  cacheFolder: requestPath.optional(),
});

/** What is wrong with the options rejects, as what is wrong with the job does: JavaScript may hand over anything. */
function start<N extends JobName>(name: N, options: RequestOf<N> & RunOptions): Run<N> {
  try {
    const { signal, abortSignal, child, cacheFolder, ...request } = parseRequest(name, runOptionsSchema, options);
    const both = signal && abortSignal ? AbortSignal.any([signal, abortSignal]) : (signal ?? abortSignal);
    return startJob(name, request as unknown as RequestOf<N>, { signal: both, child, cacheFolder });
  } catch (error) {
    return new JobRun<EventOf<N>, ResultOf<N>>(() => Promise.reject(error));
  }
}

function runOptions(given: TrainOptions): Omit<RequestOf<"train">, "config"> & RunOptions {
  const { set, ...options } = given ?? {};
  // What is no plain value is refused with the request.
  const text = (value: unknown) => (typeof value === "object" ? value : String(value)) as string;
  return { ...options, set: Object.entries(set ?? {}).map(([key, value]) => ({ key, value: text(value) })) };
}

/**
 * Makes videos and writes them as MP4 files, each with the recipe that repeats it inside.
 *
 * The option names of the AI SDK's video model work as well as Wan's own:
 * - `prompt`, `negativePrompt`: what the video shows, and what to avoid.
 * - `n`: the number of videos, with the seeds `seed`, `seed` + 1, …; `out: "a.mp4"` becomes `a-7.mp4`, `a-8.mp4`, ….
 * - `resolution` (`"1280x720"`) and `size` (`{ width, height }`) are one thing; `aspectRatio` (`"16:9"`) chooses the size
 *   of that shape with the model's usual area.
 * - `duration` in seconds, at `fps`, is `frames`: 16 a second for 5 seconds are 81, always 4n + 1.
 * - `image`, or `frameImages` with a `first_frame`: the picture to begin with, a path.
 * - `steps`, `guidanceScale`, `flowShift`, `sampler`, `noise`: Wan's own; what is absent is the model's.
 * - `loras`, `checkpoint`, `files`: the weights; `tiny-t2v` and `tiny-ti2v` come with the package.
 *
 * What contradicts itself is an error.
 *
 * @throws KinoraError through the handle: `generate.*`, `request.*`, `checkpoint.*`, `lora.*`, `io.*`, `device.*`, `job.*`.
 * @example
 * ```ts
 * import { generate } from "kinora";
 *
 * for await (const event of generate({ model: "tiny-t2v", prompt: "a red circle moves to the right", seed: 7, out: "a.mp4" }))
 *   if (event.type === "step") console.log(`${event.step} of ${event.steps}`);
 * ```
 * @example
 * ```ts
 * const { video } = await generate({
 *   model: "t2v-A14B",
 *   checkpoint: "Wan2.2-T2V-A14B",
 *   prompt: "a fox in the snow",
 *   aspectRatio: "9:16",
 *   duration: 5,
 *   loras: ["style_high_noise.safetensors", { path: "style_low_noise.safetensors", strength: 0.8 }],
 *   signal: AbortSignal.timeout(3_600_000),
 * });
 * console.log(video.path, video.recipe.seed);
 * ```
 */
export function generate(options: GenerateOptions): Run<"generate"> {
  const seed = options?.seed;
  const request = typeof seed === "bigint" ? { ...options, seed: String(seed) } : options;
  return start("generate", request as GenerateRequest & RunOptions);
}

/**
 * Trains a LoRA or a complete model from a configuration: the path of a TOML file, or what it would hold. Where a run was
 * stopped or killed, the same call resumes from its last state, with the numbers of an uninterrupted run.
 *
 * @throws KinoraError through the handle: `train-config.*`, `train.*`, `dataset.*`, `checkpoint.*`, `weights.*`, `io.*`, `device.*`, `job.*`.
 * @example
 * ```ts
 * const run = train("style.toml", { set: { "optimizer.learning_rate": 2e-4 }, child: true });
 * for await (const event of run) if (event.type === "step") console.log(event.line.step, event.line.loss);
 * const { output, files } = await run;
 * ```
 * @example
 * ```ts
 * await train({
 *   name: "style",
 *   dataset: "clips",
 *   steps: 500,
 *   model: { name: "tiny-t2v" },
 *   lora: { rank: 16 },
 * });
 * ```
 */
export function train(config: string | TrainConfig, options: TrainOptions = {}): Run<"train"> {
  return start("train", { ...runOptions(options), config });
}

/**
 * Turns films, clips and pictures into a clean training set: scenes cut, measured, cropped, resampled; every decision in
 * a report. A second run over the same sources does nothing.
 *
 * @throws KinoraError through the handle: `prepare.*`, `prepare-config.*`, `io.*`, `job.*`. A source that cannot be read is a
 *   `problem` event instead.
 * @example
 * ```ts
 * const { videos, dropped, report } = await prepareDataset({ sources: ["films"], out: "set", model: "t2v-A14B" });
 * ```
 */
export function prepareDataset(options: PrepareDatasetOptions): Run<"prepare-dataset"> {
  return start("prepare-dataset", options);
}

/**
 * Captions the clips and pictures of a folder with a vision-language model. Each caption is written as it comes: a stopped
 * run loses none. The endpoint's key comes from the environment.
 *
 * @throws KinoraError through the handle: `caption.*`, `chat.*`, `job.*`. An item that fails is a `failed` event instead.
 * @example
 * ```ts
 * const { captioned, failed } = await captionDataset({ folder: "set", endpoint: "ollama", model: "qwen2.5vl" });
 * ```
 */
export function captionDataset(options: CaptionDatasetOptions): Run<"caption-dataset"> {
  return start("caption-dataset", options);
}

/** What {@link captionDataset} would ask, without asking anyone. */
export function planCaptions(options: CaptionDatasetOptions): Run<"plan-captions"> {
  return start("plan-captions", options);
}

/** Turns drafts that a person has edited (`captionDataset` with `draft`) into captions. */
export function acceptCaptions(options: AcceptCaptionsOptions): Run<"accept-captions"> {
  return start("accept-captions", options);
}

/**
 * Exactly what one epoch trains on: every item, the batches, and each file that is left out and why.
 *
 * @param config a dataset configuration, musubi-tuner's or Kinora's, or a folder
 * @throws KinoraError through the handle: `dataset.*`, `dataset-config.*`, `model.unknown`, `io.*`.
 * @example
 * ```ts
 * const { totals, warnings } = await inspectDataset("set");
 * ```
 */
export function inspectDataset(config: string, options: InspectDatasetOptions = {}): Run<"inspect-dataset"> {
  return start("inspect-dataset", { ...options, config });
}

/**
 * All sizes near a source's shape, with tokens, the cost of a training step and memory on cards of 16 to 80 GB.
 *
 * @example
 * ```ts
 * const { sizes } = await datasetSizes({ source: { width: 1920, height: 1040 }, model: "t2v-A14B" });
 * ```
 */
export function datasetSizes(options: DatasetSizesOptions): Run<"dataset-sizes"> {
  return start("dataset-sizes", options);
}

/**
 * What a training run will take in bytes, arithmetic and time, before anything loads.
 *
 * @throws KinoraError through the handle: those of {@link train}.
 * @example
 * ```ts
 * const { peak, seconds } = await planRun("style.toml", { tflops: 150 });
 * ```
 */
export function planRun(config: string | TrainConfig, options: PlanRunOptions = {}): Run<"plan-run"> {
  return start("plan-run", { ...runOptions(options), config });
}

/**
 * What one forward pass of a model takes.
 *
 * @example
 * ```ts
 * const { tokens, bytes } = await planForward({ model: "t2v-A14B", size: { width: 1280, height: 720 }, frames: 81 });
 * ```
 */
export function planForward(options: PlanForwardOptions): Run<"plan-forward"> {
  return start("plan-forward", options);
}

/** Every effective setting of a training configuration, where it came from, and what it implies for this dataset. */
export function explainRun(config: string | TrainConfig, options: TrainOptions = {}): Run<"explain-run"> {
  return start("explain-run", { ...runOptions(options), config });
}

/** What a weight file, or each of a folder's, is: network or LoRA, layout, sizes, what is missing or not finite. */
export function inspectModel(path: string, options: InspectModelOptions = {}): Run<"inspect-model"> {
  return start("inspect-model", { ...options, path });
}

/** What a LoRA is for, how it was trained, and how strong it is. */
export function inspectLora(path: string, options: RunOptions = {}): Run<"inspect-lora"> {
  return start("inspect-lora", { ...options, path });
}

/**
 * Writes a LoRA under another tool's names; it acts identically.
 *
 * @example
 * ```ts
 * const { out } = await convertLora("style.safetensors", { to: "comfy" });
 * ```
 */
export function convertLora(path: string, options: ConvertLoraOptions): Run<"convert-lora"> {
  return start("convert-lora", { ...options, path });
}

/** Creates a registry, or finds the one that is there. */
export function initRegistry(options: RegistryOptions = {}): Run<"registry-init"> {
  return start("registry-init", options as RequestOf<"registry-init"> & RunOptions);
}

/**
 * Publishes a version of a LoRA: a training run's folder, or LoRA files (one, or one for each expert). Versions never
 * change; `changeLora` says which one is in production.
 *
 * @param address `KIND/PROJECT/NAME`, e.g. `styles/acme/neon`
 * @throws KinoraError through the handle: `registry.*`, `lora.*`, `io.*`, `s3.*`; nothing is published then.
 * @example
 * ```ts
 * const { version } = await publishLora("styles/acme/neon", "runs/neon", { store: "loras", checkpoint: "best" });
 * await changeLora("styles/acme/neon", { action: "promote", version, why: "release", force: true }, { store: "loras" });
 * ```
 */
export function publishLora(
  address: string,
  files: string | readonly string[],
  options: PublishLoraOptions = {},
): Run<"registry-publish"> {
  return start("registry-publish", { ...options, address, files: typeof files === "string" ? [files] : [...files] });
}

/** The LoRAs of a registry, with their current versions. */
export function listLoras(
  options: RegistryOptions & Pick<RequestOf<"registry-list">, "kind"> = {},
): Run<"registry-list"> {
  return start("registry-list", options);
}

/** Every version of a LoRA with its status, and the log of what happened to it. */
export function showLora(address: string, options: RegistryOptions = {}): Run<"registry-show"> {
  return start("registry-show", { ...options, address });
}

/**
 * Which version a reference means, e.g. `styles/acme/neon` or `styles/acme/neon@v2`, and its files. `request`: the key by
 * which a running trial gets its share; the same key always gets the same version.
 */
export function resolveLora(
  reference: string,
  options: RegistryOptions & { request?: string | undefined } = {},
): Run<"registry-resolve"> {
  return start("registry-resolve", { ...options, reference });
}

/**
 * Approves, promotes, tries, rolls back, deprecates or tags a version, adds a note or feedback: one event in the log.
 *
 * @throws KinoraError through the handle: `registry.not-accepted`, `registry.no-reason`, `registry.no-rights` and others.
 */
export function changeLora(address: string, change: LoraChange, options: RegistryOptions = {}): Run<"registry-change"> {
  return start("registry-change", { ...options, address, change });
}

/** What {@link acceptLora} takes beside the version and the prompts. */
export type AcceptLoraOptions = Omit<RequestOf<"accept">, "reference" | "prompts" | "phase"> & RunOptions;

/**
 * Tests a version for technical faults: films over strengths and prompts, beside the base model's from the same seeds. The
 * verdict goes into its log, with the report. A stopped test resumes by the same call.
 */
export function acceptLora(reference: string, prompts: string, options: AcceptLoraOptions = {}): Run<"accept"> {
  return start("accept", { ...options, reference, prompts, phase: 1 });
}

/** Appends a verdict on a film to the log of each version that made it; its recipe names them. */
export function giveFeedback(
  film: string,
  verdict: "good" | "bad",
  options: RegistryOptions & { note?: string | undefined } = {},
): Run<"registry-feedback"> {
  return start("registry-feedback", { ...options, film, verdict });
}

/** How the versions in use fared in a month (`2026-11`; default: this one), and which need a look. */
export function reviewRegistry(options: RegistryOptions & { month?: string | undefined } = {}): Run<"registry-review"> {
  return start("registry-review", options);
}

/** What differs between two versions of a LoRA. */
export function diffLora(
  address: string,
  before: string,
  after: string,
  options: RegistryOptions = {},
): Run<"registry-diff"> {
  return start("registry-diff", { ...options, address, before, after });
}

/** Reads every event and file of a registry and checks it; `problems` is empty for an intact one. */
export function verifyRegistry(options: RegistryOptions = {}): Run<"registry-verify"> {
  return start("registry-verify", options as RequestOf<"registry-verify"> & RunOptions);
}

/** Lays a registry out as files in a folder, for ComfyUI's models/loras or a network share. */
export function exportRegistry(
  out: string,
  options: RegistryOptions & Pick<RequestOf<"registry-export">, "kind" | "versions"> = {},
): Run<"registry-export"> {
  return start("registry-export", { ...options, out });
}

/** The training notes of a LoRA, or the changelog of the registry, in Markdown. */
export function registryNotes(options: RegistryOptions & { address?: string | undefined } = {}): Run<"registry-notes"> {
  return start("registry-notes", options);
}

/** Who may do what in a registry; `set` gives roles, null takes one away. */
export function registryPeople(
  options: RegistryOptions & Pick<RequestOf<"registry-people">, "set" | "others"> = {},
): Run<"registry-people"> {
  return start("registry-people", options);
}

/** Removes files that no version refers to; those younger than a day are kept. */
export function collectRegistry(options: RegistryOptions & { dryRun?: boolean | undefined } = {}): Run<"registry-gc"> {
  return start("registry-gc", options);
}

/** The recipe that a film, or saved latents, carry: all that repeats it. `generate({ from: path })` does. */
export function readRecipe(path: string, options: RunOptions = {}): Run<"read-recipe"> {
  return start("read-recipe", { ...options, path });
}

/** What this machine has, which device will be used and why, and what to install. */
export function doctor(options: RunOptions = {}): Run<"doctor"> {
  return start("doctor", options as RequestOf<"doctor"> & RunOptions);
}
