// Small real clips and pictures for the caption tests, in temporary folders: brightness tells the time of a frame.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readImage } from "../../src/io/image/read.ts";
import { writeJpeg } from "../../src/io/image/write.ts";
import { VideoWriter } from "../../src/io/video/write.ts";

export interface TemporaryFolder extends AsyncDisposable {
  path: string;
  file(name: string): string;
}

export async function temporaryFolder(): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), "kinora-caption-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

const clipSize = { width: 96, height: 64 };

/** Grey of frame `i` of `count`: from 20 to 230. */
export const greyAt = (i: number, count: number): number => Math.round(20 + (210 * i) / (count - 1));

/** A clip that brightens evenly; 16 frames a second. */
export async function writeClip(path: string, frames = 48): Promise<void> {
  await using writer = await VideoWriter.create(path, { ...clipSize, fps: 16, crf: 12, preset: "ultrafast" });
  for (let i = 0; i < frames; i++)
    await writer.write(new Uint8Array(clipSize.width * clipSize.height * 3).fill(greyAt(i, frames)));
  await writer.finish();
}

export async function writePicture(path: string, width = 200, height = 100): Promise<void> {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i += 3) {
    data[i] = ((i / 3) % width) & 255;
    data[i + 1] = 128;
  }
  await writeJpeg(path, { width, height, data });
}

/** Decodes what a server was sent; throws where it is no picture. */
export async function decodePicture(bytes: Uint8Array): Promise<{ width: number; height: number; mean: number }> {
  await using folder = await temporaryFolder();
  const path = folder.file("received.bin");
  await writeFile(path, bytes);
  const { width, height, data, info } = await readImage(path);
  if (info.kind !== "jpeg") throw new Error(`a ${info.kind} came as JPEG`);
  return { width, height, mean: data.reduce((sum, value) => sum + value, 0) / data.length };
}
