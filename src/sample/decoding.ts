// How latents are decoded within a memory: whole frames, or tiles that fit, smaller ones where the memory runs out.
import { KinoraError } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";
import type { Device } from "../device/device.ts";
import type { LatentShape } from "../models/wan/conditioning.ts";
import type { OverlappingTiles } from "../models/wan/vae/overlapping-tiles.ts";
import type { ClipDecoder } from "../models/wan/vae/streams.ts";
import type { Tiling } from "../models/wan/vae/tiling.ts";
import { WanVae } from "../models/wan/vae/vae.ts";
import { decodeBytes } from "./memory-check.ts";

/** As asked: by the memory there is, whole frames, tiles of a size, or ComfyUI's tiles (in pixels and frames). */
export type VaeTiling = "auto" | "off" | Tiling | { readonly comfy: ComfyTiles };

/** What ComfyUI's node for tiled decoding takes. */
export interface ComfyTiles {
  readonly size: number;
  readonly overlap: number;
  readonly frames: number;
  readonly frameOverlap: number;
}

/** One way to decode; neither: whole frames. */
export interface DecodePlan {
  readonly tiling?: Tiling;
  readonly comfy?: OverlappingTiles;
}

const comfyDefaults: ComfyTiles = { size: 512, overlap: 64, frames: 64, frameOverlap: 8 };

/** Sides of tiles that are tried, the largest first, and their overlap. */
const automatic: readonly Tiling[] = [
  { size: 512, overlap: 64 },
  { size: 256, overlap: 64 },
  { size: 128, overlap: 32 },
];

/** Of the free memory that a decoding may plan with. */
const SHARE = 0.9;

export const vaeTilingForms = "auto, off, SIZE[:OVERLAP] or comfy[:SIZE:OVERLAP:FRAMES:OVERLAP]";

/** @param side pixels of a latent pixel, of which tiles are multiples. Throws `generate.bad-tiling`. */
export function parseVaeTiling(text: string, side: number): VaeTiling {
  if (text === "auto" || text === "off") return text;
  const [first = "", ...rest] = text.split(":");
  const comfy = first === "comfy";
  const numbers = (comfy ? rest : [first, ...rest]).map((part) => (/^\d{1,6}$/.test(part) ? Number(part) : Number.NaN));
  if (comfy && numbers.length === 0) return { comfy: comfyDefaults };
  const [size = 0, overlap = Math.floor(size / 8 / side) * side, frames = 0, frameOverlap = 0] = numbers;
  const whole = size % side === 0 && overlap % side === 0 && !numbers.some(Number.isNaN);
  const fits = whole && size > overlap;
  if (fits && comfy && numbers.length === 4 && frames > frameOverlap) {
    return { comfy: { size, overlap, frames, frameOverlap } };
  }
  if (fits && !comfy && numbers.length <= 2) return { size, overlap };
  throw new KinoraError("generate.bad-tiling", "invalid VAE tiling", {
    expected: `${vaeTilingForms}, in multiples of ${side} pixels`,
    actual: text,
    hint: "e.g. 256:64: tiles of 256 pixels that overlap by 64",
  });
}

/** Latent units of ComfyUI's numbers; an overlap is at most a quarter of its tile, as in its node. */
function inLatents({ size, overlap, frames, frameOverlap }: ComfyTiles, [time, side]: readonly number[]): DecodePlan {
  const within = (tile: number, over: number) => Math.min(over, Math.floor(tile / 4));
  const space = Math.max(1, Math.floor(size / side!));
  const clip = Math.max(2, Math.floor(frames / time!));
  const across = Math.floor(within(size, overlap) / side!);
  const along = Math.max(1, Math.floor(within(frames, frameOverlap) / time!));
  return { comfy: { tile: [clip, space, space], overlap: [along, across, across] } };
}

/**
 * What to try, in order: the next where memory runs out. Tiles suit the decoder's stride; a tiny autoencoder needs none.
 * `note` says why it is in tiles.
 */
export function decodePlans(
  decoder: ClipDecoder,
  shape: LatentShape,
  device: Pick<Device, "capacity">,
  asked: VaeTiling,
): { plans: readonly DecodePlan[]; note?: string } {
  if (!(decoder instanceof WanVae) || asked === "off") return { plans: [{}] };
  const [time, side] = decoder.stride;
  if (typeof asked === "object") {
    if ("comfy" in asked) return { plans: [inLatents(asked.comfy, [time, side])] };
    return { plans: [{ tiling: asked }] };
  }
  const [channels, frames, height, width] = shape;
  const sizes = automatic.filter(({ size }) => size < Math.max(height, width) * side);
  const plans: DecodePlan[] = [{}, ...sizes.map((tiling) => ({ tiling }))];
  const free = SHARE * device.capacity().free;
  const needed = ({ tiling }: DecodePlan) => {
    const within = (length: number) => (tiling ? Math.min(length, tiling.size / side) : length);
    // Tiles meet in a film of float32.
    const film = tiling ? 12 * (1 + (frames - 1) * time) * height * width * side ** 2 : 0;
    return film + decodeBytes(decoder.config, [channels, frames, within(height), within(width)]);
  };
  const whole = needed({});
  if (whole <= free) return { plans };
  const first = plans.findIndex((plan, i) => i === plans.length - 1 || needed(plan) <= free);
  const what = `decoding whole frames would take about ${formatBytes(whole)}, and ${formatBytes(free)} are free`;
  const tiling = plans[first]?.tiling;
  const note = tiling ? `${what}: decoding in tiles of ${tiling.size} pixels` : what;
  return { plans: plans.slice(first), note };
}
