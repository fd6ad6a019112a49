// Clips in and out of files, as the measuring scripts and the demo need them.
import { openVideo } from "../../src/io/video/read.ts";
import type { Clip } from "./world/render.ts";

/** A whole short video. */
export async function readClip(path: string): Promise<Clip> {
  const frames: Uint8Array[] = [];
  let size = { width: 0, height: 0 };
  for await (const { data, width, height } of openVideo(path)) {
    frames.push(data.slice());
    size = { width, height };
  }
  const data = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const frame of frames) {
    data.set(frame, at);
    at += frame.length;
  }
  return { ...size, frames: frames.length, data };
}

/** Peak signal-to-noise ratio of two runs of bytes, in decibels. */
export function psnr(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < a.length; i++) squares += (a[i]! - b[i]!) ** 2;
  return 10 * Math.log10(255 ** 2 / (squares / a.length));
}
