// One optimizer step: batches drawn, gradients gathered, clipped and applied. A function of the configuration, the step's
// number and the weights before it.
import { setImmediate as nextTurn } from "node:timers/promises";
import { KinoraError } from "../../base/errors.ts";
import type { Batch } from "../../dataset/batches.ts";
import { openScope } from "../../tensor/scope.ts";
import type { TrainSettings } from "../config/settings.ts";
import { globalNorm } from "../optimizers/optimizer.ts";
import type { CachedData } from "../run/data.ts";
import type { ExpertModel } from "../run/expert-model.ts";
import { drawSeed } from "./draws.ts";
import type { LoraDropout } from "./dropout.ts";
import { gatherBatchGradients } from "./gradients.ts";
import { drawBatch } from "./samples.ts";
import { expertRange } from "./timesteps.ts";

/** What a training step came to. */
export interface StepResult {
  /** Mean over the samples. */
  loss: number;
  /** Before clipping. */
  gradientNorm: number;
  sigmas: number[];
  /** The optimizer's own, where it finds one. */
  learningRate: number;
}

/**
 * Step `step`, counted from 0. Throws `train.not-finite` before anything is changed; the gradients are then gone.
 */
export async function trainStep(
  { dit, expert, training }: ExpertModel,
  batches: readonly Batch[],
  data: CachedData,
  settings: TrainSettings,
  { step, learningRate, dropout }: { step: number; learningRate: number; dropout: LoraDropout },
): Promise<StepResult> {
  const { parameters, optimizer } = training!;
  const range = expertRange(expert, settings.boundary);
  const count = batches.reduce((sum, batch) => sum + batch.items.length, 0);
  const losses: number[] = [];
  const sigmas: number[] = [];
  for (const [k, batch] of batches.entries()) {
    using _scope = openScope(dit.device);
    const samples = drawBatch(dit.device, batch.items, data, settings, { step, batch: k, range });
    dropout.begin(drawSeed(settings.seed, "dropout", step, k));
    const options = { weight: 1 / count, recompute: settings.recompute, objective: settings.objective };
    losses.push(...(await gatherBatchGradients(dit, samples, options)));
    sigmas.push(...samples.map(({ sigma }) => sigma));
    // A second Ctrl-C is heard between batches.
    if (k < batches.length - 1) await nextTurn();
  }
  dropout.end();
  const loss = losses.reduce((sum, value) => sum + value, 0) / count;
  const gradientNorm = await globalNorm(dit.device, parameters);
  if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
    for (const parameter of parameters.values()) parameter.clearGradient();
    throw notFinite(step, expert, loss, sigmas, batches);
  }
  const { clip } = settings.optimizer;
  const scale = clip > 0 && gradientNorm > clip ? clip / gradientNorm : 1;
  const used = await optimizer.update(learningRate, scale);
  await dit.device.synchronize();
  return { loss, gradientNorm, sigmas, learningRate: used };
}

function notFinite(
  step: number,
  expert: ExpertModel["expert"],
  loss: number,
  sigmas: readonly number[],
  batches: readonly Batch[],
) {
  const items = batches.flatMap((batch) => batch.items.map(({ id }) => id));
  return new KinoraError(
    "train.not-finite",
    `step ${step + 1} gave ${Number.isFinite(loss) ? "gradients" : "a loss"} that is NaN or infinite`,
    {
      actual: `loss ${loss}, ${expert}-noise expert, σ ${sigmas.map((sigma) => sigma.toFixed(4)).join(", ")}, items ${items.slice(0, 3).join(", ")}`,
      hint: "the state before this step is saved; lower the learning rate in a new output folder, or check the weights (kinora models inspect) and these items",
    },
  );
}
