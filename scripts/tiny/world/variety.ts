// Pictures without a scene, for the autoencoders: any colours, soft and sharp edges, waves and blends, in motion. They
// keep an autoencoder from learning only the world's flat palette, so that real clips and new looks pass through it.
import { Draws } from "./random.ts";
import type { Clip, ClipSize } from "./render.ts";
import { shapeNames, shapes } from "./shapes.ts";

type Color = readonly [number, number, number];

const color = (draws: Draws): Color => [255 * draws.unit(), 255 * draws.unit(), 255 * draws.unit()];

/** A blend of two colours along a direction, with waves of any length on it; the waves drift. */
function drawGround(draws: Draws) {
  const from = color(draws);
  const to = color(draws);
  const angle = 2 * Math.PI * draws.unit();
  const waves = Array.from({ length: Math.floor(3 * draws.unit()) }, () => ({
    x: 24 * (draws.unit() - 0.5),
    y: 24 * (draws.unit() - 0.5),
    drift: 6 * (draws.unit() - 0.5),
    phase: 2 * Math.PI * draws.unit(),
    strength: 0.25 * draws.unit(),
  }));
  return (x: number, y: number, time: number): Color => {
    let share = 0.5 + 0.7 * (x * Math.cos(angle) + y * Math.sin(angle));
    for (const { x: fx, y: fy, drift, phase, strength } of waves)
      share += strength * Math.sin(fx * x + fy * y + drift * time + phase);
    const t = Math.min(1, Math.max(0, share));
    return [from[0] + (to[0] - from[0]) * t, from[1] + (to[1] - from[1]) * t, from[2] + (to[2] - from[2]) * t];
  };
}

/** A shape that drifts and turns, with an edge between razor-sharp and a wide glow. */
function drawPiece(draws: Draws, aspect: number) {
  const paint = color(draws);
  const { distance } = shapes[draws.pick(shapeNames)];
  const radius = draws.between(0.04, 0.4);
  // In pixels of a frame of 64 lines when sharp; squared so that sharp ones are common.
  const softness = 1 / 64 + 0.3 * draws.unit() ** 3;
  const opacity = draws.between(0.5, 1);
  const x0 = aspect * (draws.unit() - 0.5);
  const y0 = draws.unit() - 0.5;
  const [dx, dy, turn, angle] = [draws.unit() - 0.5, draws.unit() - 0.5, 6 * (draws.unit() - 0.5), 6 * draws.unit()];
  return (x: number, y: number, time: number): { paint: Color; share: number } => {
    const cos = Math.cos(angle + turn * time);
    const sin = Math.sin(angle + turn * time);
    const px = (x - x0 - dx * time) / radius;
    const py = (y - y0 - dy * time) / radius;
    const away = radius * distance(cos * px + sin * py, cos * py - sin * px);
    return { paint, share: opacity * Math.min(1, Math.max(0, 0.5 - away / softness)) };
  };
}

/** Clip `index` of a seed. One in four stands still; half are grainy. */
export function drawVariety(seed: number, index: number, { width, height, frames }: ClipSize): Clip {
  const draws = new Draws(seed, index + 2 ** 42);
  const ground = drawGround(draws);
  const pieces = Array.from({ length: Math.floor(7 * draws.unit()) }, () => drawPiece(draws, width / height));
  const speed = draws.chance(0.25) ? 0 : 1;
  const grain = draws.chance(0.5) ? 12 * draws.unit() : 0;
  const data = new Uint8ClampedArray(frames * height * width * 3);
  let at = 0;
  for (let f = 0; f < frames; f++) {
    const time = frames > 1 ? (speed * f) / (frames - 1) : 0;
    for (let j = 0; j < height; j++) {
      for (let i = 0; i < width; i++) {
        const x = (i + 0.5 - width / 2) / height;
        const y = (j + 0.5 - height / 2) / height;
        let [r, g, b] = ground(x, y, time);
        for (const piece of pieces) {
          const { paint, share } = piece(x, y, time);
          r += (paint[0] - r) * share;
          g += (paint[1] - g) * share;
          b += (paint[2] - b) * share;
        }
        const speck = grain > 0 ? grain * (draws.unit() - 0.5) : 0;
        data[at++] = r + speck;
        data[at++] = g + speck;
        data[at++] = b + speck;
      }
    }
  }
  return { width, height, frames, data: new Uint8Array(data.buffer) };
}
