// What a run's files say of how they were made, in musubi's and the model specification's words: kohya-metadata.ts.
import { statSync } from "node:fs";
import { basename } from "node:path";
import type { DatasetPlan } from "../../dataset/dataset-plan.ts";
import type { HashCache } from "../../io/content-hash.ts";
import {
  type FileIdentity,
  legacyHash,
  modelSpecMetadata,
  pythonArgument,
  type TrainingFacts,
  trainingMetadata,
} from "../../lora/kohya-metadata.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { TrainSettings } from "../config/settings.ts";
import { optimizers } from "../optimizers/index.ts";
import { expertRange } from "../step/timesteps.ts";
import { type DataEvent, hashing, type SplitItems } from "./data.ts";
import type { RunState } from "./state.ts";

/** What the metadata tells beyond the settings. */
export interface RunFacts {
  sessionId: number;
  startedAt: number;
  /** Unix seconds that stand for every time in the files, where they are to be reproducible. */
  fixedTime: number | undefined;
  step: number;
  steps: number;
  epoch: number;
  trainItems: number;
  batchesPerEpoch: number;
  warmupSteps: number;
  /** Pixels of the largest bucket. */
  size: { width: number; height: number };
  base: Partial<Record<Expert, FileIdentity>>;
  vae: FileIdentity;
  datasets: readonly unknown[];
  /** The phrases that captions begin with. */
  triggers: readonly string[];
}

/** The transformers that train and the autoencoder, as model managers know them. */
export async function* identifyBase(
  settings: Pick<TrainSettings, "experts">,
  files: CheckpointSearch,
  hashes: HashCache,
): AsyncGenerator<DataEvent, Pick<RunFacts, "base" | "vae">> {
  const base: RunFacts["base"] = {};
  for (const expert of settings.experts.train) base[expert] = yield* identify(files.file(expert), hashes);
  return { base, vae: yield* identify(files.file("vae"), hashes) };
}

async function* identify(path: string, hashes: HashCache): AsyncGenerator<DataEvent, FileIdentity> {
  const name = basename(path);
  // A folder or an index stands for several files, which have no hash together that others would know.
  if (!statSync(path).isFile() || path.endsWith(".json")) return { name };
  return { name, legacyHash: await legacyHash(path), sha256: yield* hashing(hashes, path) };
}

/** What is the same at every moment of a run. */
export function factsOf(
  plan: DatasetPlan,
  { train }: SplitItems,
  state: Pick<RunState, "sessionId" | "startedAt">,
  more: Pick<RunFacts, "steps" | "batchesPerEpoch" | "warmupSteps" | "base" | "vae" | "fixedTime">,
): Omit<RunFacts, "step" | "epoch"> {
  const sizes = plan.datasets.flatMap(({ buckets }) => buckets);
  const largest = sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
  return {
    ...more,
    sessionId: state.sessionId,
    startedAt: state.startedAt,
    trainItems: train.reduce((sum, { repeats }) => sum + repeats, 0),
    size: { width: largest.width, height: largest.height },
    datasets: plan.datasets.map((dataset, i) => datasetFacts(dataset, kindsOf(plan, i))),
    triggers: [...new Set(plan.datasets.flatMap(({ section }) => section.trigger ?? []))],
  };
}

/** Files that a dataset's items come from. */
function kindsOf({ items }: DatasetPlan, dataset: number): { videos: number; images: number } {
  const files = { video: new Set<string>(), image: new Set<string>() };
  for (const item of items) if (item.dataset === dataset) files[item.kind].add(item.name);
  return { videos: files.video.size, images: files.image.size };
}

/** musubi's own words for a dataset, and what it came to. */
function datasetFacts(
  { section, items, batches, buckets }: DatasetPlan["datasets"][number],
  kinds: { videos: number; images: number },
): Record<string, unknown> {
  const { video, media, controlDirectory } = section;
  return {
    resolution: section.resolution,
    caption_extension: section.captionExtension,
    batch_size_per_device: section.batchSize,
    num_repeats: section.repeats,
    enable_bucket: section.enableBucket,
    bucket_no_upscale: section.bucketNoUpscale,
    [media.videos ? "video_directory" : "image_directory"]: basename(section.path),
    ...(media.videos
      ? {
          frame_extraction: video.extraction,
          frame_stride: video.stride,
          frame_sample: video.sample,
          target_frames: video.lengths,
          max_frames: video.maxFrames,
          source_fps: video.sourceFps,
        }
      : {}),
    has_control: controlDirectory !== undefined,
    items,
    batches,
    ...kinds,
    buckets: buckets.map(({ width, height, frames }) => `${width}x${height}x${frames}`),
  };
}

