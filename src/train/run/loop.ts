// Training from beginning to end: data, experts, steps; what happens between steps is in between-steps.ts.
// A step is a function of (configuration, step number) and of the state before it, so a run that is killed at any moment
// and started again ends with the same bits.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { isKinoraError, KinoraError } from "../../base/errors.ts";
import type { Device } from "../../device/device.ts";
import { makeFolder, sweepPartials } from "../../io/atomic.ts";
import type { HashCache } from "../../io/content-hash.ts";
import { FileLock } from "../../io/file-lock.ts";
import { searchCheckpoint } from "../../models/wan/checkpoint-files.ts";
import type { TrainSettings } from "../config/settings.ts";
import { learningRateAt, scheduleOf, warmupWarning } from "../optimizers/schedules/index.ts";
import type { Schedule } from "../optimizers/schedules/schedule.ts";
import { checkReady } from "../plan/readiness.ts";
import { LoraDropout } from "../step/dropout.ts";
import { type StepResult, trainStep } from "../step/step.ts";
import { checkRange, expertRange } from "../step/timesteps.ts";
import { BetweenSteps } from "./between-steps.ts";
import { buildCaches, type CachedData, hashExperts, planItems } from "./data.ts";
import { EpochBatches, stepsOf } from "./epochs.ts";
import type { TrainEvent, TrainResult } from "./events.ts";
import { expertCounts, expertOfStep } from "./expert-order.ts";
import { ExpertRoom } from "./expert-room.ts";
import { Judge } from "./judge.ts";
import { factsOf, identifyBase } from "./output-metadata.ts";
import { finalFiles } from "./outputs.ts";
import type { PreviewMaker } from "./preview.ts";
import { Previews, previewFolder } from "./previews.ts";
import { Recorder } from "./recorder.ts";
import { checkFixed, fixedDataset, fixedExperts, fixedSettings } from "./resume.ts";
import { RunLog } from "./run-log.ts";
import { stateFolder } from "./saved-expert.ts";
import { Saver } from "./saver.ts";
import { checkState, freshState, keptFolder, type RunState, readState, writeState } from "./state.ts";
import { previewTexts } from "./texts.ts";

/** What a run needs that is no setting: a device, hashes, and what makes previews. */
export interface TrainOptions {
  device: Device;
  hashes: HashCache;
  /** Aborting ends the run after the step under way, with its state saved. */
  signal?: AbortSignal;
  /** Makes previews; without it, prompts are not used. */
  preview?: PreviewMaker;
  /** Goes on from the kept state after so many steps instead of the newest. */
  from?: number;
  /** Unix seconds that stand for every time in the files: two runs alike write the same bytes. */
  fixedTime?: number;
}

/**
 * Trains by settled settings, or goes on from the newest state in the output folder. Where `signal` aborts, it ends with
 * `stopped` and its state is saved.
 *
 * @throws KinoraError `train.*`, `dataset.*`, `checkpoint.*`, `weights.*`, `lora.*`, `io.*`, `memory.exhausted`. Whatever
 *   is thrown, the last saved state is whole.
 */
