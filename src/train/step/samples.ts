// From a cached item to a training sample on the device: its latents, its text, and the noise it is given. Nothing of a
// clip's size is computed on the host.

import type { Shape } from "../../base/shape.ts";
import type { DatasetItem } from "../../dataset/items.ts";
import type { Device } from "../../device/device.ts";
import { hasPictureLatents, pictureCondition } from "../../models/wan/conditioning.ts";
import { latentSize } from "../../models/wan/geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { CachedData } from "../run/data.ts";
import { captionOf } from "../run/texts.ts";
import { drawNoise, drawRng } from "./draws.ts";
import type { TrainingSample } from "./model-input.ts";
import { drawSigma, type SigmaRange } from "./timesteps.ts";

export interface SampleChoices {
  sigma: number;
  /** float32 of a shape, in the current scope. */
  noise: (shape: Shape) => Tensor;
  /** An empty text instead of the caption. */
  dropCaption: boolean;
  /** TI2V: the first latent frame is given; clips of one latent frame never are. */
  firstFrameGiven: boolean;
}

/** The sample's tensors live in the current scope. */
export function trainingSample(
  device: Device,
  item: DatasetItem,
  data: CachedData,
  model: WanModel,
  { sigma, noise, dropCaption, firstFrameGiven }: SampleChoices,
): TrainingSample {
  const { latents, condition: picture } = data.latents(device, item, hasPictureLatents(model.image));
  const given = firstFrameGiven && latents.shape[1]! > 1 ? latents : undefined;
  return {
    clean: latents,
    noise: noise(latents.shape),
    sigma,
    text: data.textTensor(device, dropCaption ? "" : captionOf(item)),
    condition: {
      ...(picture ? pictureCondition(model.image, picture) : {}),
      ...(given ? { firstFrame: given } : {}),
    },
  };
}

/** Samples of a batch; `batch` counts the batches of a step. Every choice follows from the place alone. */
export function drawBatch(
  device: Device,
  items: readonly DatasetItem[],
  data: CachedData,
  settings: Pick<TrainSettings, "model" | "seed" | "time" | "captionDropout" | "firstFrame">,
  place: { step: number; batch: number; range: SigmaRange },
): TrainingSample[] {
  const { seed, model, time, captionDropout, firstFrame } = settings;
  return items.map((item, i) => {
    const at = { index: place.step, within: place.batch * 0x10000 + i };
    const choices = drawRng(seed, "condition", at.index, at.within);
    const [, , height, width] = latentSize(model, item.bucket).shape;
    return trainingSample(device, item, data, model, {
      sigma: drawSigma(time, place.range, drawRng(seed, "sigma", at.index, at.within), { height, width }),
      noise: (shape) => drawNoise(device, seed, "noise", shape, at),
      dropCaption: choices.uniform() < captionDropout,
      firstFrameGiven: choices.uniform() < firstFrame,
    });
  });
}
