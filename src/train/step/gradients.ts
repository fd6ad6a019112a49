// A batch forward and backward: the losses, and their gradients gathered in the parameters. Not the optimizer's step.
import type { WanDit } from "../../models/wan/dit/dit.ts";
import { add, slice } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { velocityTarget } from "./flow-matching.ts";
import { lossOf, type Objective, plainObjective, weightOf } from "./losses.ts";
import { type TrainingSample, trainingInput } from "./model-input.ts";

export interface LossOptions {
  /** Multiplies each sample's loss; 1 where absent. */
  weight?: number;
  recompute?: boolean;
  /** Default: {@link plainObjective}. */
  objective?: Objective;
}

/**
 * The model's loss on samples of one shape in one forward pass: a scalar tensor for each, in the current scope; recorded
 * where a tape is open.
 */
export function batchLosses(model: WanDit, samples: readonly TrainingSample[], options: LossOptions = {}): Tensor[] {
  const frames = samples[0]!.clean.shape[1]!;
  const { objective = plainObjective, recompute = false } = options;
  const input = trainingInput(model.device, samples, model.config.patchSize[1]);
  const velocity = model.forward(input, { recompute });
  return samples.map((sample, i) => {
    const answer = samples.length === 1 ? velocity : slice(velocity, 0, i, 1);
    const target = velocityTarget(sample.clean, sample.noise).alias(answer.shape);
    const judged = (tensor: Tensor) => (sample.condition?.firstFrame ? slice(tensor, 2, 1, frames - 1) : tensor);
    const weight = (options.weight ?? 1) * weightOf(objective, sample.sigma);
    return lossOf(objective, judged(answer), judged(target), weight);
  });
}

/**
 * Adds the gradients of weight·loss of every sample to the parameters' own. Returns the losses without `weight`; they are
 * read when the work is done, so that nothing waits in between.
 */
export async function gatherBatchGradients(
  model: WanDit,
  samples: readonly TrainingSample[],
  options: LossOptions = {},
): Promise<number[]> {
  using _scope = openScope(model.device);
  using tape = new Tape(model.device);
  const losses = batchLosses(model, samples, options);
  tape.backward(losses.reduce((total, loss) => add(total, loss)));
  const values: number[] = [];
  for (const loss of losses) values.push((await loss.item()) / (options.weight ?? 1));
  return values;
}

/** The same for one sample. */
export async function gatherGradients(
  model: WanDit,
  sample: TrainingSample,
  options: LossOptions = {},
): Promise<number> {
  const [loss] = await gatherBatchGradients(model, [sample], options);
  return loss!;
}
