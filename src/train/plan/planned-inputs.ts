// What the null device trains: a sample with the shapes of a video of a size, and a transformer where there is no file.
import type { NullDevice } from "../../device/null/null-device.ts";
import { clipShape, latentSize, type VideoSize } from "../../models/wan/geometry.ts";
import type { WanModel } from "../../models/wan/params.ts";
import { ditShapes } from "../../models/wan/weight-shapes.ts";
import type { WeightReader } from "../../nn/weights.ts";
import { empty } from "../../tensor/tensor.ts";
import type { DitSource } from "../run/expert-model.ts";
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

/** A transformer as the official files have it (float32), for where there is none on this disk. */
export function assumedDit({ dit }: WanModel): DitSource {
  const shapes = ditShapes(dit);
  const reader: WeightReader = {
    names: () => shapes.keys(),
    find(name) {
      const shape = shapes.get(name);
      return shape && { dtype: "f32", shape, bytes: () => new Uint8Array(0) };
    },
    [Symbol.dispose]() {},
  };
  return { reader, config: dit };
}
