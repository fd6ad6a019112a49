// The loss on items that never train, with noise and noise levels that never change: what falls is the model's error.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DatasetItem } from "../../dataset/items.ts";
import type { Expert } from "../../models/wan/recognize.ts";
import type { ValidationLine } from "../../protocol/train-log.ts";
import { openScope } from "../../tensor/scope.ts";
import type { TrainSettings } from "../config/settings.ts";
import { drawNoise } from "../step/draws.ts";
import { batchLosses } from "../step/gradients.ts";
import { plainObjective } from "../step/losses.ts";
import { trainingSample } from "../step/samples.ts";
import { expertRange, type SigmaRange } from "../step/timesteps.ts";
import type { CachedData } from "./data.ts";
import type { ExpertModel } from "./expert-model.ts";

/** Evenly spaced noise levels: the middles of `count` equal parts of a range. */
export function sigmaGrid({ from, to }: SigmaRange, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + ((i + 0.5) / count) * (to - from));
}

/** Judges one expert on its own noise levels. */
export async function validate(
  model: ExpertModel,
  items: readonly DatasetItem[],
  data: CachedData,
  settings: Pick<TrainSettings, "model" | "boundary" | "seed" | "firstFrame" | "objective" | "validation">,
): Promise<Omit<ValidationLine, "step">> {
  const started = performance.now();
  const expert: Expert = model.expert;
  const grid = sigmaGrid(expertRange(expert, settings.boundary), settings.validation.sigmas);
  // What is learnt at a level, whatever the level counts in training.
  const objective = { ...settings.objective, weighting: plainObjective.weighting };
  const sums = grid.map(() => 0);
  for (const [i, item] of items.entries()) {
    for (const [band, sigma] of grid.entries()) {
      using _scope = openScope(model.dit.device);
      const sample = trainingSample(model.dit.device, item, data, settings.model, {
        sigma,
        noise: (shape) => drawNoise(model.dit.device, settings.seed, "validation", shape, { index: i, within: band }),
        dropCaption: false,
        // Where every clip trains with its first frame given, that is the task to judge.
        firstFrameGiven: settings.firstFrame === 1,
      });
      const [loss] = batchLosses(model.dit, [sample], { objective });
      sums[band]! += await loss!.item();
    }
    await nextTurn();
  }
  const bands = grid.map((sigma, band) => ({ sigma, loss: sums[band]! / items.length }));
  const loss = bands.reduce((sum, entry) => sum + entry.loss, 0) / bands.length;
  return { kind: "validation", expert, loss, bands, seconds: (performance.now() - started) / 1000 };
}
