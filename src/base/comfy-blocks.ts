// The block formats of ComfyUI's quantised files: 4-bit floats and integers, and convrot's turned integers.
// https://github.com/Comfy-Org/comfy-kitchen (layouts of its kernels). What marks them in files: models/wan.
import type { BlockFormat } from "./block-format.ts";
import { f8e4m3Values } from "./float-formats.ts";

/** E2M1: a sign, two bits of exponent, one of mantissa. */
const e2m1 = Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6);

/** Elements that share a scale in NVFP4 and MXFP8. */
export const NVFP4_GROUP = 16;
export const MXFP8_GROUP = 32;

/**
 * NVFP4 as it is held here: the f8e4m3 scale of 16 elements, then their codes, the first of a pair in the upper half.
 * Files hold scales and codes apart; the whole tensor's scale stays beside.
 */
export const nvfp4Blocks: BlockFormat = {
  name: "nvfp4",
  elements: NVFP4_GROUP,
  bytes: 1 + NVFP4_GROUP / 2,
  widen(bytes, at, out, to) {
    const scale = f8e4m3Values()[bytes[at]!]!;
    for (let i = 0; i < NVFP4_GROUP / 2; i++) {
      const pair = bytes[at + 1 + i]!;
      out[to + 2 * i] = e2m1[pair >> 4]! * scale;
      out[to + 2 * i + 1] = e2m1[pair & 15]! * scale;
    }
  },
};

/**
 * Multiplies a group by the regular Hadamard matrix of its size, over its root: the Kronecker power of a 4×4 matrix with
 * one −1 in each row. It is its own inverse.
 */
export function turnGroup(values: Float32Array, start: number, size: number): void {
  for (let step = 1; step < size; step *= 4) {
    for (let block = start; block < start + size; block += step * 4) {
      for (let i = block; i < block + step; i++) {
        const [a, b, c, d] = [values[i]!, values[i + step]!, values[i + 2 * step]!, values[i + 3 * step]!];
        values[i] = a + b + c - d;
        values[i + step] = a + b - c + d;
        values[i + 2 * step] = a - b + c + d;
        values[i + 3 * step] = -a + b + c + d;
      }
    }
  }
  const root = Math.sqrt(size);
  for (let i = start; i < start + size; i++) values[i]! /= root;
}

/** Integers that were turned in groups before they were rounded, a byte each. `size`: a power of four. */
export const turnedBytes = (size: number): BlockFormat => ({
  name: `int8 convrot ${size}`,
  elements: size,
  bytes: size,
  widen(bytes, at, out, to) {
    for (let i = 0; i < size; i++) out[to + i] = (bytes[at + i]! << 24) >> 24;
    turnGroup(out, to, size);
  },
});

/** The same in 4 bits: two in a byte, the first in the lower half. */
export const turnedNibbles = (size: number): BlockFormat => ({
  name: `int4 convrot ${size}`,
  elements: size,
  bytes: size / 2,
  widen(bytes, at, out, to) {
    for (let i = 0; i < size / 2; i++) {
      const pair = bytes[at + i]!;
      out[to + 2 * i] = (pair << 28) >> 28;
      out[to + 2 * i + 1] = (pair << 24) >> 28;
    }
    turnGroup(out, to, size);
  },
});
