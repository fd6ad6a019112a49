// A batch forward and backward: the losses, and their gradients gathered in the parameters. Not the optimizer's step.
import type { WanDit } from "../../models/wan/dit/dit.ts";
import { firstFrameTimesteps, imposeFirstFrame } from "../../models/wan/image-condition.ts";
import { add, meanSquaredError, slice } from "../../tensor/ops/index.ts";
import { openScope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import { fromValues, type Tensor } from "../../tensor/tensor.ts";
import { noisyLatents, velocityTarget } from "./flow-matching.ts";

export interface TrainingSample {
  /** Clean latents x₀ and noise, float32 [C, F, h, w]. */
  clean: Float32Array;
  noise: Float32Array;
  shape: readonly [channels: number, frames: number, height: number, width: number];
  /** In [0, 1]; 1 is noise. */
  sigma: number;
  /** [length, textDim] */
  text: Tensor;
  /** I2V: the condition [C', F, h, w] that is joined behind the noisy latents. */
  channels?: Float32Array;
  /** TI2V: latent frame 0 is given as it is, at timestep 0, and takes no part in the loss. Needs two latent frames. */
  firstFrameGiven?: boolean;
  /** 2.1 image-to-video: CLIP features [257 or 514, featureDim]. */
  clip?: Tensor;
}

export interface LossOptions {
  /** Multiplies each sample's loss; 1 where absent. */
  weight?: number;
  recompute?: boolean;
}

/**
 * The model's loss on samples of one shape in one forward pass: a scalar tensor for each, in the current scope; recorded
 * where a tape is open.
 */
export function batchLosses(model: WanDit, samples: readonly TrainingSample[], options: LossOptions = {}): Tensor[] {
  const { device } = model;
  const [count, ...volume] = samples[0]!.shape;
  const inputs = samples.map(modelInput);
  const size = inputs[0]!.length;
  const joined = samples.length === 1 ? inputs[0]! : new Float32Array(size * samples.length);
  if (samples.length > 1) for (const [i, input] of inputs.entries()) joined.set(input, i * size);
  const channels = (size / samples[0]!.clean.length) * count;
  const velocity = model.forward(
    {
      latents: fromValues(device, joined, [samples.length, channels, ...volume]),
      timesteps: samples.map(({ sigma, shape, firstFrameGiven }) =>
        firstFrameGiven ? firstFrameTimesteps(sigma * 1000, shape, model.config.patchSize[1]) : sigma * 1000,
      ),
      texts: samples.map(({ text }) => text),
      ...(samples[0]!.clip ? { images: samples.map(({ clip }) => clip!) } : {}),
    },
    { recompute: options.recompute ?? false },
  );
  return samples.map(({ clean, noise, firstFrameGiven }, i) => {
    const answer = samples.length === 1 ? velocity : slice(velocity, 0, i, 1);
    const target = fromValues(device, velocityTarget(clean, noise), answer.shape);
    const judged = (tensor: Tensor) => (firstFrameGiven ? slice(tensor, 2, 1, volume[0]! - 1) : tensor);
    return meanSquaredError(judged(answer), judged(target), options.weight ?? 1);
  });
}

/** Noisy latents with the conditions joined behind, [C + C', F, h, w]. */
function modelInput({ clean, noise, sigma, shape, channels, firstFrameGiven }: TrainingSample): Float32Array {
  const noisy = noisyLatents(clean, noise, sigma);
  if (firstFrameGiven) imposeFirstFrame(noisy, firstFrameOf(clean, shape), shape);
  if (!channels) return noisy;
  const input = new Float32Array(noisy.length + channels.length);
  input.set(noisy);
  input.set(channels, noisy.length);
  return input;
}

/** Latent frame 0, [C, 1, h, w]. */
function firstFrameOf(latents: Float32Array, [channels, frames, height, width]: TrainingSample["shape"]): Float32Array {
  const plane = height * width;
  const first = new Float32Array(channels * plane);
  for (let c = 0; c < channels; c++) {
    first.set(latents.subarray(c * frames * plane, c * frames * plane + plane), c * plane);
  }
  return first;
}

/**
 * Adds the gradients of weight·loss of every sample to the parameters' own. Returns the unweighted losses; they are read
 * when the work is done, so that nothing waits in between.
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
