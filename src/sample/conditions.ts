// How a picture is made ready to condition a video. What it then does to the input: models/wan/image-condition.ts.
import { coverGeometry, stretchedSize } from "../models/wan/image-geometry.ts";
import { type RgbImage, resizeBicubic, resizeLanczos, toPlanes } from "./image-resize.ts";

/** A picture made ready for a model: float32 planes [3, height, width] in [−1, 1] at the video's size. */
export interface PreparedImage {
  planes: Float32Array;
  width: number;
  height: number;
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

/** What the autoencoder encodes for I2V: the picture, then zero (mid-grey) frames. float32 [3, frames, height, width]. */
export function imageThenGrey(image: PreparedImage, frames: number): Float32Array {
  const plane = image.width * image.height;
  const video = new Float32Array(3 * frames * plane);
  for (let c = 0; c < 3; c++) video.set(image.planes.subarray(c * plane, (c + 1) * plane), c * frames * plane);
  return video;
}
