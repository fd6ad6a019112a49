// When previews are due, and making a round of them. One that cannot be made is told and ends nothing.
import { join } from "node:path";
import { isKinoraError } from "../../base/errors.ts";
import type { Device } from "../../device/device.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { SamplePrompt } from "../config/prompt-file.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { CachedData } from "./data.ts";
import type { TrainEvent } from "./events.ts";
import type { ExpertRoom } from "./expert-room.ts";
import type { PreviewMaker } from "./preview.ts";
import type { Recorder } from "./recorder.ts";
import type { RunState } from "./state.ts";
import { negativeOf } from "./texts.ts";

export interface PreviewParts {
  settings: TrainSettings;
  device: Device;
  files: CheckpointSearch;
  data: CachedData;
  prompts: readonly SamplePrompt[];
  maker: PreviewMaker | undefined;
  signal: AbortSignal | undefined;
  room: ExpertRoom;
  recorder: Recorder;
}

export const previewFolder = "previews";

export class Previews {
  readonly #parts: PreviewParts;
  /** Those of the step that is done are not made yet. */
  #owed: boolean;

  constructor(parts: PreviewParts, { toPreview }: Pick<RunState, "toPreview">) {
    this.#parts = parts;
    this.#owed = toPreview;
  }

  get owed(): boolean {
    return this.#owed;
  }

  get any(): boolean {
    return this.#parts.prompts.length > 0;
  }

  /** They are due now. */
  owe(): void {
    this.#owed = true;
  }

  /** Makes a round after `step` steps; nothing is owed then, unless a stop was asked for meanwhile. */
  async *make(step: number): AsyncGenerator<TrainEvent> {
    try {
      yield* this.#round(step);
    } catch (error) {
      // Whoever stops the run does not wait for films; the run that goes on makes them.
      if (this.#parts.signal?.aborted) return;
      if (!isKinoraError(error)) throw error;
      const hint = error.hint === undefined ? "" : ` (${error.hint})`;
      yield { type: "note", text: `the previews of step ${step} could not all be made: ${error.message}${hint}` };
    } finally {
      this.#parts.room.hide();
    }
    this.#owed = false;
  }

  async *#round(step: number): AsyncGenerator<TrainEvent> {
    const { settings, device, files, data, prompts, maker, room, recorder, signal } = this.#parts;
    const { model, boundary } = settings;
    if (!maker || prompts.length === 0) return;
    const fileOf = (index: number) => `${previewFolder}/${String(step).padStart(8, "0")}-${index}.mp4`;
    const round = maker({
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
      expert: async (which) => (await room.show(which, step)).dit,
      ...(signal ? { signal } : {}),
    });
    // Films take their steps in turns, so that one count of all of them is what only grows.
    const done = prompts.map(() => 0);
    const of = prompts.map(({ steps = model.defaults.steps }) => steps);
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
    for await (const event of round) {
      const { index } = event;
      if (event.type === "step") {
        [done[index], of[index]] = [event.done, event.of];
        yield { type: "previewing", prompts: prompts.length, done: sum(done), of: sum(of) };
        continue;
      }
      const { prompt } = prompts[index]!;
      const line = { kind: "preview" as const, step, index, prompt, file: fileOf(index), seconds: event.seconds };
      recorder.add(line);
      yield { type: "preview", line };
    }
  }

  state(): Pick<RunState, "toPreview"> {
    return { toPreview: this.#owed };
  }
}
