// What a weak autoencoder does to a clip: blur, half the colour resolution, a shifted palette and noise.
import { blurPlane } from "../../scripts/tiny/analyser/blur.ts";
import { Draws } from "../../scripts/tiny/world/random.ts";
import type { Clip } from "../../scripts/tiny/world/render.ts";

export interface Degradation {
  /** Standard deviation of the blur, in pixels. */
  blur: number;
  /** Standard deviation of the noise, of 255. */
  noise: number;
  /** Largest shift of each colour channel, of 255. */
  shift: number;
}

export const weakAutoencoder: Degradation = { blur: 0.8, noise: 5, shift: 8 };

/** Averages each square of 2×2: 4:2:0 without the codec. */
function halved(plane: Float32Array, width: number): Float32Array {
  return plane.map((_, at) => {
    const corner = at - ((at % width) % 2) - (Math.floor(at / width) % 2) * width;
    return (plane[corner]! + plane[corner + 1]! + plane[corner + width]! + plane[corner + width + 1]!) / 4;
  });
}

/** `seed` decides the shift and the noise. Even sizes. */
export function degrade(clip: Clip, seed: number, { blur, noise, shift } = weakAutoencoder): Clip {
  const { width, height, frames, data } = clip;
  const draws = new Draws(seed, 77);
  const shifts = [0, 1, 2].map(() => draws.between(-shift, shift));
  const gain = draws.between(0.95, 1.05);
  const size = width * height;
  const out = new Uint8ClampedArray(data.length);
  // The sum of four uniform draws is near enough to a normal one.
  const grain = () => noise * Math.sqrt(3) * (draws.unit() + draws.unit() + draws.unit() + draws.unit() - 2);
  for (let f = 0; f < frames; f++) {
    const [r, g, b] = [0, 1, 2].map((c) => {
      const plane = Float32Array.from({ length: size }, (_, i) => gain * data[3 * (f * size + i) + c]! + shifts[c]!);
      return blurPlane(plane, width, height, blur);
    }) as [Float32Array, Float32Array, Float32Array];
    const luma = r.map((red, i) => 0.2126 * red + 0.7152 * g[i]! + 0.0722 * b[i]!);
    const cb = halved(
      b.map((blue, i) => blue - luma[i]!),
      width,
    );
    const cr = halved(
      r.map((red, i) => red - luma[i]!),
      width,
    );
    for (let i = 0; i < size; i++) {
      const red = cr[i]! + luma[i]!;
      const blue = cb[i]! + luma[i]!;
      const green = (luma[i]! - 0.2126 * red - 0.0722 * blue) / 0.7152;
      const at = 3 * (f * size + i);
      out[at] = red + grain();
      out[at + 1] = green + grain();
      out[at + 2] = blue + grain();
    }
  }
  return { width, height, frames, data: new Uint8Array(out.buffer) };
}
