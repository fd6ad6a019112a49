// What a training run will take, from the null device: the code that trains, run on a device that only counts, over the
// run's own checkpoints (their headers; nothing is loaded), buckets and settings.
import { bucketsOf } from "../../dataset/batches.ts";
import { estimateTokens } from "../../dataset/caption/caption-text.ts";
import type { DatasetItem } from "../../dataset/items.ts";
import type { MemoryCategory } from "../../device/device.ts";
import type { MemoryModel } from "../../device/memory-model.ts";
import { createNullDevice, type NullDevice } from "../../device/null/null-device.ts";
import { type CheckpointSearch, searchCheckpoint } from "../../models/wan/checkpoint-files.ts";
import { latentSize } from "../../models/wan/geometry.ts";
import { loadTextEncoder, loadVae } from "../../models/wan/load.ts";
import { openScope } from "../../tensor/scope.ts";
import { empty } from "../../tensor/tensor.ts";
import { previewSize } from "../config/preview-size.ts";
import type { TrainSettings } from "../config/settings.ts";
import { globalNorm } from "../optimizers/optimizer.ts";
import { type DataEvent, planItems } from "../run/data.ts";
import { stepsOf } from "../run/epochs.ts";
import { openDitFile, openExpert } from "../run/expert-model.ts";
import { captionTexts, previewTexts } from "../run/texts.ts";
import { LoraDropout } from "../step/dropout.ts";
import { gatherBatchGradients } from "../step/gradients.ts";
import { assumedDit, plannedSample } from "./planned-inputs.ts";

/** Arithmetic, traffic and calls: what time is estimated from. */
export interface WorkCount {
  /** A multiply-add is two. */
  flops: number;
  /** Bytes that kernels without products read and write. */
  moved: number;
  calls: number;
}

/** A batch of one size. */
export interface BucketPlan {
  width: number;
  height: number;
  frames: number;
  /** Items of a full batch. */
  batch: number;
  tokens: number;
  /** Batches of an epoch. */
  batches: number;
  /** Most device bytes in a step that ends with such a batch; with the file pages that it reads in place. */
  peak: number;
  resident: number;
  bytes: Record<MemoryCategory, number>;
  work: WorkCount;
}

export interface PhasePlan {
  name: "latents" | "texts" | "training" | "previews";
  /** Most device bytes at once. */
  peak: number;
  /** The same with the pages of files that are read in place, which the system may drop. */
  resident: number;
  /** Of the whole phase, where everything has to be made; of one round of previews. */
  work: WorkCount;
}

/** What a run will take; bytes and FLOPs. */
export interface RunPlan {
  model: string;
  steps: number;
  batchesPerEpoch: number;
  /** Elements that train, in each expert. */
  trained: number;
  buckets: BucketPlan[];
  phases: PhasePlan[];
  /** Device bytes of the phase that needs the most. */
  peak: number;
  /** With pages of files that are read in place. */
  resident: number;
  /** A step on average over an epoch. */
  step: WorkCount;
  /** Host bytes beyond the device's, about: the process, the largest tensor that is saved. */
  host: number;
  /** Files that are not there, and what was assumed for them. */
  assumed: string[];
}

/** How far planning is: files that are read, buckets that are planned. */
export type PlanRunEvent = DataEvent | { type: "planned"; done: number; of: number };

/** Scratch of kernels, which the null device does not see; at the peak the cpu device has between none and twice this. */
const SCRATCH = 2 ** 17;
/** Of a process that has loaded Kinora, measured. */
export const PROCESS = 180e6;

function work(device: NullDevice): WorkCount {
  const count: WorkCount = { flops: 0, moved: 0, calls: 0 };
  for (const kernel of device.counters.byKernel.values()) {
    count.flops += kernel.flops;
    count.calls += kernel.calls;
    if (kernel.flops === 0) count.moved += kernel.bytes;
  }
  return count;
}

const plus = (a: WorkCount, b: WorkCount, times = 1): WorkCount => ({
  flops: a.flops + times * b.flops,
  moved: a.moved + times * b.moved,
  calls: a.calls + times * b.calls,
});
const none: WorkCount = { flops: 0, moved: 0, calls: 0 };

const peaks = (device: NullDevice): { peak: number; resident: number } => ({
  peak: device.memory().peak + SCRATCH,
  resident: device.resident().peak + SCRATCH,
});

/**
 * Plans a run on the device whose memory model is given. Files of the dataset are looked into; checkpoints that are missing are assumed to be the official ones.
 * Throws as {@link planItems} does, and `checkpoint.wrong-model`.
 */
