// A sample as the null device trains on it: the shapes of a video of a size, no values.
import type { NullDevice } from "../../device/null/null-device.ts";
import { clipShape, latentSize, type VideoSize } from "../../models/wan/geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import { empty } from "../../tensor/tensor.ts";
import { drawNoise } from "../step/draws.ts";
import type { TrainingSample } from "../step/model-input.ts";

/** Its tensors live in the current scope; drawing its noise is counted. */
export function plannedSample(device: NullDevice, model: WanModel, size: VideoSize): TrainingSample {
  const { shape } = latentSize(model, size);
  const [channels, ...volume] = shape;
  const extra = model.dit.inputChannels - channels;
  return {
    clean: empty(device, shape, "f32"),
    noise: drawNoise(device, 0n, "noise", shape, { index: 0 }),
    sigma: 0.5,
    text: empty(device, [model.dit.textLength, model.dit.textDim], "f32"),
    condition: {
      ...(model.dit.imageBranch ? { clip: empty(device, clipShape(model.dit.imageBranch), "f32") } : {}),
      ...(extra > 0 ? { channels: empty(device, [extra, ...volume], "f32") } : {}),
    },
  };
}
