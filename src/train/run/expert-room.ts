// The one expert in memory. Another one takes its place: what trained is saved, everything is freed, the other is loaded.
import type { Device } from "../../device/device.ts";
import type { CheckpointSearch } from "../../models/wan/checkpoint-files.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import { showing } from "../optimizers/optimizer.ts";
import type { LoraDropout } from "../step/dropout.ts";
import { type ExpertModel, type ExpertSettings, openDitFile, openExpert } from "./expert-model.ts";
import { restoreExpert, type SavedExpert, saveExpert } from "./saved-expert.ts";

export interface RoomOptions {
  device: Device;
  settings: ExpertSettings & { output: string; experts: { train: readonly Expert[] } };
  files: CheckpointSearch;
  dropout: LoraDropout | undefined;
  /** Saved experts of the state that is gone on from. */
  saved: Partial<Record<Expert, SavedExpert>>;
}

export class ExpertRoom implements Disposable {
  readonly #options: RoomOptions;
  /** Where each expert's values of the last save are. */
  readonly #saved: Partial<Record<Expert, SavedExpert>>;
  #current: ExpertModel | undefined;
  /** True where the expert in memory trained since it was saved or loaded. */
  #changed = false;
  /** Puts the values that train back where those to look at are in their place. */
  #shown: Disposable | undefined;

  constructor(options: RoomOptions) {
    this.#options = options;
    this.#saved = { ...options.saved };
  }

  get current(): ExpertModel | undefined {
    return this.#current;
  }

  /** As {@link use}, with the values to look at in it until {@link hide}. */
  async show(expert: Expert, step: number): Promise<ExpertModel> {
    if (this.#shown && this.#current?.expert === expert) return this.#current;
    const model = await this.use(expert, step);
    if (model.training) this.#shown = showing(this.#options.device, model.training.optimizer);
    return model;
  }

  /** Puts back what trains. */
  hide(): void {
    this.#shown?.[Symbol.dispose]();
    this.#shown = undefined;
  }

  /** The expert in memory, changing it where it is another one. `step`: steps of the run done so far. */
  async use(expert: Expert, step: number): Promise<ExpertModel> {
    this.hide();
    if (this.#current?.expert === expert) return this.#current;
    await this.save(step);
    this.#free();
    const { device, settings, files, dropout } = this.#options;
    const train = settings.experts.train.includes(expert);
    const source = openDitFile(files.file(expert), settings.model);
    const model = openExpert(device, settings, expert, source, { train, ...(dropout ? { dropout } : {}) });
    this.#current = model;
    const saved = this.#saved[expert];
    if (saved && train) restoreExpert(settings.output, model, saved);
    return model;
  }

  /** Steps that an expert has trained. */
  stepsOf(expert: Expert): number {
    const optimizer = this.#current?.expert === expert ? this.#current.training?.optimizer : undefined;
    return optimizer?.step ?? this.#saved[expert]?.numbers.step ?? 0;
  }

  /** The expert in memory was trained by a step. */
  trained(): void {
    this.#changed = true;
  }

  /** Saves the expert in memory where it changed; returns where every expert is. */
  async save(step: number): Promise<Partial<Record<Expert, SavedExpert>>> {
    this.hide();
    const model = this.#current;
    if (model?.training && this.#changed) {
      this.#saved[model.expert] = await saveExpert(this.#options.settings.output, model, step);
      this.#changed = false;
    }
    return { ...this.#saved };
  }

  #free(): void {
    this.hide();
    this.#current?.[Symbol.dispose]();
    this.#current = undefined;
  }

  [Symbol.dispose](): void {
    this.#free();
  }
}