export async function* planRun(settings: TrainSettings, memory: MemoryModel): AsyncGenerator<PlanRunEvent, RunPlan> {
  const { items } = yield* planItems(settings);
  const files = searchCheckpoint(settings.model, settings.files);
  const assumed: string[] = [];
  const expert = settings.experts.train[0]!;
  const path = files.paths[expert];
  if (path === undefined) assumed.push("the transformer is taken to be the official float32 file");
  const source = path === undefined ? assumedDit(settings.model) : openDitFile(path, settings.model);
  const device = createNullDevice(memory);
  using dropout = new LoraDropout(device, settings.lora.dropout);
  dropout.begin(0n);
  using model = openExpert(device, settings, expert, source, { train: true, dropout });
  const { parameters } = model.training!;
  const trained = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);

  const groups = bucketsOf(items.train);
  const buckets: BucketPlan[] = [];
  for (const [i, group] of groups.entries()) {
    const size = settings.dataset.datasets[group.dataset]!.batchSize;
    const batch = Math.min(size, group.items.length);
    buckets.push(await planBucket(device, settings, model, group, batch, Math.ceil(group.items.length / size)));
    yield { type: "planned", done: i + 1, of: groups.length };
  }
  const { steps, batchesPerEpoch } = stepsOf(settings, items.train);
  const update = await planUpdate(device, settings, model);
  const perEpoch = buckets.reduce((sum, bucket) => plus(sum, bucket.work, bucket.batches), none);
  const step = plus(update, perEpoch, settings.optimizer.accumulation / batchesPerEpoch);
  const training: PhasePlan = {
    name: "training",
    peak: Math.max(...buckets.map(({ peak }) => peak)),
    resident: Math.max(...buckets.map(({ resident }) => resident)),
    work: plus(none, step, steps),
  };
  const all = [...items.train, ...items.heldOut];
  const phases = [
    planLatents(settings, memory, files, all, assumed),
    planTexts(settings, memory, files, [...captionTexts(settings, all), ...previewTexts(settings)], assumed),
    training,
    await planPreviews(device, settings, files, model),
  ].flatMap((phase) => phase ?? []);
  const largest = Math.max(...[...parameters.values()].map(({ byteLength }) => byteLength));
  return {
    model: settings.model.name,
    steps,
    batchesPerEpoch,
    trained,
    buckets,
    phases,
    peak: Math.max(...phases.map(({ peak }) => peak)),
    resident: Math.max(...phases.map(({ resident }) => resident)),
    step,
    host: PROCESS + largest,
    assumed,
  };
}

type Trainable = ReturnType<typeof openExpert>;

async function planBucket(
  device: NullDevice,
  settings: TrainSettings,
  model: Trainable,
  { bucket }: { bucket: DatasetItem["bucket"] },
  batch: number,
  batches: number,
): Promise<BucketPlan> {
  const { optimizer, parameters } = model.training!;
  const gather = async () => {
    using _scope = openScope(device);
    const samples = Array.from({ length: batch }, () => plannedSample(device, settings.model, bucket));
    await gatherBatchGradients(model.dit, samples, { recompute: settings.recompute });
  };
  device.resetPeak();
  device.counters.reset();
  await gather();
  const count = work(device);
  // Further batches of a step find the gradients of the first.
  if (settings.optimizer.accumulation > 1) await gather();
  await globalNorm(device, parameters);
  await optimizer.update(1e-4);
  const categories = Object.entries(device.memory().byCategory).map(([name, bytes]) => [name, bytes.peak]);
  return {
    ...bucket,
    batch,
    tokens: latentSize(settings.model, bucket).tokens,
    batches,
    ...peaks(device),
    bytes: Object.fromEntries(categories) as BucketPlan["bytes"],
    work: count,
  };
}

/** Norm and update of one step. */
async function planUpdate(device: NullDevice, settings: TrainSettings, model: Trainable): Promise<WorkCount> {
  const { optimizer, parameters } = model.training!;
  const [width, height] = settings.model.vae.stride.slice(1).map((stride) => stride * 2) as [number, number];
  {
    using _scope = openScope(device);
    await gatherBatchGradients(model.dit, [plannedSample(device, settings.model, { width, height, frames: 1 })], {
      recompute: settings.recompute,
    });
  }
  device.counters.reset();
  await globalNorm(device, parameters);
  await optimizer.update(1e-4);
  for (const parameter of parameters.values()) parameter.clearGradient();
  return work(device);
}

