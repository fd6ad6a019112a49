// ComfyUI's tiled decoding and encoding: a clip cut into tiles along time and both sides, each coded by itself as a clip of
// its own, and blended on the host. Rougher than tiling.ts, which keeps the time axis whole: for what must come out as it
// does there. https://github.com/comfyanonymous/ComfyUI/blob/a125cd8/comfy/utils.py (tiled_scale_multidim), comfy/sd.py
import { KinoraError } from "../../../base/errors.ts";
import type { HostTensor } from "../../../tensor/host-tensor.ts";
import { openScope } from "../../../tensor/scope.ts";
import { fromValues, type Tensor } from "../../../tensor/tensor.ts";
import type { WanVae } from "./vae.ts";

/** Along time, height and width; latent units when decoding, frames and pixels when encoding. */
export type Extent = readonly [t: number, h: number, w: number];

export interface OverlappingTiles {
  readonly tile: Extent;
  readonly overlap: Extent;
}

/** One axis of a plan: how places and lengths become those of the result. */
interface Axis {
  /** Where the result of a tile that starts here goes. */
  place(start: number): number;
  /** Length of the result of so many. */
  length(count: number): number;
  /** Over how many of the result's elements a tile fades. */
  fade(overlap: number): number;
}

const decodeAxes = (stride: Extent): readonly Axis[] => {
  const [time, ...sides] = stride;
  const frames = (count: number) => Math.max(0, time * (count - 1) + 1);
  return [
    { place: (start) => start * time, length: frames, fade: frames },
    ...sides.map(
      (side): Axis => ({
        place: (start) => start * side,
        length: (count) => count * side,
        fade: (overlap) => overlap * side,
      }),
    ),
  ];
};

