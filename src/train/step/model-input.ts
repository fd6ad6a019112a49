// What the model is given in a step: noisy latents under their conditions. Computed on the device.

import type { Device } from "../../device/device.ts";
import { type Condition, type LatentShape, modelInput } from "../../models/wan/conditioning.ts";
import type { DitInput } from "../../models/wan/dit/dit.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { mixNoise } from "./flow-matching.ts";

/** One clip as the model sees it in a step; its tensors live on the model's device and belong to the caller's scope. */
export interface TrainingSample {
  /** Latents x₀ and noise, float32 [C, F, h, w]. */
  clean: Tensor;
  noise: Tensor;
  /** In [0, 1]; 1 is noise. */
  sigma: number;
  /** [length, textDim] */
  text: Tensor;
  /** A first frame that is given takes no part in the loss; it needs two latent frames. */
  condition?: Condition;
}

/** In the current scope. `patch`: side of a token in latent pixels. */
export function trainingInput(device: Device, samples: readonly TrainingSample[], patch: number): DitInput {
  const shown = samples.map(({ clean, noise, sigma, text, condition }) => ({
    shape: clean.shape as LatentShape,
    timestep: sigma * 1000,
    text,
    condition,
    write: (out: Tensor) => mixNoise(clean, noise, sigma, out),
  }));
  return modelInput(device, shown, patch);
}
