// Contact strips: up to five small pictures of an item side by side, as a JPEG for the report.

import { writeFileAtomic } from "../../io/atomic.ts";
import { encodeImage } from "../../io/image/write.ts";
import type { SmallPicture } from "./small.ts";

/** Limited-range BT.709 to RGB; near enough for a thumbnail of either matrix. */
function paint({ y, u, v, width, height }: SmallPicture, into: Uint8Array, left: number, stride: number): void {
  const byte = (value: number) => Math.max(0, Math.min(255, value));
  for (let row = 0; row < height; row++)
    for (let x = 0; x < width; x++) {
      const chroma = (row >> 1) * (width >> 1) + (x >> 1);
      const luma = 1.164 * (y[row * width + x]! - 16);
      const [b, r] = [u[chroma]! - 128, v[chroma]! - 128];
      const at = (row * stride + left + x) * 3;
      into[at] = byte(luma + 1.793 * r);
      into[at + 1] = byte(luma - 0.213 * b - 0.533 * r);
      into[at + 2] = byte(luma + 2.112 * b);
    }
}

export async function writeStrip(path: string, pictures: readonly SmallPicture[]): Promise<void> {
  const [first] = pictures;
  if (!first) return;
  const width = first.width * pictures.length;
  const data = new Uint8Array(width * first.height * 3);
  for (const [i, picture] of pictures.entries()) paint(picture, data, i * first.width, width);
  await writeFileAtomic(path, await encodeImage({ width, height: first.height, data }, "jpeg", 72));
}
