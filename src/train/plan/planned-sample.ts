// A sample as the null device trains on it: the shapes of a video of a size, no values.
import { elementCount } from "../../base/shape.ts";
import type { NullDevice } from "../../device/null/null-device.ts";
import { clipShape, latentSize, type VideoSize } from "../../models/wan/geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import { empty } from "../../tensor/tensor.ts";
import type { TrainingSample } from "../step/gradients.ts";

/** Its tensors live in the current scope. */
export function plannedSample(device: NullDevice, model: WanModel, size: VideoSize): TrainingSample {
  const { shape } = latentSize(model, size);
  const volume = elementCount(shape);
  const extra = model.dit.inputChannels - shape[0];
  return {
    clean: new Float32Array(volume),
    noise: new Float32Array(volume),
    shape,
    sigma: 0.5,
    text: empty(device, [model.dit.textLength, model.dit.textDim], "f32"),
    ...(model.dit.imageBranch ? { clip: empty(device, clipShape(model.dit.imageBranch), "f32") } : {}),
    ...(extra > 0 ? { channels: new Float32Array((volume / shape[0]) * extra) } : {}),
  };
}