/** A call as Python writes it: `torch.optim.adamw.AdamW(betas=(0.9, 0.999),eps=1e-08)`. */
function optimizerCall({ kind, settings }: TrainSettings["optimizer"]): string {
  const row = optimizers[kind]!;
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const args = given.map(([name, value]) => `${name}=${pythonArgument(value)}`);
  return (row.knownAs ?? kind) + (args.length > 0 ? `(${args.join(",")})` : "");
}

const numberAt = (settings: Readonly<Record<string, unknown>>, name: string): number | undefined =>
  typeof settings[name] === "number" ? settings[name] : undefined;

function trainingFacts(settings: TrainSettings, expert: Expert, facts: RunFacts): TrainingFacts {
  const { optimizer, schedule, time, save, lora } = settings;
  const base = facts.base[expert];
  const [logitMean, logitStd] = [numberAt(time.settings, "mean"), numberAt(time.settings, "std")];
  const [sigmoidScale, shift] = [numberAt(time.settings, "scale"), numberAt(time.settings, "shift")];
  return {
    sessionId: facts.sessionId,
    startedAt: facts.startedAt,
    finishedAt: facts.fixedTime ?? Date.now() / 1000,
    outputName: settings.name,
    learningRate: optimizer.learningRate,
    trainItems: facts.trainItems,
    batchesPerEpoch: facts.batchesPerEpoch,
    epochs: Math.ceil((facts.steps * optimizer.accumulation) / facts.batchesPerEpoch),
    gradientCheckpointing: settings.recompute,
    gradientAccumulationSteps: optimizer.accumulation,
    maxTrainSteps: facts.steps,
    warmupSteps: facts.warmupSteps,
    scheduler: schedule.kind,
    ...(settings.kind === "lora"
      ? { network: { dim: lora.rank, alpha: lora.alpha, dropout: lora.dropout, args: {} } }
      : {}),
    mixedPrecision: settings.dtype === "bf16" ? "bf16" : "no",
    seed: settings.seed,
    ...(save.comment === undefined ? {} : { comment: save.comment }),
    optimizer: optimizerCall(optimizer),
    maxGradNorm: optimizer.clip,
    fp8Base: settings.base === "fp8",
    weightingScheme: settings.objective.weighting.kind,
    timestepSampling: time.kind,
    ...(logitMean === undefined ? {} : { logitMean }),
    ...(logitStd === undefined ? {} : { logitStd }),
    ...(sigmoidScale === undefined ? {} : { sigmoidScale }),
    // Musubi writes it always; 1, its default, shifts nothing.
    discreteFlowShift: shift ?? 1,
    datasets: facts.datasets,
    ...(base === undefined ? {} : { baseModel: base }),
    vae: facts.vae,
    steps: facts.step,
    epoch: facts.epoch,
  };
}

export function metadataOf(settings: TrainSettings, expert: Expert, facts: RunFacts): Record<string, string> {
  const { save, boundary } = settings;
  const { from, to } = expertRange(expert, boundary);
  const spec = modelSpecMetadata({
    title: save.title ?? settings.name,
    ...facts.size,
    date: facts.fixedTime === undefined ? new Date() : new Date(facts.fixedTime * 1000),
    utc: facts.fixedTime !== undefined,
    timesteps: [Math.round(from * 1000), Math.round(to * 1000)],
    ...(facts.triggers.length === 0 ? {} : { trigger: facts.triggers.join(", ") }),
    ...(save.author === undefined ? {} : { author: save.author }),
    ...(save.description === undefined ? {} : { description: save.description }),
    ...(save.license === undefined ? {} : { license: save.license }),
    ...(save.tags === undefined ? {} : { tags: save.tags }),
  });
  return { ...trainingMetadata(trainingFacts(settings, expert, facts)), ...spec };
}
