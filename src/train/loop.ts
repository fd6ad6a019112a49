// Training from beginning to end: data, experts, steps, and everything that happens between steps.
// A step is a function of (configuration, step number) and of the state before it, so a run that is killed at any moment
// and started again ends with the same bits.
import { join } from "node:path";
import { KinoraError } from "../base/errors.ts";
import { type Batch, epochBatches, epochBits } from "../dataset/batches.ts";
import type { DatasetItem } from "../dataset/items.ts";
import type { Device } from "../device/device.ts";
import type { HashCache } from "../io/content-hash.ts";
import { searchCheckpoint } from "../models/wan/checkpoint-files.ts";
import { defaultNegative } from "../models/wan/prompt.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { openScope } from "../tensor/scope.ts";
import { buildCaches, planItems } from "./data.ts";
import { drawSeed } from "./draws.ts";
import { LoraDropout } from "./dropout.ts";
import type { TrainEvent, TrainResult } from "./events.ts";
import { expertAt } from "./expert-order.ts";
import { ExpertRoom } from "./expert-room.ts";
import { gatherBatchGradients } from "./gradients.ts";
import { type OutputMoment, type RunFacts, writeOutputs } from "./outputs.ts";
import type { PreviewMaker } from "./preview.ts";
import { fixedFacts } from "./resume.ts";
import { prune } from "./retention.ts";
import { RunLock } from "./run-lock.ts";
import { RunLog } from "./run-log.ts";
import { writeRunPage } from "./run-page.ts";
import { drawBatch } from "./samples.ts";
import { learningRateAt, scheduleOf } from "./schedule.ts";
import type { TrainSettings } from "./settings.ts";
import { checkFixed, type RunState, readState, writeState } from "./state.ts";
import { checkRange, expertRange } from "./timesteps.ts";
import { validate } from "./validation.ts";

export interface TrainOptions {
  device: Device;
  hashes: HashCache;
  /** Aborting ends the run after the step under way, with its state saved. */
  signal?: AbortSignal;
  /** Makes previews; without it, prompts are not used. */
  preview?: PreviewMaker;
}

/** How slowly the smoothed loss follows. */
const SMOOTHING = 0.95;
/** Steps that the estimate of the time left looks back on. */
const RECENT = 20;

/**
 * @throws KinoraError `train.*`, `dataset.*`, `checkpoint.*`, `weights.*`, `lora.*`, `io.*`, `memory.exhausted`. Whatever
 *   is thrown, the last saved state is whole.
 */
