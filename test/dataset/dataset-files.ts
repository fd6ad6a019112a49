// Small real datasets for tests: tiny clips and pictures made once and copied under many names, with captions.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { encodeImage } from "../../src/io/image/write.ts";
import { makeFilm } from "../support/film.ts";

export interface ClipShape {
  frames: number;
  width?: number;
  height?: number;
  fps?: number;
}

const made = new Map<string, string>();

/** Writes a clip of exactly `frames` frames; the same shape is encoded once and then copied. */
export async function clip(path: string, { frames, width = 64, height = 64, fps = 16 }: ClipShape): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const shape = `${frames} ${width}x${height} ${fps}`;
  const before = made.get(shape);
  if (before !== undefined) return copyFileSync(before, path);
  const source = `testsrc2=s=${width}x${height}:r=${fps},trim=end_frame=${frames},format=yuv420p`;
  await makeFilm(path, { graph: source, encoderOptions: { preset: "ultrafast", g: "12" } });
  made.set(shape, path);
}

/** Writes a picture whose colours run from corner to corner. */
export async function picture(path: string, width = 64, height = 64): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 255) / (width * height * 3));
  writeFileSync(path, await encodeImage({ width, height, data }, path.endsWith(".png") ? "png" : "jpeg"));
}

export function caption(mediaPath: string, text: string): void {
  writeFileSync(mediaPath.replace(/\.[^.]+$/, ".txt"), text);
}

/** `count` captioned clips named clip000.mp4 …; `odd` gives some of them another shape. */
export async function clips(folder: string, count: number, shape: ClipShape, odd: Record<number, ClipShape> = {}) {
  for (let i = 0; i < count; i++) {
    const path = join(folder, `clip${String(i).padStart(3, "0")}.mp4`);
    await clip(path, odd[i] ?? shape);
    caption(path, `Studio Ghibli style. Clip ${i}.`);
  }
}

export async function pictures(folder: string, count: number) {
  for (let i = 0; i < count; i++) {
    const path = join(folder, `picture${String(i).padStart(3, "0")}.jpg`);
    await picture(path);
    caption(path, `Studio Ghibli style. Picture ${i}.`);
  }
}