/** Encoding every item. The autoencoder's memory does not grow with a clip's length after its third chunk. */
function planLatents(
  settings: TrainSettings,
  memory: MemoryModel,
  files: CheckpointSearch,
  items: readonly DatasetItem[],
  assumed: string[],
): PhasePlan | undefined {
  const path = files.paths.vae;
  if (path === undefined) {
    assumed.push("the autoencoder does not exist: caching latents is not counted");
    return undefined;
  }
  const device = createNullDevice(memory);
  using vae = loadVae(device, path, { dtype: settings.vaeDtype, half: "encoder" });
  let total = none;
  for (const { bucket, items: members } of bucketsOf(items.map((item) => ({ ...item, repeats: 1 })))) {
    const { width, height, frames } = bucket;
    using stream = vae.encoder({ width, height });
    const chunk = (count: number): WorkCount => {
      device.counters.reset();
      using _scope = openScope(device);
      stream.push(empty(device, [3, count, height, width], "f32"));
      return work(device);
    };
    let clip = chunk(1);
    const rest = (frames - 1) / 4;
    // The first chunk of four differs from those after it.
    if (rest >= 1) clip = plus(clip, chunk(4));
    if (rest >= 2) clip = plus(clip, chunk(4), rest - 1);
    total = plus(total, clip, members.length);
  }
  return { name: "latents", ...peaks(device), work: total };
}

function planTexts(
  settings: TrainSettings,
  memory: MemoryModel,
  files: CheckpointSearch,
  given: readonly string[],
  assumed: string[],
): PhasePlan | undefined {
  const path = files.paths.textEncoder;
  if (path === undefined) {
    assumed.push("the text encoder does not exist: caching texts is not counted");
    return undefined;
  }
  const device = createNullDevice(memory);
  using encoder = loadTextEncoder(device, path, { dtype: settings.textDtype });
  const { textLength } = settings.model.dit;
  // The longest text decides the memory; texts of one length cost the same.
  const counts = new Map<number, number>();
  for (const text of new Set(given)) {
    const tokens = Math.min(textLength, estimateTokens(text));
    counts.set(tokens, (counts.get(tokens) ?? 0) + 1);
  }
  let total = none;
  for (const [tokens, texts] of counts) {
    device.counters.reset();
    using _scope = openScope(device);
    encoder.encode(new Int32Array(tokens));
    total = plus(total, work(device), texts);
  }
  return { name: "texts", ...peaks(device), work: total };
}

/** Previews while a transformer is set up for training: their pictures, a forward pass, then the decoder beside it. */
async function planPreviews(
  device: NullDevice,
  settings: TrainSettings,
  files: CheckpointSearch,
  { dit }: Trainable,
): Promise<PhasePlan | undefined> {
  const { preview, model, dtype, vaeDtype } = settings;
  if (!preview) return undefined;
  device.resetPeak();
  let total = none;
  for (const prompt of preview.prompts) {
    const { steps = model.defaults.steps } = prompt;
    const size = await previewSize(prompt, model);
    const { shape } = latentSize(model, size);
    if (prompt.image !== undefined && files.paths.vae !== undefined) {
      device.counters.reset();
      using vae = loadVae(device, files.paths.vae, { dtype: vaeDtype, half: "encoder" });
      using _scope = openScope(device);
      vae.encode(empty(device, [3, model.image === "channels" ? size.frames : 1, size.height, size.width], "f32"));
      total = plus(total, work(device));
    }
    device.counters.reset();
    {
      using _scope = openScope(device);
      dit.forward({
        latents: empty(device, [1, model.dit.inputChannels, ...shape.slice(1)], "f32"),
        timesteps: [500],
        texts: [empty(device, [model.dit.textLength, model.dit.textDim], dtype)],
      });
    }
    const passes = prompt.guidance === 1 ? steps : 2 * steps;
    total = plus(total, work(device), passes);
    if (files.paths.vae === undefined) continue;
    device.counters.reset();
    using vae = loadVae(device, files.paths.vae, { dtype: vaeDtype, half: "decoder" });
    using stream = vae.decoder({ height: shape[2], width: shape[3] });
    const chunk = () => {
      using _scope = openScope(device);
      stream.push(empty(device, [shape[0], 1, shape[2], shape[3]], "f32"));
    };
    for (let frame = 0; frame < shape[1]; frame++) chunk();
    total = plus(total, work(device));
  }
  return { name: "previews", ...peaks(device), work: total };
}