export async function* train(settings: TrainSettings, options: TrainOptions): AsyncGenerator<TrainEvent, TrainResult> {
  const { device, hashes, signal, preview } = options;
  for (const expert of settings.experts.train) {
    const range = expertRange(expert, settings.model.boundary);
    checkRange(
      settings.time,
      range,
      settings.model.boundary === undefined ? settings.model.name : `the ${expert}-noise expert`,
    );
  }
  using _lock = RunLock.take(settings.output);
  const before = await readState(settings.output);
  const files = searchCheckpoint(settings.model, settings.files);
  for (const expert of settings.experts.train) files.file(expert);
  const { plan, items } = yield* planItems(settings, signal);
  const prompts = preview ? (settings.preview?.prompts ?? []) : [];
  const negative = (prompt: { negative?: string }) => prompt.negative ?? defaultNegative(settings.model);
  const texts = prompts.flatMap((prompt) => [prompt.prompt, negative(prompt)]);
  const data = yield* buildCaches(settings, items, { device, hashes, files, texts, ...(signal ? { signal } : {}) });

  const batchSize = (dataset: number) => settings.dataset.datasets[dataset]!.batchSize;
  const epochOf = new EpochBatches((epoch) => epochBatches(items.train, batchSize, epochBits(settings.seed, epoch)));
  const { accumulation } = settings.optimizer;
  const { steps, batchesPerEpoch: perEpoch } = stepsOf(settings, items.train);
  const schedule = scheduleOf(settings, steps);
  const fixed = fixedFacts(settings, data);
  if (before) {
    checkFixed(before.fixed, fixed);
    if (before.step > steps) {
      throw new KinoraError("train.already-longer", `${settings.output} holds a run that is beyond ${steps} steps`, {
        actual: `${before.step} steps done`,
        hint: "choose another output, or more steps",
      });
    }
  }
  const state: RunState = before ?? freshState(fixed);
  state.finished = false;
  yield { type: "ready", plan, items, steps, batchesPerEpoch: perEpoch, resumed: state.step };

  // The first judgement of an expert comes after the state of its step: what the state does not know comes again.
  using log = await RunLog.open(
    settings.output,
    state.step,
    (line) => line.kind !== "validation" || state.judged.includes(line.expert),
  );
  using dropout = new LoraDropout(device, settings.lora.dropout);
  using room = new ExpertRoom({
    device,
    settings,
    files,
    dropout: settings.kind === "lora" && settings.lora.dropout > 0 ? dropout : undefined,
    saved: state.experts,
  });
  device.resetPeak();
  const sizes = plan.datasets.flatMap(({ buckets }) => buckets);
  const largest = sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
  const facts = (step: number): RunFacts => ({
    sessionId: state.sessionId,
    startedAt: state.startedAt,
    step,
    steps,
    epoch: epochAt(step),
    trainItems: items.train.reduce((sum, { repeats }) => sum + repeats, 0),
    batchesPerEpoch: perEpoch,
    warmupSteps: schedule.warmup,
    size: { width: largest.width, height: largest.height },
    base: files.paths,
    vae: files.file("vae"),
    datasets: plan.datasets.map(({ section, items: count, batches }) => ({
      resolution: section.resolution,
      batch_size: section.batchSize,
      num_repeats: section.repeats,
      items: count,
      batches,
    })),
  });
  /** Epochs that are complete after `step` steps. */
  const epochAt = (step: number) => Math.floor((step * accumulation) / perEpoch);
  let mark = performance.now();
  const saveState = async (step: number): Promise<void> => {
    state.step = step;
    state.experts = await room.save(step);
    state.seconds += (performance.now() - mark) / 1000;
    mark = performance.now();
    await writeState(settings.output, state);
  };

  async function* use(expert: Expert, step: number): AsyncGenerator<TrainEvent> {
    if (room.current?.expert === expert) return;
    yield { type: "loading", expert };
    const { training } = await room.use(expert, step);
    const parameters = [...(training?.parameters.values() ?? [])];
    const count = parameters.reduce((sum, { size }) => sum + size, 0);
    yield { type: "loaded", expert, parameters: count, tensors: parameters.length };
    if (!training || items.heldOut.length === 0 || state.judged.includes(expert)) return;
    // The untrained model's loss is what all later ones are measured against.
    if (training.optimizer.step === 0) yield* judge(step);
    state.judged = [...state.judged, expert];
  }

  async function* judge(step: number): AsyncGenerator<TrainEvent> {
    const model = room.current!;
    yield { type: "validating", expert: model.expert, items: items.heldOut.length };
    dropout.end();
    const line = { step, ...(await validate(model, items.heldOut, data, settings)) };
    log.add(line);
    yield { type: "validation", line };
  }

  async function* previews(step: number): AsyncGenerator<TrainEvent> {
    dropout.end();
    for (const [index, prompt] of prompts.entries()) {
      const started = performance.now();
      const file = `previews/${String(step).padStart(8, "0")}-${index}.mp4`;
      const run = preview!({
        model: settings.model,
        prompt,
        seed: prompt.seed ?? settings.seed,
        text: { positive: data.text(prompt.prompt), negative: data.text(negative(prompt)) },
        device,
        files,
        vaeDtype: settings.vaeDtype,
        expert: async (which) => (await room.use(which, step)).dit,
        out: join(settings.output, file),
        ...(signal ? { signal } : {}),
      });
      for await (const progress of run) yield { type: "previewing", index, prompts: prompts.length, ...progress };
      const seconds = (performance.now() - started) / 1000;
      const line = { kind: "preview" as const, step, index, prompt: prompt.prompt, file, seconds };
      log.add(line);
      yield { type: "preview", line };
    }
  }

  async function* output(step: number, moment: OutputMoment): AsyncGenerator<TrainEvent, string[]> {
    const written = await writeOutputs(settings, await room.save(step), moment, facts(step));
    log.add({ kind: "saved", step, files: written });
    yield { type: "saved", step, files: written };
    return written;
  }

  const recent: number[] = [];
  if (state.step === 0 && prompts.length > 0 && settings.preview!.atStart) yield* previews(0);
  for (let step = state.step; step < steps; step++) {
    if (signal?.aborted) {
      await saveState(step);
      yield { type: "state", step };
      return result("stopped", step, []);
    }
    const started = performance.now();
    const expert = expertAt(step, settings.experts, steps);
    yield* use(expert, step);
    const { dit, training } = room.current!;
    const { optimizer } = training!;
    const batches = Array.from({ length: accumulation }, (_, k) => epochOf.at(step * accumulation + k));
    const count = batches.reduce((sum, batch) => sum + batch.items.length, 0);
    const losses: number[] = [];
    const sigmas: number[] = [];
    for (const [k, batch] of batches.entries()) {
      using _scope = openScope(device);
      const range = expertRange(expert, settings.model.boundary);
      const samples = drawBatch(device, batch.items, data, settings, { step, batch: k, range });
      dropout.begin(drawSeed(settings.seed, "dropout", step, k));
      losses.push(
        ...(await gatherBatchGradients(dit, samples, { weight: 1 / count, checkpointed: settings.checkpointing })),
      );
      sigmas.push(...samples.map(({ sigma }) => sigma));
    }
    const loss = losses.reduce((sum, value) => sum + value, 0) / count;
    const gradientNorm = await optimizer.gradientNorm();
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      for (const parameter of training!.parameters.values()) parameter.clearGradient();
      await saveState(step);
      throw notFinite(step, expert, loss, sigmas, batches);
    }
    const { clip, learningRate } = settings.optimizer;
    const rate = learningRateAt(schedule, step, learningRate);
    optimizer.update(rate, clip > 0 && gradientNorm > clip ? clip / gradientNorm : 1);
    room.trained();
    await device.synchronize();
    const done = step + 1;
    state.smoothedLoss = state.smoothedLoss === null ? loss : SMOOTHING * state.smoothedLoss + (1 - SMOOTHING) * loss;
    const seconds = (performance.now() - started) / 1000;
    recent.push(seconds);
    if (recent.length > RECENT) recent.shift();
    const line = {
      kind: "step" as const,
      step: done,
      epoch: 1 + Math.floor((step * accumulation) / perEpoch),
      expert,
      loss,
      smoothed: state.smoothedLoss,
      learningRate: rate,
      gradientNorm,
      sigmas,
      seconds,
      peakBytes: device.memory().peak,
    };
    log.add(line);
    const pace = recent.reduce((sum, value) => sum + value, 0) / recent.length;
    yield { type: "step", line, steps, left: pace * (steps - done) };
    // Signals and timers have their turn between steps.
    await new Promise(setImmediate);

    const { validation, save } = settings;
    const last = done === steps;
    const epochsDone = epochAt(done);
    const newEpoch = epochsDone > epochAt(step);
    const due = (every: number | undefined) => every !== undefined && done % every === 0;
    const dueEpoch = (every: number | undefined) => every !== undefined && newEpoch && epochsDone % every === 0;
    let page = last;
    if (items.heldOut.length > 0 && (due(validation.everySteps) || last)) {
      yield* judge(done);
      page = true;
    }
    if (items.heldOut.length > 0 && last) {
      for (const other of settings.experts.train) {
        if (other === expert) continue;
        yield* use(other, done);
        yield* judge(done);
      }
    }
    const moments: OutputMoment[] = [];
    if (due(save.everySteps) && !last) moments.push({ at: "step", step: done });
    if (dueEpoch(save.everyEpochs) && !last) moments.push({ at: "epoch", epoch: epochsDone });
    for (const moment of moments) {
      state.outputs.push(yield* output(done, moment));
      await prune(settings.output, state.outputs, save.keepLast);
    }
    if (prompts.length > 0 && (due(settings.preview!.everySteps) || dueEpoch(settings.preview!.everyEpochs) || last)) {
      yield* previews(done);
      page = true;
    }
    if (due(save.stateEverySteps) || moments.length > 0 || page) {
      if (!last) {
        await saveState(done);
        yield { type: "state", step: done };
      }
      if (!last) await writeRunPage(settings, log.lines, steps);
    }
  }
  const final = yield* output(steps, { at: "end" });
  state.finished = true;
  await saveState(steps);
  yield { type: "state", step: steps };
  await writeRunPage(settings, log.lines, steps);
  return result("finished", steps, final);

  function result(end: TrainResult["end"], step: number, written: string[]): TrainResult {
    return { end, step, steps, output: settings.output, files: written, peakBytes: device.memory().peak };
  }
}

