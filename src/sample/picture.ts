// The picture of an image-to-video run: read, and brought to the video's size as the model's official pipeline does it.
// What its latents then are to the model: models/wan/conditioning.ts.
import { KinoraError } from "../base/errors.ts";
import { readImage } from "../io/image/read.ts";
import type { PreparedImage } from "../models/wan/conditioning.ts";
import { coverGeometry, pictureVideoSize, stretchedSize, stretchesPicture } from "../models/wan/image-geometry.ts";
import type { WanModel } from "../models/wan/params.ts";
import { type RgbImage, resizeBicubic, resizeLanczos, toPlanes } from "./image-resize.ts";

interface PictureSize {
  width: number;
  height: number;
}

/**
 * Reads a picture and fits it to about the area of `size`, as the model's official pipeline does. `accept` is told the
 * video's size before anything of that size is made, and throws where it is too large.
 * Throws `media.*`, `image.*`, `generate.image-aspect`.
 */
export async function preparePicture(
  model: WanModel,
  path: string,
  size: PictureSize,
  accept: (video: PictureSize) => void,
): Promise<PreparedImage> {
  const { width, height, data } = await readImage(path);
  const picture = { width, height, pixels: data };
  const area = size.width * size.height;
  const video = pictureVideoSize(model, picture, area);
  if (!video) {
    throw new KinoraError("generate.image-aspect", `no video size of ${area} pixels fits the aspect ratio of ${path}`, {
      actual: `${width}×${height}`,
      hint: "use a larger `size`, or crop the picture",
    });
  }
  accept(video);
  return stretchesPicture(model.image) ? stretchImage(picture, area) : coverImage(picture, area);
}

/** I2V: to [−1, 1] first, then a bicubic stretch without clamp. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/image2video.py#L258-L275 */
export function stretchImage(image: RgbImage, maxArea: number): PreparedImage {
  const size = stretchedSize(image.width, image.height, maxArea);
  return { planes: resizeBicubic(toPlanes(image), 3, image, size), ...size };
}

/** TI2V: Lanczos on 8-bit pixels, centre crop, then to [−1, 1]. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/textimage2video.py#L461-L477 */
export function coverImage(image: RgbImage, maxArea: number): PreparedImage {
  const { width, height, resizedWidth, resizedHeight, cropX, cropY } = coverGeometry(
    image.width,
    image.height,
    maxArea,
  );
  const resized = resizeLanczos(image, resizedWidth, resizedHeight);
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((y + cropY) * resizedWidth + cropX) * 3;
    pixels.set(resized.pixels.subarray(start, start + width * 3), y * width * 3);
  }
  return { planes: toPlanes({ width, height, pixels }), width, height };
}
