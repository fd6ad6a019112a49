// What a run writes down as it goes: its log, with each expert's smoothed loss, and its page.
import type { Expert } from "../../models/wan/recognize.ts";
import type { LogLine, StepLine } from "../../protocol/train-log.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { RunLog } from "./run-log.ts";
import { writeRunPage } from "./run-page.ts";
import type { RunState } from "./state.ts";

/** How slowly the smoothed losses follow. */
const SMOOTHING = 0.95;

export class Recorder {
  readonly #settings: TrainSettings;
  readonly #steps: number;
  readonly #log: RunLog;
  readonly #smoothed: Partial<Record<Expert, number>>;

  /** `state`: of the run that is gone on from. */
  constructor(settings: TrainSettings, steps: number, log: RunLog, state: Pick<RunState, "smoothedLoss">) {
    this.#settings = settings;
    this.#steps = steps;
    this.#log = log;
    this.#smoothed = { ...state.smoothedLoss };
  }

  add(line: LogLine): void {
    this.#log.add(line);
  }

  /** Logs a step; `line` but for what follows from the steps before it. */
  step(line: Omit<StepLine, "smoothed">): StepLine {
    const before = this.#smoothed[line.expert];
    const smoothed = before === undefined ? line.loss : SMOOTHING * before + (1 - SMOOTHING) * line.loss;
    this.#smoothed[line.expert] = smoothed;
    const whole = { ...line, smoothed };
    this.#log.add(whole);
    return whole;
  }

  writePage(): Promise<void> {
    return writeRunPage(this.#settings, this.#log.lines, this.#steps);
  }

  state(): Pick<RunState, "smoothedLoss"> {
    return { smoothedLoss: { ...this.#smoothed } };
  }
}