/** Batches by their number over all epochs; the epoch in use is kept. */
class EpochBatches {
  readonly #make: (epoch: number) => Batch[];
  #epoch = -1;
  #current: Batch[] = [];

  constructor(make: (epoch: number) => Batch[]) {
    this.#make = make;
  }

  batches(epoch: number): Batch[] {
    if (epoch !== this.#epoch) {
      this.#current = this.#make(epoch);
      this.#epoch = epoch;
    }
    return this.#current;
  }

  at(index: number): Batch {
    // Every epoch has as many batches as the first: the same items in another order.
    const count = this.#epoch < 0 ? this.batches(0).length : this.#current.length;
    return this.batches(Math.floor(index / count))[index % count]!;
  }
}

/** How long a run is, from its settings and the items of an epoch. */
export function stepsOf(
  { length, optimizer, dataset }: Pick<TrainSettings, "length" | "optimizer" | "dataset">,
  items: readonly DatasetItem[],
): { steps: number; batchesPerEpoch: number } {
  const batchesPerEpoch = epochBatches(items, (index) => dataset.datasets[index]!.batchSize).length;
  const steps =
    "steps" in length ? length.steps : Math.ceil((length.epochs * batchesPerEpoch) / optimizer.accumulation);
  return { steps, batchesPerEpoch };
}

function freshState(fixed: Record<string, string>): RunState {
  const startedAt = Date.now() / 1000;
  return {
    kind: "kinora.train-state",
    version: 1,
    step: 0,
    fixed,
    smoothedLoss: null,
    startedAt,
    seconds: 0,
    sessionId: Math.floor(startedAt * 1000) % 2 ** 31,
    experts: {},
    judged: [],
    outputs: [],
    finished: false,
  };
}

function notFinite(step: number, expert: Expert, loss: number, sigmas: readonly number[], batches: readonly Batch[]) {
  const items = batches.flatMap((batch) => batch.items.map(({ id }) => id));
  return new KinoraError(
    "train.not-finite",
    `step ${step + 1} gave ${Number.isFinite(loss) ? "gradients" : "a loss"} that is not finite`,
    {
      actual: `loss ${loss}, ${expert}-noise expert, σ ${sigmas.map((sigma) => sigma.toFixed(4)).join(", ")}, items ${items.slice(0, 3).join(", ")}`,
      hint: "the state before this step is saved; lower the learning rate in a new output, or check the weights (kinora models inspect) and these items",
    },
  );
}
