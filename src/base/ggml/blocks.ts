// GGML's plain and K blocks, widened to float32 with the roundings of the reference: a scale times a code, minus a minimum.
// The layouts are data formats; the numbers behind each offset are bytes into a block. See types.ts.
import { f16Values } from "../float-formats.ts";

const { fround } = Math;
let halves: Float32Array | undefined;

/** The float16 at a byte. */
export function half(bytes: Uint8Array, at: number): number {
  halves ??= f16Values();
  return halves[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

export const signedByte = (bytes: Uint8Array, at: number): number => (bytes[at]! << 24) >> 24;

export function q4_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i]!;
    out[to + i] = d * ((pair & 15) - 8);
    out[to + 16 + i] = d * ((pair >> 4) - 8);
  }
}

export function q4_1(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const [d, m] = [half(bytes, at), half(bytes, at + 2)];
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 4 + i]!;
    out[to + i] = fround(d * (pair & 15)) + m;
    out[to + 16 + i] = fround(d * (pair >> 4)) + m;
  }
}

/** Two fives of bits: the low four from `codes`, the fifth from the bit field at `high`. */
function fives(bytes: Uint8Array, high: number, codes: number, write: (index: number, code: number) => void): void {
  for (let i = 0; i < 16; i++) {
    const pair = bytes[codes + i]!;
    const bit = (index: number): number => ((bytes[high + (index >> 3)]! >> (index & 7)) & 1) << 4;
    write(i, (pair & 15) | bit(i));
    write(i + 16, (pair >> 4) | bit(i + 16));
  }
}

export function q5_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  fives(bytes, at + 2, at + 6, (i, code) => {
    out[to + i] = d * (code - 16);
  });
}

export function q5_1(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const [d, m] = [half(bytes, at), half(bytes, at + 2)];
  fives(bytes, at + 4, at + 8, (i, code) => {
    out[to + i] = fround(d * code) + m;
  });
}

export function q8_0(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * signedByte(bytes, at + 2 + i);
}

/** As Q8_0, with the sum of its codes behind the scale. */
export function q8_1(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * signedByte(bytes, at + 4 + i);
}

export function q8K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getFloat32(0, true);
  for (let i = 0; i < 256; i++) out[to + i] = d * signedByte(bytes, at + 4 + i);
}

/** 16 scales and minima of 4 bits; codes of 2 bits, four planes of 32 in each half. */
export function q2K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const [d, min] = [half(bytes, at + 80), half(bytes, at + 82)];
  for (let group = 0; group < 16; group++) {
    const scale = bytes[at + group]!;
    const dl = fround(d * (scale & 15));
    const ml = fround(min * (scale >> 4));
    const codes = at + 16 + (group >> 3) * 32 + (group & 1) * 16;
    const shift = ((group >> 1) & 3) * 2;
    for (let i = 0; i < 16; i++) out[to + group * 16 + i] = fround(dl * ((bytes[codes + i]! >> shift) & 3)) - ml;
  }
}

/** 16 scales of 6 bits; codes of 2 bits and a third in a mask, whose absence takes 4 away. */
export function q3K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at + 108);
  for (let group = 0; group < 16; group++) {
    const low = (bytes[at + 96 + (group & 7)]! >> ((group >> 3) * 4)) & 15;
    const high = (bytes[at + 104 + (group & 3)]! >> ((group >> 2) * 2)) & 3;
    const dl = fround(d * ((low | (high << 4)) - 32));
    const codes = at + 32 + (group >> 3) * 32 + (group & 1) * 16;
    const shift = ((group >> 1) & 3) * 2;
    const mask = at + (group & 1) * 16;
    const bit = group >> 1;
    for (let i = 0; i < 16; i++) {
      const code = ((bytes[codes + i]! >> shift) & 3) - ((bytes[mask + i]! >> bit) & 1 ? 0 : 4);
      out[to + group * 16 + i] = dl * code;
    }
  }
}

/** The j-th of eight scales of 6 bits in the 12 bytes at `at`. */
const scale6 = (bytes: Uint8Array, at: number, j: number): number =>
  j < 4 ? bytes[at + j]! & 63 : (bytes[at + j + 4]! & 15) | ((bytes[at + j - 4]! >> 2) & 48);

/** The j-th of eight minima beside them. */
const min6 = (bytes: Uint8Array, at: number, j: number): number =>
  j < 4 ? bytes[at + j + 4]! & 63 : (bytes[at + j + 4]! >> 4) | ((bytes[at + j]! >> 2) & 48);

export function q4K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const [d, min] = [half(bytes, at), half(bytes, at + 2)];
  for (let j = 0; j < 8; j++) {
    const dl = fround(d * scale6(bytes, at + 4, j));
    const ml = fround(min * min6(bytes, at + 4, j));
    const codes = at + 16 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) out[to + j * 32 + i] = fround(dl * ((bytes[codes + i]! >> shift) & 15)) - ml;
  }
}

export function q5K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const [d, min] = [half(bytes, at), half(bytes, at + 2)];
  for (let j = 0; j < 8; j++) {
    const dl = fround(d * scale6(bytes, at + 4, j));
    const ml = fround(min * min6(bytes, at + 4, j));
    const codes = at + 48 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) {
      const code = ((bytes[codes + i]! >> shift) & 15) | (((bytes[at + 16 + i]! >> j) & 1) << 4);
      out[to + j * 32 + i] = fround(dl * code) - ml;
    }
  }
}

/** Codes of 6 bits: four in two nibble planes of 64, two in planes of 32; 16 scales of 8 bits. */
export function q6K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at + 208);
  for (let part = 0; part < 8; part++) {
    const side = part >> 2;
    const quarter = part & 3;
    const low = at + side * 64 + (quarter & 1) * 32;
    const high = at + 128 + side * 32;
    for (let i = 0; i < 32; i++) {
      const code = ((bytes[low + i]! >> ((quarter >> 1) * 4)) & 15) | (((bytes[high + i]! >> (quarter * 2)) & 3) << 4);
      const dl = fround(d * signedByte(bytes, at + 192 + part * 2 + (i >> 4)));
      out[to + part * 32 + i] = dl * (code - 32);
    }
  }
}
