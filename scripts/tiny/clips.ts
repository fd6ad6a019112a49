// Clips in and out of files, as the measuring scripts and the demo need them.
import { openVideo } from "../../src/io/video/read.ts";
import type { Clip } from "./world/render.ts";

/** A film's pictures. Throws `media.*`. */
export async function readClip(path: string): Promise<Clip> {
  const pictures: Uint8Array[] = [];
  let [width, height] = [0, 0];
  for await (const frame of openVideo(path)) {
    pictures.push(frame.data);
    ({ width, height } = frame);
  }
  return { width, height, frames: pictures.length, data: Buffer.concat(pictures) };
}

/** Peak signal-to-noise ratio of two runs of bytes, in decibels. */
export function psnr(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < a.length; i++) squares += (a[i]! - b[i]!) ** 2;
  return 10 * Math.log10(255 ** 2 / (squares / a.length));
}
