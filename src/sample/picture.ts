// The picture of an image-to-video run: the video's size that follows from it, and its latents as the model takes them.
import { KinoraError } from "../base/errors.ts";
import { readImage } from "../io/image/read.ts";
import { latentSize } from "../models/wan/geometry.ts";
import { channelCondition, type LatentShape } from "../models/wan/image-condition.ts";
import { pictureVideoSize } from "../models/wan/image-geometry.ts";
import type { WanModel } from "../models/wan/params.ts";
import type { WanVae } from "../models/wan/vae/vae.ts";
import { openScope } from "../tensor/scope.ts";
import { fromValues } from "../tensor/tensor.ts";
import { coverImage, imageThenGrey, type PreparedImage, stretchImage } from "./conditions.ts";

/** Reads a picture and fits it to about the area of `size`, as the model's official pipeline does. Throws `media.*`, `image.*`. */
export async function preparePicture(
  model: WanModel,
  path: string,
  size: { width: number; height: number },
): Promise<PreparedImage> {
  const { width, height, data } = await readImage(path);
  const picture = { width, height, pixels: data };
  const area = size.width * size.height;
  if (pictureVideoSize(model, picture, area))
    return model.image === "channels" ? stretchImage(picture, area) : coverImage(picture, area);
  throw new KinoraError("generate.image-aspect", `no video of ${area} pixels fits the shape of ${path}`, {
    actual: `${width}×${height}`,
    hint: "take a larger --size, or crop the picture",
  });
}

/** [channels, frames, height, width] of a video of this size. Throws `size.*`. */
export function latentShape(model: WanModel, size: { width: number; height: number }, frames: number): LatentShape {
  return latentSize(model, { width: size.width, height: size.height, frames }).shape;
}

/** What the picture gives the denoising loop: channels beside the noise, or the first latent frame. */
export type PictureCondition = { channels: Float32Array } | { firstFrame: Float32Array };

/** Encodes a prepared picture for a video of `shape` latents. */
export async function encodePicture(
  vae: WanVae,
  model: WanModel,
  image: PreparedImage,
  shape: LatentShape,
  frames: number,
): Promise<PictureCondition> {
  const { width, height } = image;
  const encode = async (video: Float32Array, count: number): Promise<Float32Array> => {
    using _scope = openScope(vae.device);
    return vae.encode(fromValues(vae.device, video, [3, count, height, width])).read();
  };
  if (model.image === "channels") {
    return { channels: channelCondition(await encode(imageThenGrey(image, frames), frames), shape) };
  }
  return { firstFrame: await encode(image.planes, 1) };
}
