// One sample forward and backward: the loss, and its gradients gathered in the parameters. Not the optimizer's step.
import type { WanDit } from "../models/wan/dit/dit.ts";
import { meanSquaredError } from "../tensor/ops/index.ts";
import { openScope } from "../tensor/scope.ts";
import { Tape } from "../tensor/tape.ts";
import { fromValues, type Tensor } from "../tensor/tensor.ts";
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
  /** 2.1 image-to-video: CLIP features [257 or 514, featureDim]. */
  clip?: Tensor;
}

/** The model's loss on a sample, a scalar tensor in the current scope; recorded where a tape is open. */
export function sampleLoss(
  model: WanDit,
  sample: TrainingSample,
  options: { weight?: number; checkpointed?: boolean } = {},
): Tensor {
  const { clean, noise, sigma, text, channels, clip } = sample;
  const [count, ...volume] = sample.shape;
  const noisy = noisyLatents(clean, noise, sigma);
  const extra = channels ? (channels.length / clean.length) * count : 0;
  const input = new Float32Array(noisy.length + (channels?.length ?? 0));
  input.set(noisy);
  if (channels) input.set(channels, noisy.length);
  const velocity = model.forward(
    {
      latents: fromValues(model.device, input, [1, count + extra, ...volume]),
      timesteps: [sigma * 1000],
      texts: [text],
      ...(clip ? { images: [clip] } : {}),
    },
    { checkpointed: options.checkpointed ?? false },
  );
  const target = fromValues(model.device, velocityTarget(clean, noise), velocity.shape);
  return meanSquaredError(velocity, target, options.weight ?? 1);
}

/**
 * Adds the gradients of weight·loss to the parameters' own. Returns the unweighted loss; the value is read when the
 * work is done, so that nothing waits in between.
 */
export async function gatherGradients(
  model: WanDit,
  sample: TrainingSample,
  options: { weight?: number; checkpointed?: boolean } = {},
): Promise<number> {
  using _scope = openScope(model.device);
  using tape = new Tape(model.device);
  const loss = sampleLoss(model, sample, options);
  tape.backward(loss);
  return (await loss.item()) / (options.weight ?? 1);
}
