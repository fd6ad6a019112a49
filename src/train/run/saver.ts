// Saves a run: its state, which nobody else writes, and the files it leaves. What the state on disk does not know of is done
// again by the run that goes on from it.
import type { TrainSettings } from "../config/settings.ts";
import type { TrainEvent } from "./events.ts";
import type { ExpertRoom } from "./expert-room.ts";
import type { Judge } from "./judge.ts";
import type { RunFacts } from "./output-metadata.ts";
import { type OutputMoment, writeOutputs } from "./outputs.ts";
import type { Previews } from "./previews.ts";
import type { Recorder } from "./recorder.ts";
import { prune } from "./retention.ts";
import { type RunState, writeState } from "./state.ts";

export interface SaverParts {
  settings: TrainSettings;
  room: ExpertRoom;
  recorder: Recorder;
  judge: Judge;
  previews: Previews;
  facts: Omit<RunFacts, "step" | "epoch">;
}

/** What of a state is the saver's own. */
type OwnState = Pick<RunState, "fixed" | "startedAt" | "sessionId" | "seconds" | "outputs">;

export class Saver {
  readonly #parts: SaverParts;
  readonly #own: OwnState;
  /** When the seconds were last counted. */
  #counted = performance.now();

  constructor(parts: SaverParts, { fixed, startedAt, sessionId, seconds, outputs }: OwnState) {
    this.#parts = parts;
    this.#own = { fixed, startedAt, sessionId, seconds, outputs: outputs.map((files) => [...files]) };
  }

  /** Saves the state after `step` steps, then the page. */
  async *save(step: number, { finished = false }: { finished?: boolean } = {}): AsyncGenerator<TrainEvent> {
    const { settings, room, recorder, judge, previews } = this.#parts;
    const experts = await room.save(step);
    const now = performance.now();
    this.#own.seconds += (now - this.#counted) / 1000;
    this.#counted = now;
    const state = { step, ...this.#own, ...recorder.state(), ...judge.state(), ...previews.state(), experts, finished };
    await writeState(settings.output, state, settings.save.keepStates);
    yield { type: "state", step };
    await recorder.writePage();
  }

  /** Writes the files of a step or an epoch, which may take the place of older ones. */
  async *saveOutput(step: number, epoch: number, moment: OutputMoment): AsyncGenerator<TrainEvent> {
    const { output, save } = this.#parts.settings;
    this.#own.outputs.push(yield* this.writeOutput(step, epoch, moment));
    await prune(output, this.#own.outputs, save.keepLast);
  }

  /** Writes files that stay; their names. */
  async *writeOutput(step: number, epoch: number, moment: OutputMoment): AsyncGenerator<TrainEvent, string[]> {
    const { settings, room, recorder, facts } = this.#parts;
    const files = await writeOutputs(settings, await room.save(step), moment, { ...facts, step, epoch });
    recorder.add({ kind: "saved", step, files });
    yield { type: "saved", step, files };
    return files;
  }
}
