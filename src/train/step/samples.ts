// From a cached item to a training sample: its latents, its text, and the noise it is given.
import type { DatasetItem } from "../../dataset/items.ts";
import type { Device } from "../../device/device.ts";
import { channelCondition } from "../../models/wan/image-condition.ts";
import type { WanModel } from "../../models/wan/params.ts";
import { fromValues } from "../../tensor/tensor.ts";
import type { TrainSettings } from "../config/settings.ts";
import type { CachedData } from "../run/data.ts";
import { captionOf } from "../run/texts.ts";
import { drawNoise, drawRng } from "./draws.ts";
import type { TrainingSample } from "./gradients.ts";
import { drawSigma, type SigmaRange } from "./timesteps.ts";

export interface SampleChoices {
  sigma: number;
  noise: (count: number) => Float32Array;
  /** An empty text instead of the caption. */
  dropCaption: boolean;
  /** TI2V: the first latent frame is given; clips of one latent frame never are. */
  firstFrameGiven: boolean;
}

/** The text's tensor lives in the current scope. */
export function trainingSample(
  device: Device,
  item: DatasetItem,
  data: CachedData,
  model: WanModel,
  { sigma, noise, dropCaption, firstFrameGiven }: SampleChoices,
): TrainingSample {
  const conditioned = model.image === "channels";
  const { latents, condition } = data.latents(item, conditioned);
  const shape = latents.shape as TrainingSample["shape"];
  const text = data.text(dropCaption ? "" : captionOf(item));
  return {
    clean: latents.values,
    noise: noise(latents.values.length),
    shape,
    sigma,
    text: fromValues(device, text.values, text.shape),
    ...(condition ? { channels: channelCondition(condition.values, shape) } : {}),
    ...(firstFrameGiven && shape[1] > 1 ? { firstFrameGiven } : {}),
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
    const within = place.batch * 0x10000 + i;
    const choices = drawRng(seed, "condition", place.step, within);
    return trainingSample(device, item, data, model, {
      sigma: drawSigma(time, place.range, drawRng(seed, "sigma", place.step, within)),
      noise: (count) => drawNoise(seed, "noise", count, place.step, within),
      dropCaption: choices.uniform() < captionDropout,
      firstFrameGiven: choices.uniform() < firstFrame,
    });
  });
}