/** Python's round: halves to even. */
function rounded(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

const encodeAxes = (stride: Extent): readonly Axis[] => {
  const [time, ...sides] = stride;
  const latents = (count: number) => Math.max(0, Math.floor((count + time - 1) / time));
  return [
    { place: (start) => rounded(start / time), length: latents, fade: latents },
    ...sides.map(
      (side): Axis => ({
        place: (start) => rounded(start / side),
        length: (count) => Math.floor(count / side),
        fade: (overlap) => Math.floor(overlap / side),
      }),
    ),
  ];
};

/** Starts and lengths of the tiles along an axis of `length`. */
export function tileSpans(length: number, tile: number, overlap: number): { start: number; count: number }[] {
  if (length <= tile) return [{ start: 0, count: length }];
  const spans: { start: number; count: number }[] = [];
  for (let at = 0; at < length - overlap; at += tile - overlap) {
    const start = Math.max(0, Math.min(length - overlap, at));
    spans.push({ start, count: Math.min(tile, length - start) });
  }
  return spans;
}

/** How much each element counts along an axis: less near both ends of every tile, the outermost ones too. */
function fading(length: number, fade: number): Float32Array {
  const weights = new Float32Array(length).fill(1);
  if (fade >= length) return weights;
  for (let i = 0; i < fade; i++) {
    const share = Math.fround((i + 1) / fade);
    weights[i]! *= share;
    weights[length - 1 - i]! *= share;
  }
  return weights;
}

function checkTiles({ tile, overlap }: OverlappingTiles): void {
  const whole = [...tile, ...overlap].every((size) => Number.isInteger(size) && size >= 0);
  if (whole && tile.every((size, i) => size > overlap[i]!)) return;
  throw new KinoraError("vae.tiling", "tiles must be larger than their overlap", {
    expected: "whole numbers, each tile above its overlap",
    actual: `tiles of ${tile.join("×")}, overlap ${overlap.join("×")}`,
  });
}

/** A window of [C, T, H, W] on the host. */
function cut({ values, shape }: HostTensor, from: Extent, size: Extent): Float32Array {
  const [channels, frames, height, width] = shape as [number, number, number, number];
  const window = new Float32Array(channels * size[0] * size[1] * size[2]);
  let to = 0;
  for (let c = 0; c < channels; c++) {
    for (let t = 0; t < size[0]; t++) {
      for (let y = 0; y < size[1]; y++, to += size[2]) {
        const at = ((c * frames + from[0] + t) * height + from[1] + y) * width + from[2];
        window.set(values.subarray(at, at + size[2]), to);
      }
    }
  }
  return window;
}

/** How many tiles a clip falls into. */
export function countTiles(shape: readonly number[], { tile, overlap }: OverlappingTiles): number {
  const [, ...extent] = shape;
  return extent.reduce((count, length, i) => count * tileSpans(length, tile[i]!, overlap[i]!).length, 1);
}

async function codeTiles(
  vae: WanVae,
  input: HostTensor,
  tiles: OverlappingTiles,
  axes: readonly Axis[],
  code: (tile: Tensor) => Tensor,
  done?: (tiles: number) => void,
): Promise<HostTensor> {
  checkTiles(tiles);
  const [channels, ...extent] = input.shape as [number, number, number, number];
  const spans = extent.map((length, i) => tileSpans(length, tiles.tile[i]!, tiles.overlap[i]!));
  const lengths = axes.map((axis, i) => axis.length(extent[i]!)) as [number, number, number];
  const [frames, height, width] = lengths;
  let sums: Float32Array | undefined;
  const weights = new Float32Array(frames * height * width);
  let shape: number[] = [];
  let count = 0;
  for (const t of spans[0]!) {
    for (const y of spans[1]!) {
      for (const x of spans[2]!) {
        const size: Extent = [t.count, y.count, x.count];
        const from: Extent = [t.start, y.start, x.start];
        const { values, shape: made } = await onDevice(vae, cut(input, from, size), [channels, ...size], code);
        shape = [made[0]!, ...lengths];
        sums ??= new Float32Array(made[0]! * weights.length);
        const places = axes.map((axis, i) => axis.place(from[i]!)) as [number, number, number];
        if (places.some((place, i) => place + made[i + 1]! > lengths[i]!)) throw unevenTiles(tiles, extent[0]);
        const masks = axes.map((axis, i) => fading(made[i + 1]!, axis.fade(tiles.overlap[i]!)));
        blend({ sums, weights, lengths, places }, values, made, masks);
        done?.(++count);
      }
    }
  }
  const total = sums ?? new Float32Array(0);
  if (weights.includes(0)) throw unevenTiles(tiles, extent[0]);
  for (let i = 0; i < total.length; i++) total[i]! /= weights[i % weights.length]!;
  return { values: total, shape };
}

/** Where ComfyUI gives NaN, or stops. */
function unevenTiles({ tile, overlap }: OverlappingTiles, frames: number): KinoraError {
  return new KinoraError("vae.tiling", "the tiles' results do not cover the clip", {
    expected: "tiles in time of 4n + 1 frames that are a multiple of 4 apart, or longer than the clip",
    actual: `tiles of ${tile[0]} frames, overlap ${overlap[0]}, for ${frames}`,
    hint: "choose other lengths, or tiles longer than the clip",
  });
}

async function onDevice(
  { device }: WanVae,
  values: Float32Array,
  shape: readonly number[],
  code: (tile: Tensor) => Tensor,
): Promise<HostTensor> {
  using _scope = openScope(device);
  const result = code(fromValues(device, values, shape));
  return { values: await result.read(), shape: result.shape };
}

interface Blend {
  readonly sums: Float32Array;
  /** What each element of a channel counts so far. */
  readonly weights: Float32Array;
  readonly lengths: Extent;
  readonly places: Extent;
}

function blend(
  { sums, weights, lengths, places }: Blend,
  values: Float32Array,
  [channels, frames, height, width]: readonly number[],
  [inTime, inRows, inColumns]: readonly Float32Array[],
): void {
  const plane = weights.length;
  for (let t = 0; t < frames!; t++) {
    for (let y = 0; y < height!; y++) {
      const to = ((places[0] + t) * lengths[1] + places[1] + y) * lengths[2] + places[2];
      const row = Math.fround(inTime![t]! * inRows![y]!);
      for (let x = 0; x < width!; x++) {
        const weight = Math.fround(row * inColumns![x]!);
        weights[to + x]! += weight;
        for (let c = 0; c < channels!; c++) {
          const from = ((c * frames! + t) * height! + y) * width! + x;
          sums[c * plane + to + x]! += Math.fround(values[from]! * weight);
        }
      }
    }
  }
}

/** Normalised latents [C, t, h, w] to pixels [3, T, H, W], not limited to −1…1. Throws `vae.tiling`. */
export function decodeInTiles(
  vae: WanVae,
  latents: HostTensor,
  tiles: OverlappingTiles,
  done?: (tiles: number) => void,
): Promise<HostTensor> {
  return codeTiles(vae, latents, tiles, decodeAxes(vae.stride), (tile) => vae.decode(tile, { clamped: false }), done);
}

/**
 * Pixels [3, T, H, W] in −1…1 to normalised latents [C, t, h, w]. Throws `vae.tiling` where frames would be lost: tiles in
 * time are 4n + 1 frames long, or hold the whole clip.
 */
export function encodeInTiles(
  vae: WanVae,
  pixels: HostTensor,
  tiles: OverlappingTiles,
  done?: (tiles: number) => void,
): Promise<HostTensor> {
  return codeTiles(vae, pixels, tiles, encodeAxes(vae.stride), (tile) => vae.encode(tile), done);
}
