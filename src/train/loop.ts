// Training from beginning to end: data, experts, steps, and everything that happens between steps.
// A step is a function of (configuration, step number) and of the state before it, so a run that is killed at any moment
// and started again ends with the same bits.
import { join } from "node:path";
import { isKinoraError, KinoraError } from "../base/errors.ts";
import type { Device } from "../device/device.ts";
import { makeFolder } from "../io/atomic.ts";
import type { HashCache } from "../io/content-hash.ts";
import { FileLock } from "../io/file-lock.ts";
import { searchCheckpoint } from "../models/wan/checkpoint-files.ts";
import { defaultNegative } from "../models/wan/prompt.ts";
import type { Expert } from "../models/wan/recognize.ts";
import { buildCaches, planItems } from "./data.ts";
import { LoraDropout } from "./dropout.ts";
import { EpochBatches, stepsOf } from "./epochs.ts";
import type { TrainEvent, TrainResult } from "./events.ts";
import { expertOfStep } from "./expert-order.ts";
import { ExpertRoom } from "./expert-room.ts";
import { type OutputMoment, type RunFacts, writeOutputs } from "./outputs.ts";
import type { PreviewMaker } from "./preview.ts";
import { checkReady } from "./readiness.ts";
import { checkFixed, fixedFacts, fixedSettings } from "./resume.ts";
import { prune } from "./retention.ts";
import { RunLog } from "./run-log.ts";
import { writeRunPage } from "./run-page.ts";
import { learningRateAt, scheduleOf } from "./schedule.ts";
import type { TrainSettings } from "./settings.ts";
import { freshState, type RunState, readState, writeState } from "./state.ts";
import { type StepResult, trainStep } from "./step.ts";
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
    const range = expertRange(expert, settings.boundary);
    checkRange(
      settings.time,
      range,
      settings.boundary === undefined ? settings.model.name : `the ${expert}-noise expert`,
    );
  }
  await makeFolder(settings.output);
  using _lock = FileLock.take(join(settings.output, ".lock"), {
    code: "train.locked",
    message: `another run is at work in ${settings.output}`,
    instead: "choose another output",
  });
  const before = await readState(settings.output);
  if (before) checkFixed(before.fixed, fixedSettings(settings));
  const prompts = preview ? (settings.preview?.prompts ?? []) : [];
  const files = searchCheckpoint(settings.model, settings.files);
  checkReady(settings, files, { previews: prompts.length > 0 });
  const { plan, items } = yield* planItems(settings, signal);
  const negative = (prompt: { negative?: string }) => prompt.negative ?? defaultNegative(settings.model);
  const texts = prompts.flatMap((prompt) => [prompt.prompt, negative(prompt)]);
  const data = yield* buildCaches(settings, items, { device, hashes, files, texts, ...(signal ? { signal } : {}) });

  const batches = new EpochBatches(items.train, settings);
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
    settings.boundary !== undefined,
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
    const line = { step, ...(await validate(model, items.heldOut, data, settings)) };
    log.add(line);
    yield { type: "validation", line };
  }

  async function* previews(step: number): AsyncGenerator<TrainEvent> {
    const fileOf = (index: number) => `previews/${String(step).padStart(8, "0")}-${index}.mp4`;
    const round = preview!({
      model: settings.model,
      boundary: settings.boundary,
      device,
      vae: { path: files.file("vae"), dtype: settings.vaeDtype },
      films: prompts.map((prompt, index) => ({
        ...prompt,
        seed: prompt.seed ?? settings.seed,
        text: { positive: data.text(prompt.prompt), negative: data.text(negative(prompt)) },
        out: join(settings.output, fileOf(index)),
      })),
      expert: async (which) => (await room.use(which, step)).dit,
      ...(signal ? { signal } : {}),
    });
    try {
      for await (const event of round) {
        const { index } = event;
        if (event.type === "step") {
          yield { type: "previewing", index, prompts: prompts.length, done: event.done, of: event.of };
          continue;
        }
        const line = {
          kind: "preview" as const,
          step,
          index,
          prompt: prompts[index]!.prompt,
          file: fileOf(index),
          seconds: event.seconds,
        };
        log.add(line);
        yield { type: "preview", line };
      }
    } catch (error) {
      // Whoever stops the run does not wait for films; the steps behind them are saved.
      if (!signal?.aborted) throw error;
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
      await writeRunPage(settings, log.lines, steps);
      return result("stopped", step, []);
    }
    const started = performance.now();
    const expert = expertOfStep(step, settings.experts, steps);
    yield* use(expert, step);
    const rate = learningRateAt(schedule, step, settings.optimizer.learningRate);
    let trained: StepResult;
    try {
      const place = { step, learningRate: rate, dropout };
      trained = await trainStep(room.current!, batches.ofStep(step), data, settings, place);
    } catch (error) {
      // The weights are still those after the step before.
      if (isKinoraError(error, "train.not-finite")) await saveState(step);
      throw error;
    }
    room.trained();
    const { loss, gradientNorm, sigmas } = trained;
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
    let page = false;
    if (items.heldOut.length > 0 && (due(validation.everySteps) || last)) {
      yield* judge(done);
      page = true;
      // In the end the other expert is judged too, though that loads it once more.
      for (const other of last ? settings.experts.train.filter((name) => name !== expert) : []) {
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
    if (!last && (due(save.stateEverySteps) || moments.length > 0 || page)) {
      await saveState(done);
      yield { type: "state", step: done };
      await writeRunPage(settings, log.lines, steps);
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
