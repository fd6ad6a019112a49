// Whose held-out loss is due, and computing it. Judging an expert that is not in memory waits for its turn.
import type { DatasetItem } from "../../dataset/items.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { TrainSettings } from "../config/settings.ts";
import { showing } from "../optimizers/optimizer.ts";
import type { CachedData } from "./data.ts";
import type { TrainEvent } from "./events.ts";
import type { ExpertModel } from "./expert-model.ts";
import type { Recorder } from "./recorder.ts";
import type { RunState } from "./state.ts";
import { validate } from "./validation.ts";

type JudgeState = Pick<RunState, "judged" | "toJudge">;

export interface JudgeParts {
  settings: TrainSettings;
  data: CachedData;
  heldOut: readonly DatasetItem[];
  recorder: Recorder;
}

export class Judge {
  readonly #parts: JudgeParts;
  /** Steps that each expert had trained when it was judged last. */
  readonly #judged: JudgeState["judged"];
  #owed: readonly Expert[];

  constructor(parts: JudgeParts, { judged, toJudge }: JudgeState) {
    this.#parts = parts;
    this.#judged = { ...judged };
    this.#owed = toJudge;
  }

  /** Whether held-out losses are due after `step` steps. */
  isDue(step: number, last: boolean): boolean {
    const { heldOut, settings } = this.#parts;
    return heldOut.length > 0 && (last || step % settings.validation.everySteps === 0);
  }

  /** Whether an expert is judged before it trains: the untrained one is what all later ones are measured against. */
  owes(expert: Expert): boolean {
    if (this.#parts.heldOut.length === 0) return false;
    return this.#judged[expert] === undefined || this.#owed.includes(expert);
  }

  /** Of `others`, which are not in memory, those that trained since they were judged have their turn later. */
  postpone(others: readonly Expert[], stepsOf: (expert: Expert) => number): void {
    this.#owed = others.filter((expert) => stepsOf(expert) > (this.#judged[expert] ?? 0));
  }

  /** All of `others` are to be judged, trained or not. */
  postponeAll(others: readonly Expert[]): void {
    this.#owed = others;
  }

  async *judge(model: ExpertModel, step: number): AsyncGenerator<TrainEvent> {
    const { heldOut, settings, data, recorder } = this.#parts;
    const { expert } = model;
    yield { type: "validating", expert, items: heldOut.length };
    using shown = showing(model.dit.device, model.training!.optimizer);
    const line = { step, ...(await validate(model, heldOut, data, settings)) };
    shown[Symbol.dispose]();
    recorder.add(line);
    this.#judged[expert] = model.training!.optimizer.step;
    this.#owed = this.#owed.filter((other) => other !== expert);
    yield { type: "validation", line };
  }

  state(): JudgeState {
    return { judged: { ...this.#judged }, toJudge: [...this.#owed] };
  }
}
