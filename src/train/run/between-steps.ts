// What a run does before, between and after its steps, and in which order: experts come into memory and are judged, files,
// state, previews and page are written. How each is done: judge.ts, previews.ts, saver.ts, recorder.ts.
import type { Expert } from "../../models/wan/recognize.ts";
import type { StepLine } from "../../protocol/train-log.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { TrainEvent } from "./events.ts";
import type { ExpertModel } from "./expert-model.ts";
import type { ExpertRoom } from "./expert-room.ts";
import type { Judge } from "./judge.ts";
import type { OutputMoment } from "./outputs.ts";
import type { Previews } from "./previews.ts";
import type { Recorder } from "./recorder.ts";
import type { Saver } from "./saver.ts";

export interface RunParts {
  settings: TrainSettings;
  steps: number;
  /** Those that any step of the run trains. */
  experts: readonly Expert[];
  batchesPerEpoch: number;
  room: ExpertRoom;
  recorder: Recorder;
  judge: Judge;
  previews: Previews;
  saver: Saver;
}

export class BetweenSteps {
  readonly #run: RunParts;

  constructor(run: RunParts) {
    this.#run = run;
  }

  /** Epochs that are complete after `step` steps. */
  #epochsDone(step: number): number {
    const { settings, batchesPerEpoch } = this.#run;
    return Math.floor((step * settings.optimizer.accumulation) / batchesPerEpoch);
  }

  /** Brings an expert into memory after `step` steps, and judges it where that is owed. */
  async *use(expert: Expert, step: number): AsyncGenerator<TrainEvent, ExpertModel> {
    const { room, judge } = this.#run;
    let model = room.current;
    if (model?.expert !== expert) {
      yield { type: "loading", expert };
      model = await room.use(expert, step);
      const parameters = [...model.training!.parameters.values()];
      const count = parameters.reduce((sum, { size }) => sum + size, 0);
      yield { type: "loaded", expert, parameters: count, tensors: parameters.length };
    }
    if (judge.owes(expert)) yield* judge.judge(model, step);
    return model;
  }

  /** Logs a step; `line` but for what follows from the steps before it. */
  logStep(line: Omit<StepLine, "smoothed" | "epoch">): StepLine {
    return this.#run.recorder.step({ ...line, epoch: 1 + this.#epochsDone(line.step - 1) });
  }

  /** All that is due after `step` steps, the last of which trained `model`. */
  async *after(step: number, model: ExpertModel): AsyncGenerator<TrainEvent> {
    const { settings, steps, judge, previews, saver } = this.#run;
    const { save, preview } = settings;
    const last = step === steps;
    const epochs = this.#epochsDone(step);
    const due = (every: number | undefined) => every !== undefined && step % every === 0;
    const dueEpoch = (every: number | undefined) =>
      every !== undefined && epochs > this.#epochsDone(step - 1) && epochs % every === 0;

    const judged = judge.isDue(step, last);
    if (judged) yield* this.#judgeAll(step, model, last);
    const moments: OutputMoment[] = [];
    if (due(save.everySteps) && !last) moments.push({ at: "step", step });
    if (dueEpoch(save.everyEpochs) && !last) moments.push({ at: "epoch", epoch: epochs });
    for (const moment of moments) yield* saver.saveOutput(step, epochs, moment);
    const shows = previews.any && (due(preview?.everySteps) || dueEpoch(preview?.everyEpochs) || last);
    if (shows) previews.owe();
    // The last step's state is saved too: whatever goes wrong with the files after it costs no step.
    if (due(save.stateEverySteps) || moments.length > 0 || judged || shows || last) yield* saver.save(step);
    if (shows && !last) yield* this.preview(step);
  }

  /**
   * Judges the expert in memory. The other one, where it trained since it was judged, is judged when its turn to train
   * comes: bringing it here would load a model twice. Only in the end, when no turn comes, that is done.
   */
  async *#judgeAll(step: number, model: ExpertModel, last: boolean): AsyncGenerator<TrainEvent> {
    const { experts, room, judge } = this.#run;
    yield* judge.judge(model, step);
    const others = experts.filter((expert) => expert !== model.expert);
    if (!last) return judge.postpone(others, (expert) => room.stepsOf(expert));
    judge.postponeAll(others);
    for (const other of others) yield* this.use(other, step);
  }

  /** Makes the previews that are due after `step` steps, where any are. */
  async *preview(step: number): AsyncGenerator<TrainEvent> {
    const { previews, saver } = this.#run;
    if (!previews.owed) return;
    yield* previews.make(step);
    if (!previews.owed) yield* saver.save(step);
  }

  /** The files of the finished run, then what is left to look at; the names of the files. */
  async *finish(): AsyncGenerator<TrainEvent, string[]> {
    const { steps, saver } = this.#run;
    const files = yield* saver.writeOutput(steps, this.#epochsDone(steps), { at: "end" });
    // A run that is killed in its last previews makes them when it is called again.
    yield* this.preview(steps);
    yield* saver.save(steps, { finished: true });
    return files;
  }

  /** Saves the state after `step` steps where the run is left. */
  leave(step: number): AsyncGenerator<TrainEvent> {
    return this.#run.saver.save(step);
  }
}
