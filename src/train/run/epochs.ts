// Batches over the epochs of a run, by number: the same items every epoch, each time in another order.
import { KinoraError } from "../../base/errors.ts";
import { type Batch, epochBatches, epochBits } from "../../dataset/batches.ts";
import type { DatasetItem } from "../../dataset/items.ts";
import type { TrainSettings } from "../config/settings.ts";

type EpochSettings = Pick<TrainSettings, "length" | "optimizer" | "dataset" | "seed">;

/** The epoch in use is kept. */
export class EpochBatches {
  readonly #items: readonly DatasetItem[];
  readonly #settings: EpochSettings;
  #epoch = -1;
  #current: Batch[] = [];

  constructor(items: readonly DatasetItem[], settings: EpochSettings) {
    this.#items = items;
    this.#settings = settings;
  }

  /** Batch `index` of the run, from 0. */
  at(index: number): Batch {
    // Every epoch has as many batches as the first.
    const count = this.#epoch < 0 ? this.#batches(0).length : this.#current.length;
    return this.#batches(Math.floor(index / count))[index % count]!;
  }

  /** The batches that make step `step`. */
  ofStep(step: number): Batch[] {
    const { accumulation } = this.#settings.optimizer;
    return Array.from({ length: accumulation }, (_, k) => this.at(step * accumulation + k));
  }

  #batches(epoch: number): Batch[] {
    if (epoch !== this.#epoch) {
      this.#current = epochBatches(this.#items, batchSizes(this.#settings), epochBits(this.#settings.seed, epoch));
      this.#epoch = epoch;
    }
    return this.#current;
  }
}

const batchSizes =
  ({ dataset }: Pick<TrainSettings, "dataset">) =>
  (index: number) =>
    dataset.datasets[index]!.batchSize;

/** How long a run is, from its settings and the items of an epoch. Throws `train.too-long`. */
export function stepsOf(
  settings: Omit<EpochSettings, "seed">,
  items: readonly DatasetItem[],
): { steps: number; batchesPerEpoch: number } {
  const { length, optimizer } = settings;
  const batchesPerEpoch = epochBatches(items, batchSizes(settings)).length;
  const steps =
    "steps" in length ? length.steps : Math.ceil((length.epochs * batchesPerEpoch) / optimizer.accumulation);
  if (steps > LONGEST) {
    throw new KinoraError("train.too-long", "the run is too long", {
      expected: `at most ${LONGEST}`,
      actual: `${steps} steps`,
      hint: "lower epochs, or give steps instead",
    });
  }
  return { steps, batchesPerEpoch };
}

/** Steps of a run. How many items an epoch may have is the dataset plan's own bound. */
const LONGEST = 1e7;
