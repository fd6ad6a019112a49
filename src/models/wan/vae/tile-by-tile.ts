// Decoding one tile of the frame after the other, each through the whole clip, blended on the host: the device holds one
// tile's layers and cached frames. tiling.ts does all tiles side by side, which gives frames at once and holds more.
import type { HostTensor } from "../../../tensor/host-tensor.ts";
import { openScope } from "../../../tensor/scope.ts";
import { fromValues } from "../../../tensor/tensor.ts";
import { planTiles, type Span, type Tiling } from "./tiling.ts";
import type { WanVae } from "./vae.ts";

/** A latent frame's window [C, 1, h, w] of [C, F, H, W]. */
function windowOf({ values, shape }: HostTensor, frame: number, rows: Span, columns: Span): Float32Array {
  const [channels, frames, height, width] = shape as [number, number, number, number];
  const part = new Float32Array(channels * rows.length * columns.length);
  let to = 0;
  for (let c = 0; c < channels; c++) {
    for (let y = rows.start; y < rows.start + rows.length; y++, to += columns.length) {
      const at = ((c * frames + frame) * height + y) * width + columns.start;
      part.set(values.subarray(at, at + columns.length), to);
    }
  }
  return part;
}

/** Adds a tile's frames [3, t, h, w], weighted, to the film [3, T, H, W] from `frame` on. */
function addTile(film: HostTensor, tile: HostTensor, frame: number, rows: Span, columns: Span, scale: number): void {
  const [colours, frames, height, width] = film.shape as [number, number, number, number];
  const [, count, tall, wide] = tile.shape as [number, number, number, number];
  let from = 0;
  for (let c = 0; c < colours; c++) {
    for (let t = 0; t < count; t++) {
      for (let y = 0; y < tall; y++) {
        const to = ((c * frames + frame + t) * height + rows.start * scale + y) * width + columns.start * scale;
        const row = rows.weights[y]!;
        for (let x = 0; x < wide; x++) film.values[to + x]! += tile.values[from++]! * row * columns.weights[x]!;
      }
    }
  }
}

/**
 * Normalised latents [C, F, h, w] to pixels [3, T, H, W] in −1…1; yields after each latent frame of each tile. Throws
 * `vae.tiling`, and what the device throws where a tile is too large for it.
 */
export async function* decodeTileByTile(
  vae: WanVae,
  latents: HostTensor,
  tiling: Tiling,
): AsyncGenerator<void, HostTensor> {
  const [channels, count, height, width] = latents.shape as [number, number, number, number];
  const [time, side] = vae.stride;
  const whole = { rows: wholeSpan(height, side), columns: wholeSpan(width, side) };
  const tiles = planTiles({ height, width }, tiling, side, "decode")?.tiles ?? [whole];
  const shape = [3, 1 + (count - 1) * time, height * side, width * side];
  const film: HostTensor = { values: new Float32Array(shape.reduce((product, size) => product * size)), shape };
  for (const { rows, columns } of tiles) {
    using stream = vae.decoder({ height: rows.length, width: columns.length });
    let at = 0;
    for (let frame = 0; frame < count; frame++) {
      const tile = await pushed(windowOf(latents, frame, rows, columns), [channels, 1, rows.length, columns.length]);
      addTile(film, tile, at, rows, columns, side);
      at += tile.shape[1]!;
      yield;
    }

    async function pushed(values: Float32Array, part: readonly number[]): Promise<HostTensor> {
      using _scope = openScope(vae.device);
      const frames = stream.push(fromValues(vae.device, values, part));
      return { values: await frames.read(), shape: frames.shape };
    }
  }
  return film;
}

const wholeSpan = (length: number, scale: number): Span => ({
  start: 0,
  length,
  weights: new Float32Array(length * scale).fill(1),
});
