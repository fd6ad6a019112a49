// What a run does before, between and after its steps: experts come into memory and are judged, files, state, previews
// and page are written. What the state on disk does not know of is done again by the run that goes on from it.
import { join } from "node:path";
import { isKinoraError } from "../../base/errors.ts";
import type { DatasetItem } from "../../dataset/items.ts";
import type { Device } from "../../device/device.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { StepLine } from "../../protocol/train-log.ts";
import type { SamplePrompt } from "../config/prompt-file.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { CachedData } from "./data.ts";
import type { TrainEvent } from "./events.ts";
import type { ExpertModel } from "./expert-model.ts";
import type { ExpertRoom } from "./expert-room.ts";
import { type OutputMoment, type RunFacts, writeOutputs } from "./outputs.ts";
import type { PreviewMaker } from "./preview.ts";
import { prune } from "./retention.ts";
import type { RunLog } from "./run-log.ts";
import { writeRunPage } from "./run-page.ts";
import { type RunState, writeState } from "./state.ts";
import { negativeOf } from "./texts.ts";
import { validate } from "./validation.ts";

/** How slowly the smoothed losses follow. */
const SMOOTHING = 0.95;

export interface RunParts {
  settings: TrainSettings;
  device: Device;
  files: CheckpointSearch;
  data: CachedData;
  heldOut: readonly DatasetItem[];
  steps: number;
  /** Those that any step of the run trains. */
  experts: readonly Expert[];
  batchesPerEpoch: number;
  facts: Omit<RunFacts, "step" | "epoch">;
  prompts: readonly SamplePrompt[];
  preview: PreviewMaker | undefined;
  signal: AbortSignal | undefined;
  room: ExpertRoom;
  log: RunLog;
  state: RunState;
}

export class BetweenSteps {
  readonly #run: RunParts;
  /** When the seconds of the state were last counted. */
  #counted = performance.now();

  constructor(run: RunParts) {
    this.#run = run;
  }

  /** Epochs that are complete after `step` steps. */
  epochsDone(step: number): number {
    const { settings, batchesPerEpoch } = this.#run;
    return Math.floor((step * settings.optimizer.accumulation) / batchesPerEpoch);
  }

  /** Brings an expert into memory after `step` steps, and judges it where that is owed. */
  async *use(expert: Expert, step: number): AsyncGenerator<TrainEvent, ExpertModel> {
    const { room, state, heldOut } = this.#run;
    let model = room.current;
    if (model?.expert !== expert) {
      yield { type: "loading", expert };
      model = await room.use(expert, step);
      const parameters = [...model.training!.parameters.values()];
      const count = parameters.reduce((sum, { size }) => sum + size, 0);
      yield { type: "loaded", expert, parameters: count, tensors: parameters.length };
    }
    // The untrained model's loss is what all later ones are measured against.
    const owed = state.judged[expert] === undefined || state.toJudge.includes(expert);
    if (heldOut.length > 0 && owed) yield* this.#judge(model, step);
    return model;
  }