export async function* train(settings: TrainSettings, options: TrainOptions): AsyncGenerator<TrainEvent, TrainResult> {
  const { device, hashes, signal, preview, from, fixedTime } = options;
  for (const expert of settings.experts.train) {
    const name = settings.boundary === undefined ? settings.model.name : `the ${expert}-noise expert`;
    checkRange(settings.time, expertRange(expert, settings.boundary), name);
  }
  await makeFolder(settings.output);
  using _lock = FileLock.take(join(settings.output, ".lock"), {
    code: "train.locked",
    message: `another run is writing to ${settings.output}`,
    instead: "choose another output",
  });
  for (const folder of [".", stateFolder, keptFolder, previewFolder])
    await sweepPartials(join(settings.output, folder), "all");
  const found = await readState(settings.output, hashes, from);
  // A run without a step has nothing to lose: it begins anew, whatever it was.
  const before = found && found.step > 0 ? found : undefined;
  const fixed: Record<string, string> = {};
  const fix = (facts: Record<string, string>): void => {
    if (before) checkFixed(before.fixed, facts);
    Object.assign(fixed, facts);
  };
  fix(fixedSettings(settings));
  const prompts = preview ? (settings.preview?.prompts ?? []) : [];
  const files = searchCheckpoint(settings.model, settings.files);
  for (const text of checkReady(settings, files, { previews: prompts.length > 0 })) yield { type: "note", text };
  const { plan, items } = yield* planItems(settings, signal);
  const { steps, batchesPerEpoch } = stepsOf(settings, items.train);
  if (before && before.step > steps) {
    throw new KinoraError(
      "train.already-longer",
      `${settings.output} contains a run that is already past ${steps} steps`,
      {
        actual: `${before.step} steps done`,
        hint: "choose another output, or more steps",
      },
    );
  }
  if (before?.finished && before.step === steps && from === undefined) {
    const written = finalFiles(settings, before);
    if (written.every((file) => existsSync(join(settings.output, file)))) {
      yield { type: "note", text: `this run is already finished (${steps} steps); nothing was changed` };
      return { end: "finished", step: steps, steps, output: settings.output, files: written, peakBytes: 0 };
    }
  }
  if (before) yield* checkState(settings.output, before, hashes, signal);
  const abort = signal ? { signal } : {};
  fix(fixedExperts(files, yield* hashExperts(settings, { hashes, files, ...abort })));
  const texts = prompts.length > 0 ? previewTexts(settings) : [];
  const data = yield* buildCaches(settings, items, { device, hashes, files, texts, ...abort });
  fix(fixedDataset(data));
  const identities = yield* identifyBase(settings, files, hashes);

  const state: RunState = before ?? freshState(fixed, prompts.length > 0 && settings.preview!.atStart, fixedTime);
  // From here on the states beyond it are given up.
  if (from !== undefined) await writeState(settings.output, state, settings.save.keepStates);
  using log = await RunLog.open(
    settings.output,
    state.step,
    (line) =>
      before !== undefined &&
      // These come after the state of their step: what the state still owes comes again.
      !(line.kind === "preview" && state.toPreview) &&
      !(line.kind === "validation" && (state.judged[line.expert] === undefined || state.toJudge.includes(line.expert))),
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
  const counts = expertCounts(settings.experts, steps);
  const experts = settings.experts.train.filter((expert) => counts[expert] > 0);
  const schedule = scheduleOf(settings, steps);
  const lengths = { steps, batchesPerEpoch, warmupSteps: schedule.warmup };
  const facts = factsOf(plan, items, state, { ...identities, ...lengths, fixedTime });
  const recorder = new Recorder(settings, steps, log, state);
  const judge = new Judge({ settings, data, heldOut: items.heldOut, recorder }, state);
  const looks = { settings, device, files, data, prompts, maker: preview, signal, room, recorder };
  const previews = new Previews(looks, state);
  const saver = new Saver({ settings, room, recorder, judge, previews, facts }, state);
  const between = new BetweenSteps({
    settings,
    steps,
    experts,
    batchesPerEpoch,
    room,
    recorder,
    judge,
    previews,
    saver,
  });
  device.resetPeak();
  const first = state.step;
  try {
    await recorder.writePage();
    yield { type: "ready", plan, items, steps, batchesPerEpoch, resumed: first };
    for (const expert of settings.experts.train) {
      if (experts.includes(expert)) continue;
      const text = `the ${expert}-noise expert gets none of the ${steps} steps: no file is written for it; more steps or another experts.high_share give it some`;
      yield { type: "note", text };
    }
    const warmup = warmupWarning(schedule);
    if (warmup !== undefined) yield { type: "note", text: warmup };
    if (first < steps) yield* between.preview(first);
    const batches = new EpochBatches(items.train, settings);
    const parts = { settings, device, data, batches, schedule, dropout, room, signal };
    const step = yield* takeSteps(between, { first, steps }, parts);
    const ended = step === steps;
    const written = ended ? yield* between.finish() : [];
    const { peak } = device.memory();
    return {
      end: ended ? "finished" : "stopped",
      step,
      steps,
      output: settings.output,
      files: written,
      peakBytes: peak,
    };
  } catch (error) {
    // The page shows how far the run came; what stopped it is the error to hear of.
    await recorder.writePage().catch(() => {});
    throw error;
  }
}

interface StepParts {
  settings: TrainSettings;
  device: Device;
  data: CachedData;
  batches: EpochBatches;
  schedule: Schedule;
  dropout: LoraDropout;
  room: ExpertRoom;
  signal: AbortSignal | undefined;
}

/** Takes the steps that are left and does what is due between them; the steps done, fewer where a stop was asked for. */
async function* takeSteps(
  between: BetweenSteps,
  { first, steps }: { first: number; steps: number },
  { settings, device, data, batches, schedule, dropout, room, signal }: StepParts,
): AsyncGenerator<TrainEvent, number> {
  let begun: number | undefined;
  for (let step = first; step < steps; step++) {
    if (signal?.aborted) {
      yield* between.leave(step);
      return step;
    }
    const expert = expertOfStep(step, settings.experts, steps);
    const model = yield* between.use(expert, step);
    const started = performance.now();
    begun ??= started;
    const learningRate = learningRateAt(schedule, step, settings.optimizer.learningRate);
    let trained: StepResult;
    try {
      trained = await trainStep(model, batches.ofStep(step), data, settings, { step, learningRate, dropout });
    } catch (error) {
      // The weights are still those after the step before.
      if (isKinoraError(error, "train.not-finite") || isKinoraError(error, "cache.damaged")) yield* between.leave(step);
      throw error;
    }
    room.trained();
    const ended = performance.now();
    const done = step + 1;
    const line = between.logStep({
      kind: "step",
      step: done,
      expert,
      ...trained,
      seconds: (ended - started) / 1000,
      peakBytes: device.memory().peak,
    });
    // What happens between steps takes its part of the time that is left.
    const left = ((ended - begun) / 1000 / (done - first)) * (steps - done);
    yield { type: "step", line, steps, left };
    // Signals and timers have their turn between steps.
    await nextTurn();
    yield* between.after(done, model);
  }
  return steps;
}
