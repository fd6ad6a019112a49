// Latents to a film: decoded chunk by chunk into the encoder, so that no whole video is ever in memory.
import { mapped } from "../base/generators.ts";
import { VideoWriter } from "../io/video/write.ts";
import type { LatentShape } from "../models/wan/conditioning.ts";
import { decodeInTiles } from "../models/wan/vae/overlapping-tiles.ts";
import type { ClipDecoder } from "../models/wan/vae/streams.ts";
import { decodeTileByTile } from "../models/wan/vae/tile-by-tile.ts";
import { WanVae } from "../models/wan/vae/vae.ts";
import { openScope } from "../tensor/scope.ts";
import { ownedEmpty, type Tensor } from "../tensor/tensor.ts";
import type { DecodePlan } from "./decoding.ts";

export interface FilmOptions {
  /** How it is decoded; whole frames where absent. */
  plan?: DecodePlan;
  width: number;
  height: number;
  fps: number;
  metadata: Record<string, string>;
}

/**
 * Planes [3, frames, height, width] in −1…1 to one [height, width, 3] picture per frame, cut off to whole levels as
 * upstream. https://github.com/Wan-Video/Wan2.2/blob/42bf4cf/wan/utils/utils.py#L85-L118
 */
export function toPictures(planes: Float32Array, frames: number, pixels: number): Uint8Array[] {
  return Array.from({ length: frames }, (_, frame) => {
    const picture = new Uint8Array(pixels * 3);
    for (let c = 0; c < 3; c++) {
      const start = (c * frames + frame) * pixels;
      for (let i = 0; i < pixels; i++) {
        const level = Math.fround(Math.fround(planes[start + i]! + 1) / 2);
        picture[i * 3 + c] = Math.fround(Math.min(1, Math.max(0, level)) * 255);
      }
    }
    return picture;
  });
}

/** Decodes `latents` [C, F, h, w]; yields the pictures of each chunk. Tiles give all at the end, and none on the way. */
export async function* decodePictures(
  vae: ClipDecoder,
  latents: Float32Array,
  shape: LatentShape,
  { tiling, comfy }: DecodePlan = {},
): AsyncGenerator<Uint8Array[]> {
  if (vae instanceof WanVae && (tiling || comfy)) {
    const clip = { values: latents, shape };
    const { values, shape: made } = comfy
      ? await decodeInTiles(vae, clip, comfy)
      : // Nothing to show yet, but whoever waits may stop.
        yield* mapped(decodeTileByTile(vae, clip, tiling!), () => []);
    yield toPictures(values, made[1]!, made[2]! * made[3]!);
    return;
  }
  using tensor = ownedEmpty(vae.device, shape, "f32", "activations");
  tensor.write(latents);
  const chunks = vae.decodeChunks(tensor);
  try {
    for (;;) {
      const pictures = await nextPictures(vae, chunks);
      if (!pictures) return;
      yield pictures;
    }
  } finally {
    chunks.return();
  }
}

/** A scope must not stay open while whoever reads the pictures does other work. */
async function nextPictures(vae: ClipDecoder, chunks: Iterator<Tensor>): Promise<Uint8Array[] | undefined> {
  using _scope = openScope(vae.device);
  const { value: chunk, done } = chunks.next();
  if (done) return undefined;
  const [, frames, height, width] = chunk.shape as [number, number, number, number];
  return toPictures(await chunk.read(), frames, height * width);
}

/** Writes the film; yields after each chunk. Abandoned, it leaves nothing behind. Throws `media.*`, `video.*`. */
export async function* writeFilm(
  path: string,
  vae: ClipDecoder,
  latents: Float32Array,
  shape: LatentShape,
  options: FilmOptions,
): AsyncGenerator<{ frames: number }, { frames: number; bytes: number }> {
  await using writer = await VideoWriter.create(path, options);
  let frames = 0;
  for await (const pictures of decodePictures(vae, latents, shape, options.plan)) {
    for (const picture of pictures) await writer.write(picture);
    frames += pictures.length;
    yield { frames };
  }
  return writer.finish();
}