  async *#judge(model: ExpertModel, step: number): AsyncGenerator<TrainEvent> {
    const { heldOut, settings, data, log, state } = this.#run;
    const { expert } = model;
    yield { type: "validating", expert, items: heldOut.length };
    const line = { step, ...(await validate(model, heldOut, data, settings)) };
    log.add(line);
    state.judged = { ...state.judged, [expert]: model.training!.optimizer.step };
    state.toJudge = state.toJudge.filter((other) => other !== expert);
    yield { type: "validation", line };
  }

  /** Logs a step; `line` but for what follows from the steps before it. */
  logStep(line: Omit<StepLine, "smoothed" | "epoch">): StepLine {
    const { state, log } = this.#run;
    const before = state.smoothedLoss[line.expert];
    const smoothed = before === undefined ? line.loss : SMOOTHING * before + (1 - SMOOTHING) * line.loss;
    state.smoothedLoss = { ...state.smoothedLoss, [line.expert]: smoothed };
    const whole = { ...line, epoch: 1 + this.epochsDone(line.step - 1), smoothed };
    log.add(whole);
    return whole;
  }

  /** All that is due after `step` steps, the last of which trained `model`. */
  async *after(step: number, model: ExpertModel): AsyncGenerator<TrainEvent> {
    const { settings, state, steps, prompts, heldOut } = this.#run;
    const { validation, save, preview } = settings;
    const last = step === steps;
    const epochs = this.epochsDone(step);
    const due = (every: number | undefined) => every !== undefined && step % every === 0;
    const dueEpoch = (every: number | undefined) =>
      every !== undefined && epochs > this.epochsDone(step - 1) && epochs % every === 0;

    const judged = heldOut.length > 0 && (due(validation.everySteps) || last);
    if (judged) yield* this.#judgeAll(step, model, last);
    const moments: OutputMoment[] = [];
    if (due(save.everySteps) && !last) moments.push({ at: "step", step });
    if (dueEpoch(save.everyEpochs) && !last) moments.push({ at: "epoch", epoch: epochs });
    for (const moment of moments) {
      state.outputs.push(yield* this.#output(step, moment));
      await prune(settings.output, state.outputs, save.keepLast);
    }
    const shows = prompts.length > 0 && (due(preview?.everySteps) || dueEpoch(preview?.everyEpochs) || last);
    state.toPreview ||= shows;
    // The last step's state is saved too: whatever goes wrong with the files after it costs no step.
    if (due(save.stateEverySteps) || moments.length > 0 || judged || shows || last) yield* this.save(step);
    if (shows && !last) yield* this.previews(step);
  }

  /**
   * Judges the expert in memory. The other one, where it trained since it was judged, is judged when its turn to train
   * comes: bringing it here would load a model twice. Only in the end, when no turn comes, that is done.
   */
  async *#judgeAll(step: number, model: ExpertModel, last: boolean): AsyncGenerator<TrainEvent> {
    const { experts, room, state } = this.#run;
    yield* this.#judge(model, step);
    const others = experts.filter((expert) => expert !== model.expert);
    state.toJudge = others.filter((expert) => last || room.stepsOf(expert) > (state.judged[expert] ?? 0));
    if (last) for (const other of others) yield* this.use(other, step);
  }

  async *#output(step: number, moment: OutputMoment): AsyncGenerator<TrainEvent, string[]> {
    const { settings, room, log, facts } = this.#run;
    const all = { ...facts, step, epoch: this.epochsDone(step) };
    const files = await writeOutputs(settings, await room.save(step), moment, all);
    log.add({ kind: "saved", step, files });
    yield { type: "saved", step, files };
    return files;
  }

  /** Makes the previews that are due. One that cannot be made is told and ends nothing. */
  async *previews(step: number): AsyncGenerator<TrainEvent> {
    const { state, signal } = this.#run;
    if (!state.toPreview) return;
    try {
      yield* this.#makePreviews(step);
    } catch (error) {
      // Whoever stops the run does not wait for films; the run that goes on makes them.
      if (signal?.aborted) return;
      if (!isKinoraError(error)) throw error;
      const hint = error.hint === undefined ? "" : ` (${error.hint})`;
      yield { type: "note", text: `the previews of step ${step} could not all be made: ${error.message}${hint}` };
    }
    state.toPreview = false;
    yield* this.save(step);
  }

  async *#makePreviews(step: number): AsyncGenerator<TrainEvent> {
    const { settings, device, files, data, prompts, preview, room, log, signal } = this.#run;
    const { model, boundary } = settings;
    if (!preview || prompts.length === 0) return;
    const fileOf = (index: number) => `previews/${String(step).padStart(8, "0")}-${index}.mp4`;
    const round = preview({
      model,
      boundary,
      device,
      vae: { path: files.file("vae"), dtype: settings.vaeDtype },
      films: prompts.map((prompt, index) => ({
        ...prompt,
        seed: prompt.seed ?? settings.seed,
        text: { positive: data.text(prompt.prompt), negative: data.text(negativeOf(prompt, model)) },
        out: join(settings.output, fileOf(index)),
      })),
      expert: async (which) => (await room.use(which, step)).dit,
      ...(signal ? { signal } : {}),
    });
    for await (const event of round) {
      const { index } = event;
      if (event.type === "step") {
        yield { type: "previewing", index, prompts: prompts.length, done: event.done, of: event.of };
        continue;
      }
      const { prompt } = prompts[index]!;
      const line = { kind: "preview" as const, step, index, prompt, file: fileOf(index), seconds: event.seconds };
      log.add(line);
      yield { type: "preview", line };
    }
  }

  /** The files of the finished run, then what is left to look at; the names of the files. */
  async *finish(): AsyncGenerator<TrainEvent, string[]> {
    const { state, steps } = this.#run;
    const files = yield* this.#output(steps, { at: "end" });
    // A run that is killed in its last previews makes them when it is called again.
    yield* this.previews(steps);
    state.finished = true;
    yield* this.save(steps);
    return files;
  }

  /** Saves the state after `step` steps, then the page. */
  async *save(step: number): AsyncGenerator<TrainEvent> {
    const { settings, state, room } = this.#run;
    state.step = step;
    state.experts = await room.save(step);
    const now = performance.now();
    state.seconds += (now - this.#counted) / 1000;
    this.#counted = now;
    await writeState(settings.output, state);
    yield { type: "state", step };
    await this.writePage();
  }

  async writePage(): Promise<void> {
    const { settings, log, steps } = this.#run;
    await writeRunPage(settings, log.lines, steps);
  }
}
