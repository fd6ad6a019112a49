// What size a video gets from its picture: the arithmetic of the two official image paths, floats floored as there.
import { roundHalfEven } from "../../base/round.ts";
import type { WanModel } from "./params.ts";

/** Whether a model's picture is stretched to the video's size, or covers it and is cut. */
export const stretchesPicture = (image: WanModel["image"]): boolean => image !== "first-frame";

/** Pixels of the video that `model` makes of a picture, of about `maxArea`; undefined where none fits its shape. */
export function pictureVideoSize(
  { image }: Pick<WanModel, "image">,
  picture: { width: number; height: number },
  maxArea: number,
): { width: number; height: number } | undefined {
  const geometry = stretchesPicture(image) ? stretchedSize : coverGeometry;
  const { width, height } = geometry(picture.width, picture.height, maxArea);
  return width >= 1 && height >= 1 ? { width, height } : undefined;
}

export interface CoverGeometry {
  /** The video's size, pixels. */
  width: number;
  height: number;
  /** The picture is first resized to this, which covers the video's size, then cropped from (cropX, cropY). */
  resizedWidth: number;
  resizedHeight: number;
  cropX: number;
  cropY: number;
}

/**
 * TI2V-5B: the size of at most `maxArea` pixels nearest the picture's aspect, in multiples of (stepX, stepY), and the
 * resize and centre crop that fill it.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/utils/utils.py#L202-L225
 */
export function coverGeometry(
  imageWidth: number,
  imageHeight: number,
  maxArea: number,
  [stepX, stepY]: readonly [number, number] = [32, 32],
): CoverGeometry {
  const ratio = imageWidth / imageHeight;
  const idealWidth = Math.sqrt(maxArea * ratio);
  const idealHeight = maxArea / idealWidth;
  const floorTo = (value: number, step: number) => Math.trunc(Math.floor(value / step) * step);

  const width1 = floorTo(idealWidth, stepX);
  const height1 = floorTo(maxArea / width1, stepY);
  const height2 = floorTo(idealHeight, stepY);
  const width2 = floorTo(maxArea / height2, stepX);
  const distance = (w: number, h: number) => Math.max(ratio / (w / h), w / h / ratio);
  const [width, height] = distance(width1, height1) < distance(width2, height2) ? [width1, height1] : [width2, height2];

  const scale = Math.max(width / imageWidth, height / imageHeight);
  const resizedWidth = roundHalfEven(imageWidth * scale);
  const resizedHeight = roundHalfEven(imageHeight * scale);
  return {
    width,
    height,
    resizedWidth,
    resizedHeight,
    cropX: Math.floor((resizedWidth - width) / 2),
    cropY: Math.floor((resizedHeight - height) / 2),
  };
}

/**
 * I2V-A14B and 2.1: the latent's size by area, keeping the aspect; the picture is then stretched to stride × latent.
 * https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/image2video.py#L261-L272
 */
export function stretchGeometry(
  imageWidth: number,
  imageHeight: number,
  maxArea: number,
  { stride = 8, patch = 2 }: { stride?: number; patch?: number } = {},
): { latentWidth: number; latentHeight: number } {
  const aspect = imageHeight / imageWidth;
  const side = (length: number) => Math.floor(Math.floor(length / stride) / patch) * patch;
  return {
    latentHeight: side(Math.sqrt(maxArea * aspect)),
    latentWidth: side(Math.sqrt(maxArea / aspect)),
  };
}

/** Pixels of the video that a picture is stretched to; the autoencoder's stride is 8 there. */
export function stretchedSize(
  imageWidth: number,
  imageHeight: number,
  maxArea: number,
): { width: number; height: number } {
  const { latentWidth, latentHeight } = stretchGeometry(imageWidth, imageHeight, maxArea);
  return { width: latentWidth * 8, height: latentHeight * 8 };
}
