// Perceptual hashes of pictures, and how alike two clips are by them: shifted in time, scaled, recoded or brightened alike.
import type { SmallPicture } from "./small.ts";

const across = 9;
const down = 8;

/** 64 bits: whether each cell of a 9×8 grid is brighter than its right neighbour (difference hash), hexadecimal. */
export function pictureHash({ y, width, height }: SmallPicture): string {
  const cells = new Float64Array(across * down);
  const counts = new Float64Array(across * down);
  for (let row = 0; row < height; row++) {
    const line = Math.floor((row * down) / height) * across;
    for (let x = 0; x < width; x++) {
      const cell = line + Math.floor((x * across) / width);
      cells[cell] = cells[cell]! + y[row * width + x]!;
      counts[cell] = counts[cell]! + 1;
    }
  }
  let text = "";
  for (let row = 0; row < down; row++) {
    let byte = 0;
    for (let x = 0; x < 8; x++) {
      const at = row * across + x;
      // A quarter of a level keeps flat areas from hashing their noise.
      if (cells[at]! / counts[at]! > cells[at + 1]! / counts[at + 1]! + 0.25) byte |= 1 << x;
    }
    text += byte.toString(16).padStart(2, "0");
  }
  return text;
}

/** Hashes of a clip as pairs of 32-bit words. */
export type HashRow = Uint32Array;

export function hashRow(hashes: readonly string[]): HashRow {
  const words = new Uint32Array(hashes.length * 2);
  hashes.forEach((hash, i) => {
    words[2 * i] = Number.parseInt(hash.slice(0, 8), 16);
    words[2 * i + 1] = Number.parseInt(hash.slice(8), 16);
  });
  return words;
}

function bits(value: number): number {
  let v = value - ((value >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return (((v + (v >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/**
 * Bits of 64 in which two rows of hashes differ on average, at the shift in time (up to `shifts` steps) where they
 * agree best; at least 60 % of the shorter row must overlap. Infinity for more than `most`: rows that are not alike are
 * told by their first hashes.
 */
export function hashDistance(a: HashRow, b: HashRow, most = 64, shifts = 4): number {
  const [n, m] = [a.length / 2, b.length / 2];
  const least = Math.max(1, Math.ceil(0.6 * Math.min(n, m)));
  // A long clip may hold a short one anywhere.
  const [from, to] = [Math.min(-shifts, n - m - shifts), Math.max(shifts, n - m + shifts)];
  let best = Number.POSITIVE_INFINITY;
  for (let shift = -Math.max(shifts, -from); shift <= to; shift++) {
    const start = Math.max(0, shift);
    const end = Math.min(n, m + shift);
    if (end - start < least) continue;
    const enough = Math.min(best, most) * (end - start);
    let sum = 0;
    for (let i = start; i < end && sum <= enough; i++) {
      const j = i - shift;
      sum += bits(a[2 * i]! ^ b[2 * j]!) + bits(a[2 * i + 1]! ^ b[2 * j + 1]!);
    }
    if (sum <= enough) best = sum / (end - start);
  }
  return best;
}
